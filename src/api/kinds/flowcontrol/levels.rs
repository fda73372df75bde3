//! PriorityLevelConfiguration: how many requests of a level run at once, and how many wait.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kind::{Column, Kind, Subresource};
use crate::kinds::cells;
use crate::status::FieldError;
use crate::value::{Field, fill, fill_number, get, get_mut, text};

/// Most queues of a level.
const QUEUES_MAX: i64 = 10_000_000;
/// Bits of the hash that deals hands of queues.
const HASH_BITS: u32 = 60;

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "PriorityLevelConfiguration",
    plural: "prioritylevelconfigurations",
    singular: "prioritylevelconfiguration",
    subresources: &[Subresource::status("PriorityLevelConfiguration")],
    storage_version_hash: "Kir5PVfvNeI=",
    default,
    validate,
    validate_update: |new, _| validate(new),
    columns: &[
        Column::NAME,
        Column::text("Type"),
        Column::text("NominalConcurrencyShares"),
        Column::text("Queues"),
        Column::text("HandSize"),
        Column::text("QueueLengthLimit"),
        Column::AGE,
    ],
    row,
    ..super::BASE
};

fn default(level: &mut Value) {
    if let Some(exempt) = get_mut(level, "spec.exempt") {
        fill(exempt, "nominalConcurrencyShares", 0);
        fill(exempt, "lendablePercent", 0);
    }
    let Some(limited) = get_mut(level, "spec.limited") else {
        return;
    };
    fill(limited, "nominalConcurrencyShares", 30);
    fill(limited, "lendablePercent", 0);
    if let Some(queuing) = get_mut(limited, "limitResponse.queuing") {
        fill_number(queuing, "handSize", 8);
        fill_number(queuing, "queues", 64);
        fill_number(queuing, "queueLengthLimit", 50);
    }
}

fn validate(level: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(level, "spec");
    let kind = spec.get("type");
    if (text(level, "metadata.name") == "exempt") != (kind.text() == "Exempt") {
        errors.push(kind.invalid("type must be 'Exempt' if and only if name is 'exempt'"));
    }
    let (limited, exempt) = (spec.get("limited"), spec.get("exempt"));
    match kind.text() {
        "Exempt" => {
            if limited.is_set() {
                errors.push(limited.forbidden("must be nil if the type is not Limited"));
            }
            shares(&exempt, &mut errors);
        }
        "Limited" => {
            if exempt.is_set() {
                errors.push(exempt.forbidden("must be nil if the type is Limited"));
            }
            if limited.is_set() {
                self::limited(&limited, &mut errors);
            } else {
                errors.push(limited.required("must not be empty when type is Limited"));
            }
        }
        _ => errors.push(kind.not_supported(&["Exempt", "Limited"])),
    }
    super::conditions(&Field::at(level, "status"), &mut errors);
    errors
}

fn shares(part: &Field, errors: &mut Vec<FieldError>) {
    let shares = part.get("nominalConcurrencyShares");
    if shares.int().is_some_and(|n| n < 0) {
        errors.push(shares.invalid("must be a non-negative integer"));
    }
    let lendable = part.get("lendablePercent");
    if lendable.int().is_some_and(|n| !(0..=100).contains(&n)) {
        errors.push(lendable.invalid("must be between 0 and 100, inclusive"));
    }
}

fn limited(limited: &Field, errors: &mut Vec<FieldError>) {
    shares(limited, errors);
    let borrowing = limited.get("borrowingLimitPercent");
    if borrowing.int().is_some_and(|n| n < 0) {
        errors.push(borrowing.invalid("if specified, must be a non-negative integer"));
    }
    let response = limited.get("limitResponse");
    let queuing = response.get("queuing");
    match response.get("type").text() {
        "Reject" if queuing.is_set() => {
            errors.push(queuing.forbidden("must be nil if limited.limitResponse.type is not Limited"));
        }
        "Reject" => {}
        "Queue" if !queuing.is_set() => {
            errors.push(queuing.required("must not be empty if limited.limitResponse.type is Limited"));
        }
        "Queue" => self::queuing(&queuing, errors),
        _ => errors.push(response.get("type").not_supported(&["Queue", "Reject"])),
    }
}

fn queuing(queuing: &Field, errors: &mut Vec<FieldError>) {
    let number = |key: &str| queuing.get(key).int().unwrap_or(0);
    for key in ["queueLengthLimit", "queues"] {
        if number(key) <= 0 {
            errors.push(queuing.get(key).invalid("must be positive"));
        }
    }
    let (queues, hand) = (number("queues"), number("handSize"));
    if queues > QUEUES_MAX {
        errors.push(
            queuing
                .get("queues")
                .invalid(format!("must not be greater than {QUEUES_MAX}")),
        );
    }
    let bits = entropy(queues, hand);
    let wrong = match hand {
        n if n <= 0 => "must be positive".to_owned(),
        n if n > queues => format!("should not be greater than queues ({queues})"),
        _ if bits > HASH_BITS => format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        ),
        _ => return,
    };
    errors.push(queuing.get("handSize").invalid(wrong));
}

/// Bits that it takes to deal such a hand.
fn entropy(queues: i64, hand: i64) -> u32 {
    let cards = (0..hand.clamp(0, 64)).map(|dealt| ((queues - dealt).max(1) as f64).log2());
    cards.sum::<f64>().ceil() as u32
}

fn row(level: &Value, now: Timestamp) -> Vec<Value> {
    let number = |path: &str| match get(level, path) {
        Value::Null => json!("<none>"),
        n => json!(n.to_string()),
    };
    let shares = match text(level, "spec.type") {
        "Exempt" => "spec.exempt.nominalConcurrencyShares",
        _ => "spec.limited.nominalConcurrencyShares",
    };
    vec![
        cells::name(level),
        json!(text(level, "spec.type")),
        number(shares),
        number("spec.limited.limitResponse.queuing.queues"),
        number("spec.limited.limitResponse.queuing.handSize"),
        number("spec.limited.limitResponse.queuing.queueLengthLimit"),
        cells::age(level, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_fit_the_deck_and_the_hash() {
        let mut level = json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}});
        default(&mut level);
        assert!(validate(&level).is_empty());
        level["spec"]["limited"]["limitResponse"]["queuing"]["handSize"] = json!(65);
        assert_eq!(
            validate(&level)[0].to_string(),
            "spec.limited.limitResponse.queuing.handSize: Invalid value: 65: should not be greater than queues (64)"
        );
        level["spec"]["limited"]["limitResponse"]["queuing"]["handSize"] = json!(12);
        assert!(validate(&level)[0].to_string().contains("required entropy bits"));
    }
}
