//! Policies and bindings as they are stored, compiled. Pure.

use std::rc::Rc;

use api::cel::{Scope, Val};
use api::object;
use api::value::{get, has, list, text};
use serde_json::Value;

use crate::admission::dynamic::conditions::{Conditions, Expression};
use crate::admission::dynamic::rules::Matcher;

/// One rule of a policy that validates.
pub struct Validation {
    /// What must be true.
    pub condition: Expression,
    /// What is said when it is not.
    pub message: String,
    /// The same, computed.
    pub computed: Option<Expression>,
    /// The reason of the refusal.
    pub reason: String,
}

/// One change of a policy that mutates.
pub enum Mutation {
    /// An object that is applied.
    Apply(Expression),
    /// A JSON patch.
    Patch(Expression),
}

/// What a policy does.
pub enum Work {
    /// It refuses: its rules, and its audit annotations by key.
    Validate(Vec<Validation>, Vec<(String, Expression)>),
    /// It changes the object; whether again when others changed it afterwards.
    Mutate(Vec<Mutation>, bool),
}

/// A policy.
pub struct Policy {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub matcher: Matcher,
    /// And under which conditions.
    pub conditions: Conditions,
    /// Whether what cannot be evaluated lets the request pass.
    pub fails_open: bool,
    /// `apiVersion` and kind of its parameters.
    pub parameters: Option<(String, String)>,
    /// What it does.
    pub work: Work,
    variables: Vec<(String, Expression)>,
}

impl Policy {
    /// A ValidatingAdmissionPolicy.
    pub fn validating(policy: &Value) -> Self {
        let rules = list(policy, "spec.validations").iter().map(|rule| Validation {
            condition: Expression::new(text(rule, "expression")),
            message: text(rule, "message").trim().to_owned(),
            computed: Expression::optional(text(rule, "messageExpression")),
            reason: text(rule, "reason").to_owned(),
        });
        let notes = list(policy, "spec.auditAnnotations").iter();
        let notes = notes.map(|note| {
            let value = Expression::new(text(note, "valueExpression"));
            (text(note, "key").to_owned(), value)
        });
        Self::of(policy, Work::Validate(rules.collect(), notes.collect()))
    }

    /// A MutatingAdmissionPolicy.
    pub fn mutating(policy: &Value) -> Self {
        let changes = list(policy, "spec.mutations").iter().map(|change| {
            let expression = |path: &str| Expression::new(text(change, path));
            match text(change, "patchType") {
                "JSONPatch" => Mutation::Patch(expression("jsonPatch.expression")),
                _ => Mutation::Apply(expression("applyConfiguration.expression")),
            }
        });
        let again = text(policy, "spec.reinvocationPolicy") == "IfNeeded";
        Self::of(policy, Work::Mutate(changes.collect(), again))
    }

    fn of(policy: &Value, work: Work) -> Self {
        let spec = get(policy, "spec");
        let variables = list(spec, "variables").iter().map(|variable| {
            let value = Expression::new(text(variable, "expression"));
            (text(variable, "name").to_owned(), value)
        });
        let parameters = has(spec, "paramKind").then(|| {
            let part = |path: &str| text(spec, path).to_owned();
            (part("paramKind.apiVersion"), part("paramKind.kind"))
        });
        Self {
            name: object::name(policy).to_owned(),
            matcher: Matcher::of_resources(get(spec, "matchConstraints")),
            conditions: Conditions::of(spec),
            fails_open: text(spec, "failurePolicy") == "Ignore",
            parameters,
            variables: variables.collect(),
            work,
        }
    }

    /// The variables, the policy's own included. One that cannot be computed fails whoever looks at it.
    pub fn scope<'v>(&self, scope: Scope<'v>, left: &mut u64) -> Scope<'v> {
        let mut known: Vec<(Val<'v>, Val<'v>)> = Vec::new();
        for (name, value) in &self.variables {
            let before = Val::Map(Rc::new(known.clone()));
            let made = value.eval(&scope.clone().with("variables", before), left);
            let failed = |why: String| {
                Val::Failed(format!("composited variable {name:?} fails to evaluate: {why}").into())
            };
            known.push((Val::text(name), made.unwrap_or_else(failed)));
        }
        scope.with("variables", Val::Map(Rc::new(known)))
    }
}

/// Where a policy holds, and with which parameters.
pub struct Binding {
    /// Its name.
    pub name: String,
    /// The name of the policy.
    pub policy: String,
    /// What it is about, where that is less than the policy is about.
    pub matcher: Option<Matcher>,
    /// `paramRef`; null for none.
    pub parameters: Value,
    /// What becomes of a violation: `Deny`, `Warn`, `Audit`.
    pub actions: Vec<String>,
}

impl Binding {
    /// A binding of either sort.
    pub fn of(binding: &Value) -> Self {
        let resources = get(binding, "spec.matchResources");
        let actions = list(binding, "spec.validationActions").iter();
        Self {
            name: object::name(binding).to_owned(),
            policy: text(binding, "spec.policyName").to_owned(),
            matcher: resources.is_object().then(|| Matcher::of_resources(resources)),
            parameters: get(binding, "spec.paramRef").clone(),
            actions: actions.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }
}
