//! What an annotation that a field has replaced is answered with.

use crate::value::Field;

pub const SECCOMP_INSTEAD: &str = r#"non-functional in v1.27+; use the "seccompProfile" field instead"#;

/// An annotation of the template that nobody looks at.
pub fn annotation(template: &Field, key: &str, instead: &str, said: &mut Vec<String>) {
    let annotations = template.get("metadata.annotations");
    if annotations.value.get(key).is_some() {
        said.push(format!("{}[{key}]: {instead}", annotations.path));
    }
}
