//! Printer columns.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::paths::{self, Step};
use crate::intern;
use crate::kind::{CellType, Column};
use crate::kinds::cells;
use crate::status::FieldError;
use crate::value::{Field, int, list, text};

const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some \
                    resources may allow a client to request the generation of an appropriate name automatically.";

/// A column, and where its cells come from.
pub struct PrinterColumn {
    column: Column,
    path: Option<Vec<Step>>,
    /// The definition's type of the column, such as `date`.
    of: &'static str,
}

/// The columns of a version: the name, then its own, or the age when it has none.
pub fn of(version: &Value) -> Vec<PrinterColumn> {
    let name = PrinterColumn {
        column: Column {
            description: NAME,
            ..Column::NAME
        },
        path: Some(vec![Step::Field("metadata".into()), Step::Field("name".into())]),
        of: "string",
    };
    let own = list(version, "additionalPrinterColumns");
    let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
        "description": "CreationTimestamp is a timestamp representing the server time when this object was created."});
    let own = if own.is_empty() {
        std::slice::from_ref(&age)
    } else {
        own
    };
    std::iter::once(name)
        .chain(own.iter().map(PrinterColumn::new))
        .collect()
}

impl PrinterColumn {
    fn new(said: &Value) -> Self {
        let cell = match text(said, "type") {
            "integer" => CellType::Integer,
            "number" => CellType::Number,
            "boolean" => CellType::Boolean,
            "date" => CellType::Date,
            _ => CellType::String,
        };
        Self {
            column: Column {
                name: intern::text(text(said, "name")),
                cell,
                format: intern::text(text(said, "format")),
                description: intern::text(text(said, "description")),
                priority: int(said, "priority")
                    .and_then(|n| i32::try_from(n).ok())
                    .unwrap_or(0),
            },
            path: paths::parse(text(said, "jsonPath")),
            of: intern::text(text(said, "type")),
        }
    }

    /// The column's heading and type.
    pub fn column(&self) -> Column {
        self.column
    }

    /// The cell of an object; null where there is nothing of that type.
    pub fn cell(&self, object: &Value, now: Timestamp) -> Value {
        // A path that nobody can read finds nothing.
        let path = self.path.as_deref();
        let found = path.map(|path| paths::find(object, path)).unwrap_or_default();
        let Some(first) = found.first().filter(|first| !first.is_null()) else {
            return Value::Null;
        };
        match self.of {
            "integer" => match first.as_i64() {
                Some(n) => json!(n),
                None => first.as_f64().map_or(Value::Null, |n| json!(n as i64)),
            },
            "number" => first.as_f64().map_or(Value::Null, |n| json!(n)),
            "boolean" => first.as_bool().map_or(Value::Null, Value::from),
            "date" => match first.as_str() {
                Some(time) if time.parse::<Timestamp>().is_ok() => json!(cells::since(time, now)),
                _ => json!("<invalid>"),
            },
            _ => json!(paths::shown(first)),
        }
    }
}

/// What is wrong with a column of a definition.
pub fn validate(column: &Field, errors: &mut Vec<FieldError>) {
    column.get("name").needed(errors);
    let kind = column.get("type");
    if kind.is_blank() {
        errors.push(kind.required("must be one of boolean,date,integer,number,string"));
    } else if !["boolean", "date", "integer", "number", "string"].contains(&kind.text()) {
        errors.push(kind.invalid("must be one of boolean,date,integer,number,string"));
    }
    let formats = [
        "binary",
        "byte",
        "date",
        "date-time",
        "double",
        "float",
        "int32",
        "int64",
        "password",
    ];
    let format = column.get("format");
    if !format.is_blank() && !formats.contains(&format.text()) {
        errors.push(format.invalid(format!("must be one of {}", formats.join(","))));
    }
    // The path of the error is that of Kubernetes' internal form.
    let path = Field::new(column.get("jsonPath").value, column.path_of("JSONPath"));
    if path.needed(errors)
        && let Some(why) = paths::simple(path.text())
    {
        errors.push(path.invalid(why));
    }
}
