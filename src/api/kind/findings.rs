//! What is found when an object is looked over.

use crate::status::FieldError;

/// What the rules of a kind say of an object.
#[derive(Debug, Default)]
pub struct Findings {
    /// Why it is refused, if there is anything.
    pub errors: Vec<FieldError>,
    /// What whoever wrote it should know.
    pub warnings: Vec<String>,
}

impl Findings {
    /// What is wrong with an object; if that is nothing, what is to be known of it.
    pub fn of(errors: Vec<FieldError>, warnings: impl FnOnce() -> Vec<String>) -> Self {
        let warnings = if errors.is_empty() { warnings() } else { Vec::new() };
        Self { errors, warnings }
    }
}
