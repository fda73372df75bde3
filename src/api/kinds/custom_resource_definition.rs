//! CustomResourceDefinition: a kind that the cluster's users bring along.

mod conversion;
mod versions;

use serde_json::{Value, json};

use super::{cells, metadata};
use crate::custom;
use crate::custom::approval::{self, Approval};
use crate::formats;
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
    validate: |new| {
        let mut errors = rules(new);
        errors.extend(status(new));
        errors
    },
    validate_update,
    validate_status: |new, _| {
        let mut errors = Vec::new();
        accepted(&Field::at(new, "status.acceptedNames"), &mut errors);
        errors
    },
    warnings: |new, old| {
        let before = old.map(formats::unknown).unwrap_or_default();
        let all = formats::unknown(new).into_iter();
        all.filter(|format| !before.contains(format))
            .map(|format| format!("unrecognized format {format:?}"))
            .collect()
    },
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

/// Rules for the definition itself.
fn rules(definition: &Value) -> Vec<FieldError> {
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
    let scope = spec.get("scope");
    if scope.needed(&mut errors) {
        scope.one_of(&["Cluster", "Namespaced"], &mut errors);
    }
    versions::check(&spec, &mut errors);
    for key in ["plural", "singular", "kind", "listKind"] {
        spec.get("names").get(key).needed(&mut errors);
    }
    accepted(&spec.get("names"), &mut errors);
    versions::common(&spec, &mut errors);
    conversion::check(&spec.get("conversion"), &mut errors);
    approved(definition, &mut errors);
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

fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = rules(new);
    if custom::is_true(old, "Established") {
        for path in ["spec.scope", "spec.names.kind"] {
            Field::at(new, path).immutable(old, &mut errors);
        }
    }
    for path in ["spec.group", "spec.names.plural"] {
        Field::at(new, path).immutable(old, &mut errors);
    }
    errors.extend(status(new));
    errors
}

/// Versions in which objects may be kept must stay known, and that in which they are kept is one of them.
fn status(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = Field::at(definition, "status");
    accepted(&status.get("acceptedNames"), &mut errors);
    let stored = status.get("storedVersions");
    if stored.is_blank() {
        let why = "must have at least one stored version";
        errors.push(FieldError::invalid(&stored.path, Value::Null, why));
        return errors;
    }
    let all = status.items("storedVersions");
    let storage = custom::storage_version(definition);
    if !storage.is_empty() && !all.iter().any(|version| version.text() == storage) {
        errors.push(stored.invalid(format!("must have the storage version {storage}")));
    }
    let known: Vec<&str> = list(definition, "spec.versions")
        .iter()
        .map(|v| text(v, "name"))
        .collect();
    for version in all.iter().filter(|version| !known.contains(&version.text())) {
        let name = version.text();
        errors.push(version.invalid(format!(
            "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions \
             until a storage migration ensures no data remains persisted in {name} and removes {name} from \
             status.storedVersions"
        )));
    }
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
        rules(definition).iter().map(ToString::to_string).collect()
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
        let at = "spec.validation.openAPIV3Schema";
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
                "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage version, and must \
              remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from \
              status.storedVersions"
            ]
        );
    }
}
