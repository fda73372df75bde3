use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::kind::Findings;
use crate::value::Field;

fn definition(schema: Value) -> Value {
    let columns = json!([{"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Since", "type": "date", "jsonPath": ".metadata.creationTimestamp", "priority": 1}]);
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
        "additionalPrinterColumns": columns, "selectableFields": [{"jsonPath": ".spec.colour"}]});
    let mut made = json!({"metadata": {"name": "things.example.com", "uid": "u", "generation": 1},
        "spec": {"group": "example.com", "scope": "Namespaced", "versions": [version],
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList", "shortNames": ["th"]}}});
    let verdict = judge(&made, &[], Timestamp::UNIX_EPOCH);
    made["status"] = verdict.status;
    made
}

pub(crate) fn kind(schema: Value) -> Arc<CustomKind> {
    let definition = definition(schema);
    let source = Bytes::from(definition.to_string());
    kinds(&definition, &source).remove(0)
}

fn said(kind: &CustomKind, object: &Value, old: Option<&Value>) -> Vec<String> {
    let found = kind.check(object, old, Findings::default());
    found.errors.iter().map(ToString::to_string).collect()
}

fn spec(properties: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}})
}

#[test]
fn a_definition_becomes_a_kind_like_any_other() {
    let kind = kind(spec(
        json!({"size": {"type": "integer"}, "colour": {"type": "string"}}),
    ));
    assert_eq!(kind.kind().api_version(), "example.com/v1");
    assert_eq!(kind.kind().short_names, ["th"]);
    assert_eq!(kind.kind().scale_paths.replicas, "spec.size");
    assert!(kind.kind().subresource("status").is_some() && kind.kind().subresource("scale").is_some());
    let object = json!({"metadata": {"name": "a", "creationTimestamp": "1970-01-01T00:00:00Z"}, "spec": {"size": 3, "colour": "red"}});
    let now: Timestamp = "1970-01-01T00:05:00Z".parse().unwrap();
    assert_eq!(kind.row(&object, now), [json!("a"), json!(3), json!("5m")]);
    assert_eq!(kind.columns()[2].priority, 1);
    assert_eq!(kind.fields(&object), [("spec.colour", "red".to_owned())]);
}

#[test]
fn names_belong_to_who_came_first() {
    let first = definition(json!({"type": "object"}));
    let mut second = first.clone();
    second["metadata"]["name"] = json!("stuffs.example.com");
    second["spec"]["names"]["plural"] = json!("stuffs");
    second["status"] = json!({});
    let verdict = judge(&second, std::slice::from_ref(&first), Timestamp::UNIX_EPOCH).status;
    assert_eq!(verdict["conditions"][0]["reason"], "SingularConflict");
    assert_eq!(verdict["conditions"][0]["message"], "\"thing\" is already in use");
    assert_eq!(verdict["conditions"][1]["status"], "False");
    let again = judge(&first, &[second], "2030-01-01T00:00:00Z".parse().unwrap()).status;
    assert_eq!(again, first["status"], "an accepted definition stays as it is");
}

#[test]
fn defaults_and_nulls() {
    let kind = kind(spec(json!({
        "size": {"type": "integer", "default": 1},
        "note": {"type": "string", "nullable": true, "default": "x"},
        "gone": {"type": "string"},
        "parts": {"type": "array", "items": {"type": "object", "properties": {"on": {"type": "boolean", "default": true}}}},
    })));
    let mut object = json!({"spec": {"size": null, "note": null, "gone": null, "parts": [{}]}});
    kind.fill(&mut object);
    assert_eq!(
        object,
        json!({"spec": {"size": 1, "note": null, "parts": [{"on": true}]}})
    );
}

#[test]
fn values_are_checked_in_kubernetes_words() {
    let kind = kind(spec(json!({
        "size": {"type": "integer", "minimum": 1}, "colour": {"type": "string", "enum": ["red", "blue"]},
        "name": {"type": "string", "pattern": "^a+$", "maxLength": 3}, "port": {"x-kubernetes-int-or-string": true},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "when": {"type": "string", "format": "date-time"},
    })));
    let object = json!({"spec": {"size": "x", "colour": "green", "name": "bbbb", "port": true, "set": ["a", "a"], "when": "now"}});
    assert_eq!(
        said(&kind, &object, None),
        [
            "spec.colour: Unsupported value: \"green\": supported values: \"red\", \"blue\"",
            "spec.name: Too long: may not be more than 3 bytes",
            "spec.name: Invalid value: \"bbbb\": spec.name in body should match '^a+$'",
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
            "spec.when: Invalid value: \"now\": spec.when in body must be of type date-time: \"now\"",
            ".spec.size: Invalid value: 0: .spec.size accessor error: x is of the type string, expected int64",
            "spec.set[1]: Duplicate value: \"a\"",
        ]
    );
    assert_eq!(
        said(&kind, &object, Some(&object)),
        [".spec.size: Invalid value: 0: .spec.size accessor error: x is of the type string, expected int64"],
        "what was there before and did not change is let be, but for what its scale shows"
    );
    assert_eq!(
        said(&kind, &json!({"spec": {"size": 0}}), None),
        ["spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"]
    );
}

#[test]
fn rules_see_the_object_and_what_it_was() {
    let mut schema = spec(json!({
        "min": {"type": "integer"}, "max": {"type": "integer"},
        "id": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "id stays"}]},
    }));
    schema["properties"]["spec"]["x-kubernetes-validations"] = json!([
        {"rule": "self.min <= self.max", "messageExpression": "'%d is more than %d'.format([self.min, self.max])", "fieldPath": ".min"},
        {"rule": "!has(self.id) || self.id != 'x'"},
    ]);
    let kind = kind(schema);
    let good = json!({"spec": {"min": 1, "max": 2, "id": "a"}});
    assert_eq!(said(&kind, &good, None), [""; 0]);
    let bad = json!({"spec": {"min": 3, "max": 2, "id": "x"}});
    assert_eq!(
        said(&kind, &bad, Some(&good)),
        [
            "spec.min: Invalid value: 3 is more than 2",
            "spec: Invalid value: failed rule: !has(self.id) || self.id != 'x'",
            "spec.id: Invalid value: \"x\": id stays",
        ]
    );
    let mut elsewhere = bad.clone();
    elsewhere["metadata"] = json!({"labels": {"a": "b"}});
    assert_eq!(said(&kind, &elsewhere, Some(&bad)), [""; 0]);
    assert_eq!(
        kind.check(&elsewhere, Some(&bad), Findings::default()).warnings,
        [
            "spec.min: Invalid value: 3 is more than 2",
            "spec: Invalid value: failed rule: !has(self.id) || self.id != 'x'",
        ],
        "what was so before is only told"
    );
    let missing = json!({"spec": {"min": 3}});
    assert_eq!(
        said(&kind, &missing, None),
        ["spec: Invalid value: \"object\": no such key: max evaluating rule: self.min <= self.max"]
    );
}

#[test]
fn rules_are_asked_beside_errors_that_leave_types_and_members_alone() {
    let rule = json!([{"rule": "self.startsWith('a')"}]);
    let kind = kind(spec(json!({
        "id": {"type": "string", "pattern": "^b", "x-kubernetes-validations": rule},
        "size": {"type": "integer"},
    })));
    assert_eq!(
        said(&kind, &json!({"spec": {"id": "c"}}), None),
        [
            "spec.id: Invalid value: \"c\": spec.id in body should match '^b'",
            "spec.id: Invalid value: \"c\": failed rule: self.startsWith('a')",
        ]
    );
    let wrong_type = said(&kind, &json!({"spec": {"id": "c", "size": "x"}}), None);
    assert!(
        wrong_type
            .last()
            .unwrap()
            .starts_with("<nil>: Invalid value: null: some validation rules were not checked"),
        "{wrong_type:?}"
    );
    let nameless = Findings {
        errors: vec![crate::status::FieldError::required("metadata.name", "")],
        warnings: Vec::new(),
    };
    let found = kind.check(&json!({"spec": {"id": "bc"}}), None, nameless);
    assert_eq!(found.errors.len(), 2, "metadata counts, too: {:?}", found.errors);
}

#[test]
fn refusals_have_the_reason_and_the_place_that_rules_give_them() {
    let mut schema = spec(json!({
        "id": {"type": "string"}, "list": {"type": "array", "items": {"type": "string"}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
    }));
    schema["properties"]["spec"]["x-kubernetes-validations"] = json!([
        {"rule": "has(self.id)", "reason": "FieldValueRequired", "fieldPath": ".id"},
        {"rule": "!has(self.map)", "reason": "FieldValueForbidden", "fieldPath": ".map['a.b']", "message": "no map"},
        {"rule": "!has(self.list)", "reason": "FieldValueDuplicate"},
        {"rule": "oldSelf.hasValue() || !has(self.list)", "optionalOldSelf": true, "message": "not at first"},
    ]);
    let object = json!({"spec": {"list": ["a"], "map": {"a.b": "c"}}});
    let kind = kind(schema);
    assert_eq!(
        said(&kind, &object, None),
        [
            "spec.id: Required value: failed rule: has(self.id)",
            "spec.map[a.b]: Forbidden: no map",
            "spec: Duplicate value",
            "spec: Invalid value: not at first",
        ]
    );
    assert_eq!(said(&kind, &object, Some(&object)), [""; 0]);
}

#[test]
fn what_is_a_number_or_a_text_is_no_longer_than_a_request() {
    let mut schema = spec(json!({"size": {"x-kubernetes-int-or-string": true}}));
    schema["properties"]["spec"]["x-kubernetes-validations"] = json!([{"rule": "self.size == oldSelf.size"}]);
    let mut errors = Vec::new();
    super::rule_check::rules(&Field::new(&schema, "schema"), &mut errors);
    assert_eq!(errors, []);
}

#[test]
fn rules_that_cost_too_much_are_given_up() {
    let rule = json!([{"rule": "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))"}]);
    let kind = kind(spec(
        json!({"n": {"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": rule}}),
    ));
    let many: Vec<i64> = (0..300).collect();
    let said = said(&kind, &json!({"spec": {"n": many}}), None);
    assert!(
        said[0].contains("no further validation rules will be run due to call cost exceeds limit"),
        "{said:?}"
    );
    let rule = json!([{"rule": "self.all(a, self.all(b, a + b >= 0))"}]);
    let items = json!({"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": rule});
    let kind = self::kind(spec(json!({"n": {"type": "array", "items": items}})));
    let lists: Vec<Vec<i64>> = (0..40).map(|_| (0..300).collect()).collect();
    let said = self::said(&kind, &json!({"spec": {"n": lists}}), None);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].ends_with(
            "\"array\": validation failed due to running out of cost budget, no further validation rules \
                           will be run"
        ),
        "{said:?}"
    );
}

#[test]
fn decoding_prunes_and_leaves_wrong_types_to_validation() {
    let kind = kind(spec(json!({
        "size": {"type": "integer"}, "parts": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "inner": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
    })));
    let body = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a", "odd": 1},
        "spec": {"size": "x", "odd": 1, "parts": [{"a": "b", "c": "d"}, 5], "open": {"any": {"thing": [null]}},
            "inner": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "odd": 1}, "more": 1}}});
    let gvk = Gvk::new("example.com", "v1", "Thing");
    let text = body.to_string();
    let decode = |validation| {
        crate::decode::decode(
            text.as_bytes(),
            "application/json",
            &kind.schema(),
            validation,
            &gvk,
        )
    };
    let (object, warnings) = decode(crate::decode::FieldValidation::Warn).unwrap();
    assert_eq!(
        object["spec"],
        json!({"size": "x", "parts": [{"a": "b"}, 5], "open": {"any": {"thing": [null]}},
            "inner": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}})
    );
    assert_eq!(
        warnings,
        [
            "unknown field \"metadata.odd\"",
            "unknown field \"spec.inner.metadata.odd\"",
            "unknown field \"spec.inner.more\"",
            "unknown field \"spec.odd\"",
            "unknown field \"spec.parts[0].c\""
        ]
    );
    let strict = decode(crate::decode::FieldValidation::Strict).unwrap_err();
    assert!(
        strict
            .message
            .contains("strict decoding error: unknown field \"metadata.odd\", unknown field \"spec.inner")
    );
}

#[test]
fn writes_keep_to_their_part() {
    let kind = kind(spec(json!({"size": {"type": "integer"}})));
    let old = json!({"metadata": {"name": "a", "generation": 1, "labels": {"x": "y"}}, "spec": {"size": 1}, "status": {"size": 1}});
    let mut new = old.clone();
    new["spec"]["size"] = json!(2);
    new["status"]["size"] = json!(2);
    let (mut whole, mut status) = (new.clone(), new);
    kind.prepare_update(&mut whole, &old);
    assert_eq!(
        (&whole["status"], &whole["metadata"]["generation"]),
        (&old["status"], &json!(2))
    );
    status["metadata"]["labels"] = json!({});
    kind.prepare_status(&mut status, &old);
    assert_eq!(
        (&status["spec"], &status["metadata"]["labels"]),
        (&old["spec"], &old["metadata"]["labels"])
    );
    assert_eq!(status["status"]["size"], 2);
}

mod strangers {
    use proptest::prelude::*;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let keys = prop_oneof![
                Just("type"),
                Just("properties"),
                Just("items"),
                Just("spec"),
                Just("default"),
                Just("anyOf"),
                Just("a"),
                Just("additionalProperties"),
                Just("x-kubernetes-list-map-keys"),
                Just("required"),
                Just("enum"),
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((keys, inner), 0..4).prop_map(|pairs| Value::Object(
                    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
                )),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// No schema, however odd, and no object make validation, defaulting or rules panic.
        #[test]
        fn odd_schemas_and_odd_objects(schema in any_json(), mut object in any_json()) {
            let _ = validate_schema(&crate::value::Field::new(&schema, "schema"), true);
            let kind = kind(json!({"type": "object", "properties": {"spec": schema}}));
            kind.fill(&mut object);
            let _ = kind.check(&object, None, Findings::default());
            let _ = kind.schema();
        }
    }
}
