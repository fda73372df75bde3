//! ResourceQuota: how much a namespace may use in all.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells;
use crate::kind::{Column, Kind, Subresource};
use crate::names;
use crate::quantity::Quantity;
use crate::status::FieldError;
use crate::value::{Field, entries, get};

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short_names: &["quota"],
    subresources: &[Subresource::status("ResourceQuota")],
    storage_version_hash: "8uhSgffRX6w=",
    prepare_create: |quota| crate::value::remove(quota, "status"),
    prepare_update: |new, old| crate::value::keep(new, old, "status"),
    validate,
    validate_update: |new, old| {
        let mut errors = validate(new);
        Field::at(new, "spec.scopes").immutable(old, &mut errors);
        errors
    },
    columns: &[
        Column::NAME,
        Column::text("Request"),
        Column::text("Limit"),
        Column::AGE,
    ],
    row,
    ..Kind::WITH_STATUS
};

fn validate(quota: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, amount) in Field::at(quota, "spec").entries("hard") {
        errors.extend(amount.invalid_each(names::is_qualified_name(name)));
        match Quantity::from_json(amount.value) {
            Ok(q) if q.is_negative() => errors.push(amount.invalid("must be greater than or equal to 0")),
            Ok(_) => {}
            Err(why) => errors.push(amount.invalid(why.to_string())),
        }
    }
    errors
}

fn row(quota: &Value, now: Timestamp) -> Vec<Value> {
    let shown = |limits: bool| {
        let all = entries(quota, "status.hard").filter(|(name, _)| name.starts_with("limits.") == limits);
        let amount = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        let zero = json!("0");
        all.map(|(name, hard)| {
            let used = get(quota, "status.used").get(name).unwrap_or(&zero);
            format!("{name}: {}/{}", amount(used), amount(hard))
        })
        .collect::<Vec<_>>()
        .join(", ")
    };
    vec![
        cells::name(quota),
        json!(shown(false)),
        json!(shown(true)),
        cells::age(quota, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_kubectl() {
        let quota = json!({"status": {"hard": {"pods": "5", "limits.cpu": "2"}, "used": {"pods": "1"}}});
        assert_eq!(
            row(&quota, Timestamp::UNIX_EPOCH)[1..3],
            ["pods: 1/5", "limits.cpu: 0/2"]
        );
    }
}
