//! Expressions that are compiled once and asked often, and `matchConditions` made of them.

use api::cel::{Budget, Program, Scope, Val};
use api::go;
use api::typecheck::VARIABLES;
use api::value::{list, text};
use serde_json::Value;

/// What one expression may cost (apiserver `cel/config`, as the other two).
const CALL_COST_MAX: u64 = 1_000_000;
/// What all expressions of a policy may cost together.
pub const TOTAL_COST_MAX: u64 = 10_000_000;
/// What all match conditions may cost together.
const CONDITIONS_COST_MAX: u64 = TOTAL_COST_MAX / 4;

/// An expression, and what became of it.
pub struct Expression {
    /// As written, without the space around it.
    pub source: String,
    program: Result<Program, String>,
}

impl Expression {
    /// Compiles a text. What does not compile fails when it is asked, and was refused when it was stored.
    pub fn new(source: &str) -> Self {
        Self {
            source: source.trim().to_owned(),
            program: Program::compile(source, &VARIABLES),
        }
    }

    /// One that may be left out.
    pub fn optional(source: &str) -> Option<Self> {
        (!source.trim().is_empty()).then(|| Self::new(source))
    }

    /// Whether it looks at that variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.program.as_ref().is_ok_and(|program| program.uses(variable))
    }

    /// Its value, and less to spend.
    ///
    /// # Errors
    /// In Kubernetes' words.
    pub fn eval<'v>(&self, scope: &Scope<'v>, left: &mut u64) -> Result<Val<'v>, String> {
        let program = self.program.as_ref();
        let program = program.map_err(|why| format!("compilation error: compilation failed: {why}"))?;
        let granted = CALL_COST_MAX.min(*left);
        let mut budget = Budget::new(granted);
        let made = program.eval(scope, &mut budget);
        *left = left.saturating_sub(granted - budget.left());
        if *left == 0 && made.is_err() {
            return Err(
                "validation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned(),
            );
        }
        made.map_err(|why| format!("expression '{}' resulted in error: {why}", self.source))
    }
}

/// `matchConditions`: all must hold.
pub struct Conditions(Vec<Expression>);

impl Conditions {
    /// Those of a webhook or policy.
    pub fn of(holder: &Value) -> Self {
        let conditions = list(holder, "matchConditions").iter();
        Self(
            conditions
                .map(|c| Expression::new(text(c, "expression")))
                .collect(),
        )
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether they hold: one that does not decides, whatever went wrong with others.
    ///
    /// # Errors
    /// When none says no and some cannot be answered.
    pub fn hold(&self, scope: &Scope<'_>) -> Result<bool, String> {
        let (mut left, mut errors) = (CONDITIONS_COST_MAX, Vec::new());
        for condition in &self.0 {
            match condition.eval(scope, &mut left) {
                Ok(Val::Bool(true)) => {}
                Ok(Val::Bool(false)) => return Ok(false),
                Ok(_) => errors.push(format!("expression '{}' is no condition", condition.source)),
                Err(why) => errors.push(why),
            }
        }
        match errors.is_empty() {
            true => Ok(true),
            false => Err(go::aggregate(&errors)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_condition_that_says_no_decides() {
        let object = json!({"a": 1});
        let scope = Scope::new().with("object", Val::json(&object, None));
        let of = |sources: &[&str]| {
            let items: Vec<Value> = sources
                .iter()
                .map(|s| json!({"name": "n", "expression": s}))
                .collect();
            Conditions::of(&json!({"matchConditions": items})).hold(&scope)
        };
        assert_eq!(of(&[]), Ok(true));
        assert_eq!(of(&["object.a == 1"]), Ok(true));
        assert_eq!(of(&["object.b == 1", "object.a == 2"]), Ok(false));
        assert_eq!(
            of(&["object.b == 1", "object.a == 1"]),
            Err("expression 'object.b == 1' resulted in error: no such key: b".to_owned())
        );
    }
}
