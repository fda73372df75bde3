//! ValidatingWebhookConfiguration and MutatingWebhookConfiguration: who else is asked about a write.

use serde_json::{Value, json};

use super::rules;
use crate::kind::{Column, Kind};
use crate::kinds::{cells, metadata};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, each, fill, fill_number, get, get_mut, list, same};

/// The versions of AdmissionReview that are spoken.
const REVIEWS: &[&str] = &["v1", "v1beta1"];

/// `ValidatingWebhookConfiguration`.
pub static VALIDATING: Kind = Kind {
    kind: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
    singular: "validatingwebhookconfiguration",
    storage_version_hash: "B0wHjQmsGNk=",
    default: |configuration| each(configuration, "webhooks", default),
    ..BASE
};

/// `MutatingWebhookConfiguration`.
pub static MUTATING: Kind = Kind {
    kind: "MutatingWebhookConfiguration",
    plural: "mutatingwebhookconfigurations",
    singular: "mutatingwebhookconfiguration",
    storage_version_hash: "Sqi0GUgDaX0=",
    default: |configuration| {
        each(configuration, "webhooks", |hook| {
            default(hook);
            fill(hook, "reinvocationPolicy", "Never");
        });
    },
    ..BASE
};

const BASE: Kind = Kind {
    group: "admissionregistration.k8s.io",
    categories: &["api-extensions"],
    unconditional_update: false,
    prepare_create: |configuration| metadata::set_generation(configuration, 1),
    prepare_update: |new, old| {
        let changed = !same(get(new, "webhooks"), get(old, "webhooks"));
        metadata::bump_generation(new, old, changed);
    },
    validate,
    validate_update: |new, _| validate(new),
    columns: &[Column::NAME, Column::integer("Webhooks"), Column::AGE],
    row: |configuration, now| {
        let count = list(configuration, "webhooks").len();
        vec![
            cells::name(configuration),
            json!(count),
            cells::age(configuration, now),
        ]
    },
    ..Kind::CLUSTER
};

fn default(hook: &mut Value) {
    fill(hook, "failurePolicy", "Fail");
    rules::default_match(hook, &["rules"]);
    fill(hook, "timeoutSeconds", 10);
    if let Some(service) = get_mut(hook, "clientConfig.service") {
        fill_number(service, "port", 443);
    }
}

fn validate(configuration: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let root = Field::new(configuration, "");
    for hook in root.items("webhooks") {
        self::hook(&hook, &mut errors);
    }
    root.unique("webhooks", "name", &mut errors);
    errors
}

fn hook(hook: &Field, errors: &mut Vec<FieldError>) {
    let name = hook.get("name");
    if name.needed(errors) {
        errors.extend(name.invalid_each(names::is_dns_subdomain(name.text())));
        if name.text().split('.').count() < 3 {
            errors.push(name.invalid("should be a domain with at least three segments separated by dots"));
        }
    }
    for rule in hook.items("rules") {
        rules::rule(&rule, errors);
    }
    hook.get("failurePolicy")
        .one_of_if_set(&["Fail", "Ignore"], errors);
    rules::selectors(hook, errors);
    let effects = hook.get("sideEffects");
    if !effects.is_set() {
        errors.push(effects.required("must specify one of None, NoneOnDryRun"));
    }
    effects.one_of_if_set(&["None", "NoneOnDryRun"], errors);
    let seconds = hook.get("timeoutSeconds");
    if seconds.int().is_some_and(|n| !(1..=30).contains(&n)) {
        errors.push(seconds.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    hook.get("reinvocationPolicy")
        .one_of_if_set(&["IfNeeded", "Never"], errors);
    client(&hook.get("clientConfig"), errors);
    let known = ["object", "oldObject", "request", "authorizer"];
    rules::conditions(hook, &known, errors);
    reviews(hook, errors);
}

/// Rules for where a webhook is: a URL or a Service, never both.
pub fn client(client: &Field, errors: &mut Vec<FieldError>) {
    let (url, service) = (client.get("url"), client.get("service"));
    match (url.is_set(), service.is_set()) {
        (true, false) => self::url(&url, errors),
        (false, true) => self::service(&service, errors),
        _ => errors.push(client.required("exactly one of url or service is required")),
    }
}

fn url(url: &Field, errors: &mut Vec<FieldError>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.text().split_once("://").unwrap_or(("", url.text()));
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    // Each error shows the part that it is about.
    let mut invalid = |part: &str, why: String| errors.push(FieldError::invalid(&url.path, part, why));
    if scheme != "https" {
        invalid(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() || scheme.is_empty() {
        invalid("", format!("host must be specified{FORM}"));
    }
    if authority.contains('@') {
        invalid(user, "user information is not permitted in the URL".to_owned());
    }
    if !fragment.is_empty() {
        invalid(fragment, "fragments are not permitted in the URL".to_owned());
    }
    if !query.is_empty() {
        invalid(query, "query parameters are not permitted in the URL".to_owned());
    }
}

fn service(service: &Field, errors: &mut Vec<FieldError>) {
    for (key, why) in [
        ("name", "service name is required"),
        ("namespace", "service namespace is required"),
    ] {
        if service.get(key).is_blank() {
            errors.push(service.get(key).required(why));
        }
    }
    let port = service.get("port");
    if let Some(number) = port.int() {
        for why in names::is_port_number(number) {
            errors.push(port.invalid(format!("port is not valid: {why}")));
        }
    }
    let path = service.get("path");
    let segments = path.text().strip_prefix('/');
    match segments {
        None if path.is_blank() => {}
        None => errors.push(path.invalid("must start with a '/'")),
        Some("") => {}
        Some(rest) => {
            let rest = rest.strip_suffix('/').unwrap_or(rest);
            for (place, segment) in rest.split('/').enumerate() {
                if segment.is_empty() {
                    errors.push(path.invalid(format!("segment[{place}] may not be empty")));
                } else if !names::is_dns_subdomain(segment).is_empty() {
                    let why = names::is_dns_subdomain(segment).join("; ");
                    errors.push(path.invalid(format!("segment[{place}]: {why}")));
                }
            }
        }
    }
}

/// Rules for `admissionReviewVersions`.
fn reviews(hook: &Field, errors: &mut Vec<FieldError>) {
    let versions = hook.get("admissionReviewVersions");
    if versions.is_blank() {
        errors.push(versions.required("must specify one of v1, v1beta1"));
        return;
    }
    let mut seen: Vec<&str> = Vec::new();
    for version in hook.items("admissionReviewVersions") {
        if seen.contains(&version.text()) {
            errors.push(version.invalid("duplicate version"));
            continue;
        }
        seen.push(version.text());
        errors.extend(version.invalid_each(names::is_dns1035_label(version.text())));
    }
    if !seen.iter().any(|version| REVIEWS.contains(version)) {
        errors.push(versions.invalid("must include at least one of v1, v1beta1"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_says_where_it_is_and_what_it_does() {
        let mut good = json!({"webhooks": [{"name": "a.b.c", "clientConfig": {"url": "https://h/p"},
            "sideEffects": "None", "admissionReviewVersions": ["v1"]}]});
        (VALIDATING.default)(&mut good);
        assert!(validate(&good).is_empty());
        assert_eq!(good["webhooks"][0]["timeoutSeconds"], 10);
        let mut bad = good.clone();
        bad["webhooks"][0]["clientConfig"] = json!({});
        bad["webhooks"][0]["sideEffects"] = json!("Some");
        bad["webhooks"][0]["name"] = json!("a.b");
        let said: Vec<String> = validate(&bad).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
                "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required"
            ]
        );
    }
}
