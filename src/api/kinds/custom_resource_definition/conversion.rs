//! Rules for how objects become those of another version.

use crate::kinds::admission::webhooks;
use crate::names;
use crate::status::FieldError;
use crate::value::Field;

const NOT_WEBHOOK: &str = "should not be set when strategy is not set to Webhook";

/// Rules for a definition's `conversion`; the paths are those of Kubernetes' internal form.
pub fn check(conversion: &Field, errors: &mut Vec<FieldError>) {
    let (strategy, webhook) = (conversion.get("strategy"), conversion.get("webhook"));
    let field = |key: &str, shown: &str| Field::new(webhook.get(key).value, conversion.path_of(shown));
    let client = field("clientConfig", "webhookClientConfig");
    let versions = field("conversionReviewVersions", "conversionReviewVersions");
    if strategy.needed(errors) {
        strategy.one_of(&["None", "Webhook"], errors);
    }
    if strategy.text() != "Webhook" {
        if client.is_set() {
            errors.push(client.forbidden(NOT_WEBHOOK));
        }
        if !versions.is_blank() {
            errors.push(versions.forbidden(NOT_WEBHOOK));
        }
        return;
    }
    if client.is_set() {
        webhooks::client(&client, errors);
    } else {
        errors.push(client.required("required when strategy is set to Webhook"));
    }
    review_versions(&versions, errors);
}

fn review_versions(versions: &Field, errors: &mut Vec<FieldError>) {
    if versions.is_blank() {
        errors.push(versions.required(""));
        return;
    }
    let all: Vec<&str> = versions
        .value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|version| version.as_str())
        .collect();
    for (place, version) in all.iter().enumerate() {
        let path = format!("{}[{place}]", versions.path);
        if all.iter().take(place).any(|before| before == version) {
            errors.push(FieldError::invalid(path, *version, "duplicate version"));
            continue;
        }
        for why in names::is_dns1035_label(version) {
            errors.push(FieldError::invalid(&path, *version, why));
        }
    }
    if !all.contains(&"v1") && !all.contains(&"v1beta1") {
        errors.push(versions.invalid("must include at least one of v1, v1beta1"));
    }
}
