//! CustomResourceDefinition: a kind that the cluster's users bring along.

use serde_json::{Value, json};

use super::{admission::webhooks, cells, metadata};
use crate::custom;
use crate::custom::approval::{self, Approval};
use crate::kind::{Kind, Subresource};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, fill, fill_number, fill_text, get_mut, keep, list, object_mut, set, text};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: custom::GROUP,
    kind: "CustomResourceDefinition",
    plural: custom::PLURAL,
    singular: "customresourcedefinition",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    subresources: &[Subresource::status("CustomResourceDefinition")],
    unconditional_update: false,
    storage_version_hash: "jfWCUB31mvA=",
    reset_fields: &["status"],
    reset_fields_status: &["spec"],
    default,
    prepare_create: |definition| {
        let status = custom::new_status(definition);
        set(definition, "status", status);
        metadata::set_generation(definition, 1);
    },
    prepare_update: |new, old| {
        keep(new, old, "status");
        metadata::bump_generation_on_spec(new, old);
        remember_storage(new);
    },
    prepare_status: |new, old| {
        keep(new, old, "spec");
        keep(new, old, "metadata.generation");
    },
    validate,
    validate_update,
    validate_status: |new, _| stored_versions(new),
    row: cells::name_and_creation,
    deletion_finalizer: custom::FINALIZER,
    ..Kind::CLUSTER
};

fn default(definition: &mut Value) {
    if let Some(names) = get_mut(definition, "spec.names") {
        let kind = text(names, "kind").to_owned();
        fill_text(names, "singular", &kind.to_lowercase());
        if !kind.is_empty() {
            fill_text(names, "listKind", &format!("{kind}List"));
        }
    }
    if let Some(spec) = get_mut(definition, "spec") {
        fill(spec, "conversion", json!({"strategy": "None"}));
        if let Some(service) = get_mut(spec, "conversion.webhook.clientConfig.service") {
            fill_number(service, "port", 443);
        }
    }
}

/// Every version in which objects were ever kept is written down.
fn remember_storage(definition: &mut Value) {
    let now = custom::storage_version(definition).to_owned();
    let known = list(definition, "status.storedVersions");
    if known.iter().any(|version| *version == json!(now)) {
        return;
    }
    let mut all = known.to_vec();
    all.push(now.into());
    if let Some(status) = object_mut(definition, "status") {
        status.insert("storedVersions".to_owned(), all.into());
    }
}

fn validate(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(definition, "spec");
    let (group, plural) = (spec.get("group"), spec.get("names.plural"));
    let name = Field::at(definition, "metadata.name");
    if !name.is_blank() && name.text() != format!("{}.{}", plural.text(), group.text()) {
        errors.push(name.invalid("must be spec.names.plural+\".\"+spec.group"));
    }
    if group.needed(&mut errors) {
        let wrong = names::is_dns_subdomain(group.text());
        if !wrong.is_empty() {
            errors.push(group.invalid(wrong.join(",")));
        } else if !group.text().contains('.') {
            errors.push(group.invalid("should be a domain with at least one dot"));
        }
    }
    approved(definition, &mut errors);
    spec.get("scope").one_of(&["Cluster", "Namespaced"], &mut errors);
    versions(&spec, &mut errors);
    for key in ["plural", "singular", "kind", "listKind"] {
        spec.get("names").get(key).needed(&mut errors);
    }
    accepted(&spec.get("names"), &mut errors);
    conversion(&spec.get("conversion"), &mut errors);
    let preserve = spec.get("preserveUnknownFields");
    if preserve.flag() {
        errors.push(preserve.invalid(
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ));
    }
    errors
}

/// Groups of Kubernetes itself are protected.
fn approved(definition: &Value, errors: &mut Vec<FieldError>) {
    let found = approval::of(definition);
    let Some(why) = found.refusal() else { return };
    let path = format!("metadata.annotations[{}]", approval::ANNOTATION);
    errors.push(match found {
        Approval::Invalid(said) => FieldError::invalid(path, said, why),
        _ => FieldError::required(path, why),
    });
}

fn versions(spec: &Field, errors: &mut Vec<FieldError>) {
    let all = spec.get("versions");
    let mut seen = std::collections::HashSet::new();
    let mut unique = true;
    let mut stored = 0;
    for version in spec.items("versions") {
        let name = version.get("name");
        unique &= seen.insert(name.text().to_owned());
        stored += usize::from(version.get("storage").flag());
        let wrong = names::is_dns1035_label(name.text());
        if !wrong.is_empty() {
            errors.push(name.invalid(wrong.join(",")));
        }
        self::version(&version, errors);
    }
    if !unique {
        errors.push(all.invalid("must contain unique version names"));
    }
    if stored != 1 {
        errors.push(all.invalid("must have exactly one version marked as storage version"));
    }
}

fn version(version: &Field, errors: &mut Vec<FieldError>) {
    let warning = version.get("deprecationWarning");
    if warning.is_set() {
        if !version.get("deprecated").flag() {
            errors.push(warning.invalid("can only be set for deprecated versions"));
        }
        if warning.is_blank() {
            errors.push(warning.invalid("must not be an empty string"));
        }
    }
    let schema = version.get("schema.openAPIV3Schema");
    if schema.is_set() {
        errors.extend(custom::validate_schema(&schema));
    } else {
        errors.push(schema.required("schemas are required"));
    }
    for column in version.items("additionalPrinterColumns") {
        custom::validate_column(&column, errors);
    }
    scale(&version.get("subresources").get("scale"), errors);
    version.at_most("selectableFields", 8, errors);
    for field in version.items("selectableFields") {
        selectable(&field.get("jsonPath"), schema.value, errors);
    }
    version.unique("selectableFields", "jsonPath", errors);
}

fn scale(scale: &Field, errors: &mut Vec<FieldError>) {
    if !scale.is_set() {
        return;
    }
    for (key, below) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let path = scale.get(key);
        if path.needed(errors)
            && let Some(why) = custom::validate_path(path.text(), below)
        {
            errors.push(path.invalid(why));
        }
    }
    let selector = scale.get("labelSelectorPath");
    let anywhere =
        |path: &str| custom::validate_path(path, ".spec.").and(custom::validate_path(path, ".status."));
    if !selector.is_blank()
        && let Some(why) = anywhere(selector.text())
    {
        errors.push(selector.invalid(why.replace(".status", "either .spec or .status")));
    }
}

fn selectable(path: &Field, schema: &Value, errors: &mut Vec<FieldError>) {
    if !path.needed(errors) {
        return;
    }
    if let Some(why) = custom::validate_path(path.text(), ".") {
        errors.push(path.invalid(why));
        return;
    }
    if path.text().starts_with(".metadata") {
        errors.push(path.invalid("must not point to fields in metadata"));
        return;
    }
    match text(custom::schema_at(schema, path.text()), "type") {
        "string" | "boolean" | "integer" => {}
        _ => errors.push(path.invalid(
            "must point to a field that exists and is of type string, boolean or integer (with a string, boolean or \
             integer schema)",
        )),
    }
}

fn accepted(names: &Field, errors: &mut Vec<FieldError>) {
    for key in ["plural", "singular"] {
        let name = names.get(key);
        let wrong = names::is_dns1035_label(name.text());
        if !name.is_blank() && !wrong.is_empty() {
            errors.push(name.invalid(wrong.join(",")));
        }
    }
    for key in ["kind", "listKind"] {
        let name = names.get(key);
        let wrong = names::is_dns1035_label(&name.text().to_lowercase());
        if !name.is_blank() && !wrong.is_empty() {
            let wrong = wrong.join(",");
            errors.push(name.invalid(format!(
                "may have mixed case, but should otherwise match: {wrong}"
            )));
        }
    }
    if !names.get("kind").is_blank() && names.get("kind").text() == names.get("listKind").text() {
        errors.push(
            names
                .get("listKind")
                .invalid("kind and listKind may not be the same"),
        );
    }
    for key in ["shortNames", "categories"] {
        for name in names.items(key) {
            let wrong = names::is_dns1035_label(name.text());
            if !wrong.is_empty() {
                errors.push(name.invalid(wrong.join(",")));
            }
        }
    }
}

fn conversion(conversion: &Field, errors: &mut Vec<FieldError>) {
    let (strategy, webhook) = (conversion.get("strategy"), conversion.get("webhook"));
    match strategy.text() {
        "None" if webhook.is_set() => {
            errors.push(webhook.forbidden("should not be set when strategy is not set to Webhook"));
        }
        "None" => {}
        "Webhook" if !webhook.is_set() => {
            errors.push(webhook.required("required when strategy is set to Webhook"));
        }
        "Webhook" => {
            let client = webhook.get("clientConfig");
            if client.is_set() {
                webhooks::client(&client, errors);
            } else {
                errors.push(client.required("required when strategy is set to Webhook"));
            }
            let versions = webhook.get("conversionReviewVersions");
            if versions.is_blank() {
                errors.push(versions.required("must specify one of v1, v1beta1"));
            } else if !list(webhook.value, "conversionReviewVersions")
                .iter()
                .any(|v| v == "v1" || v == "v1beta1")
            {
                errors.push(versions.invalid("must include at least one of v1, v1beta1"));
            }
        }
        _ => errors.push(strategy.not_supported(&["None", "Webhook"])),
    }
}

fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate(new);
    if custom::is_true(old, "Established") {
        for path in ["spec.scope", "spec.names.kind"] {
            Field::at(new, path).immutable(old, &mut errors);
        }
    }
    for path in ["spec.group", "spec.names.plural"] {
        Field::at(new, path).immutable(old, &mut errors);
    }
    errors.extend(stored_versions(new));
    errors
}

/// Versions in which objects may be kept must stay known.
fn stored_versions(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = Field::at(definition, "status");
    let known: Vec<&str> = list(definition, "spec.versions")
        .iter()
        .map(|v| text(v, "name"))
        .collect();
    for version in status.items("storedVersions") {
        if !known.contains(&version.text()) {
            errors.push(version.invalid("must appear in spec.versions"));
        }
    }
    accepted(&status.get("acceptedNames"), &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(schema: Value) -> Value {
        let mut made = json!({"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Cluster",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
        default(&mut made);
        made
    }

    fn said(definition: &Value) -> Vec<String> {
        validate(definition).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_are_filled_in_and_must_fit() {
        let mut good = definition(json!({"type": "object"}));
        assert_eq!(good["spec"]["names"]["listKind"], "ThingList");
        assert_eq!(said(&good), [""; 0]);
        good["metadata"]["name"] = json!("others.example.com");
        good["spec"]["versions"][0]["storage"] = json!(false);
        let said = said(&good);
        assert_eq!(
            said[0],
            "metadata.name: Invalid value: \"others.example.com\": must be spec.names.plural+\".\"+spec.group"
        );
        assert!(said[1].ends_with("must have exactly one version marked as storage version"));
    }

    #[test]
    fn schemas_are_structural() {
        let at = "spec.versions[0].schema.openAPIV3Schema";
        for (schema, wanted) in [
            (
                json!({}),
                format!("{at}.type: Required value: must not be empty at the root"),
            ),
            (
                json!({"type": "object", "properties": {"a": {}}}),
                format!(
                    "{at}.properties[a].type: Required value: must not be empty for specified object fields"
                ),
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "array"}}}),
                format!("{at}.properties[a].items: Required value: must be specified"),
            ),
            (
                json!({"type": "object", "anyOf": [{"properties": {"b": {"minimum": 1}}}]}),
                format!(
                    "{at}.properties[b]: Required value: because it is defined in {at}.anyOf[0].properties[b]"
                ),
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}),
                format!(
                    "{at}.properties[a].default: Invalid value: \"string\": {at}.properties[a].default in body must be of type integer: \"string\""
                ),
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string", "x-kubernetes-validations": [{"rule": "self.size("}]}}}),
                format!(
                    "{at}.properties[a].x-kubernetes-validations[0].rule: Invalid value: \"self.size(\": compilation failed: ERROR: <input>:1:11: Syntax error: mismatched input '<EOF>'\n | self.size(\n | ..........^"
                ),
            ),
        ] {
            assert_eq!(
                said(&definition(schema.clone())).first(),
                Some(&wanted),
                "{schema}"
            );
        }
    }

    #[test]
    fn what_is_established_stays() {
        let mut old = definition(json!({"type": "object"}));
        old["status"] =
            json!({"conditions": [{"type": "Established", "status": "True"}], "storedVersions": ["v1"]});
        let mut new = old.clone();
        new["spec"]["scope"] = json!("Namespaced");
        new["spec"]["versions"][0]["name"] = json!("v2");
        (KIND.prepare_update)(&mut new, &old);
        assert_eq!(new["status"]["storedVersions"], json!(["v1", "v2"]));
        let said: Vec<String> = validate_update(&new, &old)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            said,
            [
                "spec.scope: Invalid value: \"Namespaced\": field is immutable",
                "status.storedVersions[0]: Invalid value: \"v1\": must appear in spec.versions"
            ]
        );
    }
}
