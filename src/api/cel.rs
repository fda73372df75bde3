//! CEL, the Common Expression Language, as Kubernetes has it: in custom kinds' validation rules, admission
//! policies, match conditions and device selectors.
//!
//! ```text
//! text ─ lex ─▶ tokens ─ parse ─▶ Expr ─ check, infer ─▶ Program ─ eval (variables, budget) ─▶ Val
//! ```
//!
//! Expressions come from users, so each step is bounded: the depth of nesting when parsing, the cost of
//! what is done when evaluating. Values of the object under review are looked into in place, along their
//! schema; nothing is copied that is not computed.

mod authority;
mod authorizer;
mod budget;
mod check;
mod error;
mod estimate;
mod eval;
mod expr;
mod formats;
mod functions;
mod infer;
mod json;
mod lex;
mod library;
mod lists;
mod macros;
mod names;
mod operators;
mod ops;
mod parse;
mod semver;
mod signatures;
mod strings;
mod types;
mod val;

use expr::Expr;
use names::is_reserved;

pub use authority::{Answer, Authority, Permissions, Question};
pub use budget::{Budget, EXCEEDED};
pub use estimate::Cost;
pub use eval::Scope;
pub use infer::Judged;
pub use json::to_json;
pub use semver::Semver;
pub use strings::pattern as strings_pattern;
pub use types::{Type, most_in_a_request};
pub use val::Val;

/// Longest expression that is looked at, bytes.
pub const EXPRESSION_MAX: usize = 64 * 1024;

/// An expression, ready to be evaluated any number of times.
#[derive(Debug)]
pub struct Program {
    root: Expr,
}

impl Program {
    /// Parses an expression whose free names may only be `variables`.
    ///
    /// # Errors
    /// cel-go's text, the place included.
    pub fn compile(source: &str, variables: &[&str]) -> Result<Self, String> {
        if source.len() > EXPRESSION_MAX {
            return Err(format!("expression is longer than {EXPRESSION_MAX} bytes"));
        }
        let parsed = parse::parse(source).map_err(|error| error.shown(source))?;
        check::names(&parsed, variables).map_err(|error| error.shown(source))?;
        Ok(Self { root: parsed })
    }

    /// Evaluates it.
    ///
    /// # Errors
    /// cel-go's text of what could not be computed.
    pub fn eval<'a>(&self, scope: &Scope<'a>, budget: &mut Budget) -> Result<Val<'a>, String> {
        eval::run(&self.root, scope, budget)
    }

    /// Whether it names that variable, such as `oldSelf`.
    pub fn uses(&self, variable: &str) -> bool {
        check::uses(&self.root, variable)
    }

    /// What it must be and the most that it can cost, with these names in scope; other names may be anything.
    ///
    /// # Errors
    /// cel-go's text of the first part that cannot be right, the place included.
    pub fn judge<'s>(&self, source: &str, names: &[(&str, Type<'s>)]) -> Result<Judged<'s>, String> {
        infer::judge(&self.root, &names.to_vec()).map_err(|error| error.shown(source))
    }
}

/// Whether an expression compiles, with those free names.
///
/// # Errors
/// cel-go's text, the place included.
pub fn check(source: &str, variables: &[&str]) -> Result<(), String> {
    Program::compile(source, variables).map(drop)
}

/// The schema of a member: of the property of that name, or of every one.
pub fn member_schema<'v>(schema: &'v serde_json::Value, name: &str) -> Option<&'v serde_json::Value> {
    names::member(Some(schema), name)
}

/// Whether a text can be the name of a variable.
pub fn is_identifier(text: &str) -> bool {
    let mut letters = text.bytes();
    letters
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && letters.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !is_reserved(text)
}

#[cfg(test)]
mod tests;
