//! Paths that lead out of where they begin are refused.

use crate::status::FieldError;
use crate::value::Field;

/// No part of a path may lead up.
pub fn no_backsteps(path: &Field, errors: &mut Vec<FieldError>) {
    if path.text().split('/').any(|part| part == "..") {
        errors.push(path.invalid("must not contain '..'"));
    }
}

/// A path that leads nowhere but down.
pub fn descending_path(path: &Field, errors: &mut Vec<FieldError>) {
    if path.text().starts_with('/') {
        errors.push(path.invalid("must be a relative path"));
    }
    no_backsteps(path, errors);
}
