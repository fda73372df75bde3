//! What is wrong with a field (apimachinery `util/validation/field`).

use serde_json::Value;

/// What is wrong with a field (apimachinery `util/validation/field`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// The value is absent.
    Required,
    /// The value is malformed or not allowed to change.
    Invalid,
    /// The value is not one of a fixed set.
    NotSupported,
    /// The value repeats another one.
    Duplicate,
    /// The value may not be set here.
    Forbidden,
    /// What the value names does not exist.
    NotFound,
    /// The value has too many characters or bytes.
    TooLong,
    /// The list has too many items.
    TooMany,
    /// The value has the wrong JSON type.
    TypeInvalid,
    /// Something broke on our side.
    Internal,
}

/// One validation failure of one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// Path of the field, such as `spec.containers[0].name`.
    pub path: String,
    /// The value at fault, where the text shows it.
    pub value: Option<Value>,
    /// The rest of the text.
    pub detail: String,
}

impl FieldError {
    /// A value that is malformed.
    pub fn invalid(path: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self {
            kind: FieldErrorKind::Invalid,
            path: path.into(),
            value: Some(value.into()),
            detail: detail.into(),
        }
    }

    /// A value that is absent but must not be.
    pub fn required(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            kind: FieldErrorKind::Required,
            path: path.into(),
            value: None,
            detail: detail.into(),
        }
    }

    /// A value that is not one of `supported`.
    pub fn not_supported(path: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let list = supported
            .iter()
            .map(|s| format!("{s:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        Self {
            kind: FieldErrorKind::NotSupported,
            path: path.into(),
            value: Some(value.into()),
            detail: if list.is_empty() {
                String::new()
            } else {
                format!("supported values: {list}")
            },
        }
    }

    /// A value that repeats another.
    pub fn duplicate(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            kind: FieldErrorKind::Duplicate,
            path: path.into(),
            value: Some(value.into()),
            detail: String::new(),
        }
    }

    /// A value that may not be set here.
    pub fn forbidden(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            kind: FieldErrorKind::Forbidden,
            path: path.into(),
            value: None,
            detail: detail.into(),
        }
    }

    /// A value that names something that does not exist.
    pub fn not_found(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            kind: FieldErrorKind::NotFound,
            path: path.into(),
            value: Some(value.into()),
            detail: String::new(),
        }
    }

    /// A value of more than `max` bytes.
    pub fn too_long(path: impl Into<String>, max: usize) -> Self {
        Self {
            kind: FieldErrorKind::TooLong,
            path: path.into(),
            value: None,
            detail: format!("may not be more than {max} bytes"),
        }
    }

    /// The reason string of the [`Cause`](super::Cause) this becomes.
    pub fn reason(&self) -> &'static str {
        match self.kind {
            FieldErrorKind::Required => "FieldValueRequired",
            FieldErrorKind::Invalid => "FieldValueInvalid",
            FieldErrorKind::NotSupported => "FieldValueNotSupported",
            FieldErrorKind::Duplicate => "FieldValueDuplicate",
            FieldErrorKind::Forbidden => "FieldValueForbidden",
            FieldErrorKind::NotFound => "FieldValueNotFound",
            FieldErrorKind::TooLong => "FieldValueTooLong",
            FieldErrorKind::TooMany => "FieldValueTooMany",
            FieldErrorKind::TypeInvalid => "FieldValueTypeInvalid",
            FieldErrorKind::Internal => "InternalError",
        }
    }

    /// The text without the path, as a [`Cause`](super::Cause) carries it.
    pub fn body(&self) -> String {
        let head = match self.kind {
            FieldErrorKind::Required => "Required value",
            FieldErrorKind::Invalid => "Invalid value",
            FieldErrorKind::NotSupported => "Unsupported value",
            FieldErrorKind::Duplicate => "Duplicate value",
            FieldErrorKind::Forbidden => "Forbidden",
            FieldErrorKind::NotFound => "Not found",
            FieldErrorKind::TooLong => "Too long",
            FieldErrorKind::TooMany => "Too many",
            FieldErrorKind::TypeInvalid => "Invalid value",
            FieldErrorKind::Internal => "Internal error",
        };
        let mut text = head.to_owned();
        if let Some(value) = &self.value {
            text.push_str(": ");
            text.push_str(&value.to_string());
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}
