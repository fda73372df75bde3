use super::*;
use proptest::prelude::*;
use serde_json::json;

fn deployment() -> (crate::schema::SchemaRef, Gvk) {
    let gvk = Gvk::new("apps", "v1", "Deployment");
    (
        Schemas::builtin().for_kind("apps", "v1", "Deployment").unwrap(),
        gvk,
    )
}

fn read(body: &str, media: &str, validation: FieldValidation) -> Result<(Value, Vec<String>), String> {
    let (schema, gvk) = deployment();
    decode(body.as_bytes(), media, &schema, validation, &gvk).map_err(|status| status.message)
}

fn refusal(body: &str) -> String {
    read(body, "application/json", FieldValidation::Strict).unwrap_err()
}

const PREFIX: &str = r#"Deployment in version "v1" cannot be handled as a Deployment: "#;

#[test]
fn fills_in_the_kind_and_drops_nulls() {
    let (value, warnings) = read(
        r#"{"metadata":{"name":"a"},"spec":null}"#,
        "",
        FieldValidation::Strict,
    )
    .unwrap();
    assert_eq!(
        value,
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}})
    );
    assert!(warnings.is_empty());
}

#[test]
fn strict_names_unknown_and_duplicate_fields_in_order() {
    let body = r#"{"spec":{"foo":1,"replicas":1,"replicas":2,
        "template":{"spec":{"containers":[{"name":"a","bar":1}]},"metadata":{"labels":{"a":"b","a":"c"}}}}}"#;
    let notes = [
        r#"unknown field "spec.foo""#,
        r#"duplicate field "spec.replicas""#,
        r#"unknown field "spec.template.spec.containers[0].bar""#,
        r#"duplicate field "spec.template.metadata.labels.a""#,
    ];
    assert_eq!(
        refusal(body),
        format!("{PREFIX}strict decoding error: {}", notes.join(", "))
    );
    let (value, warnings) = read(body, "application/json", FieldValidation::Warn).unwrap();
    assert_eq!(warnings, notes);
    assert_eq!(value["spec"]["replicas"], 2);
    assert_eq!(
        value["spec"]["template"]["spec"]["containers"],
        json!([{"name": "a"}])
    );
    assert!(
        read(body, "application/json", FieldValidation::Ignore)
            .unwrap()
            .1
            .is_empty()
    );
}

#[test]
fn words_type_mismatches_as_go_does() {
    for (body, error) in [
        (
            r#"{"spec":{"replicas":"3"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"replicas":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"replicas":3000000000}}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"ports":[{"protocol":6}]}]}}}}"#,
            "json: cannot unmarshal number into Go struct field \
             ContainerPort.spec.template.spec.containers.ports.protocol of type v1.Protocol",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec":[]}"#,
            "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            r#"{"metadata":{"creationTimestamp":"soon"}}"#,
            "parsing time \"soon\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"soon\" as \"2006\"",
        ),
    ] {
        assert_eq!(refusal(body), format!("{PREFIX}{error}"));
    }
}

#[test]
fn says_what_is_wrong_with_malformed_bodies() {
    assert_eq!(
        refusal("{\"kind\":\"Deployment\",\"spec\":{]}"),
        "the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse \
         error: invalid character ']' looking for beginning of object key string \
         ({\"kind\":\"Deployment\",\"spec\":{] ...)"
    );
    assert!(refusal("bogus").ends_with("looking for beginning of value (626f677573)"));
    assert!(refusal("").ends_with("unexpected end of JSON input (<empty>)"));
    assert!(refusal("[]").contains("cannot unmarshal array into Go value of type struct"));
}

#[test]
fn refuses_other_kinds_and_versions() {
    assert_eq!(
        refusal(r#"{"kind":"Service","apiVersion":"v1"}"#),
        "Service in version \"v1\" cannot be handled as a Deployment: converting (v1.Service) to (apps.Deployment): \
         unknown conversion"
    );
    assert_eq!(
        refusal(r#"{"kind":"Deployment","apiVersion":"apps/v9"}"#),
        "Deployment in version \"v9\" cannot be handled as a Deployment: no kind \"Deployment\" is registered for \
         version \"apps/v9\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
    );
}

#[test]
fn options_may_come_in_any_groups_clothes() {
    let schema = Schemas::builtin().for_kind("", "v1", "DeleteOptions").unwrap();
    let body = br#"{"kind":"DeleteOptions","apiVersion":"apps/v1","gracePeriodSeconds":0}"#;
    let default = Gvk::new("", "v1", "DeleteOptions");
    let (value, _) = decode(body, "", &schema, FieldValidation::Strict, &default).unwrap();
    assert_eq!(value["gracePeriodSeconds"], 0);
}

#[test]
fn yaml_reports_duplicates_by_line() {
    let body = "kind: Deployment\napiVersion: apps/v1\nspec:\n  replicas: 1\n  replicas: 2\n  foo: 1\n";
    let error = read(body, "application/yaml", FieldValidation::Strict).unwrap_err();
    assert_eq!(
        error,
        format!(
            "{PREFIX}strict decoding error: yaml: unmarshal errors:\n  line 5: key \"replicas\" already set in map, \
             unknown field \"spec.foo\""
        )
    );
    let (value, _) = read(body, "application/yaml", FieldValidation::Warn).unwrap();
    assert_eq!(value["spec"]["replicas"], 2);
}

#[test]
fn patches_keep_their_nulls() {
    let (value, _) = decode_patch(br#"{"a":null}"#, FieldValidation::Strict).unwrap();
    assert_eq!(value, json!({"a": null}));
    let error = decode_patch(br#"{"a":{"b":1,"b":2}}"#, FieldValidation::Strict).unwrap_err();
    assert_eq!(error.message, r#"strict decoding error: duplicate field "a.b""#);
}

#[test]
fn what_is_applied_keeps_what_nobody_knows() {
    let applied = |body: &str, validation| {
        let (schema, gvk) = deployment();
        decode_applied(body.as_bytes(), &schema, validation, &gvk).map_err(|status| status.message)
    };
    for body in [
        r#"{"spec":{"foo":{"a":1},"replicas":2}}"#,
        "spec: {foo: {a: 1}, replicas: 2}",
    ] {
        let (value, warnings) = applied(body, FieldValidation::Strict).unwrap();
        assert_eq!(value["spec"], json!({"foo": {"a": 1}, "replicas": 2}));
        assert!(warnings.is_empty(), "{warnings:?}");
    }
    let twice = "spec:\n  replicas: 1\n  replicas: 2\n";
    assert_eq!(
        applied(twice, FieldValidation::Strict).unwrap_err(),
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 3: key \"replicas\" \
         already set in map"
    );
    let (value, warnings) = applied(twice, FieldValidation::Warn).unwrap();
    assert_eq!((value["spec"]["replicas"].clone(), warnings.len()), (json!(2), 1));
    assert_eq!(
        applied("spec: {replicas: many}", FieldValidation::Ignore).unwrap_err(),
        format!(
            "{PREFIX}json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
        )
    );
    assert!(
        applied("a: [", FieldValidation::Ignore)
            .unwrap_err()
            .starts_with("error decoding YAML: ")
    );
}

#[test]
fn limits_size_and_media_types() {
    let (schema, gvk) = deployment();
    let big = vec![b' '; BODY_BYTES_MAX + 1];
    assert_eq!(
        decode(&big, "", &schema, FieldValidation::Warn, &gvk)
            .unwrap_err()
            .code,
        413
    );
    assert_eq!(
        decode(b"{}", "text/plain", &schema, FieldValidation::Warn, &gvk)
            .unwrap_err()
            .code,
        415
    );
    assert!(
        decode(
            b"{}",
            "application/json; charset=utf-8",
            &schema,
            FieldValidation::Warn,
            &gvk
        )
        .is_ok()
    );
}

#[test]
fn field_validation_has_three_names() {
    assert_eq!(FieldValidation::parse("").unwrap(), FieldValidation::Warn);
    assert_eq!(FieldValidation::parse("strict").unwrap_err().code, 422);
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (schema, gvk) = deployment();
        for media in ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"] {
            let _ = decode(&bytes, media, &schema, FieldValidation::Warn, &gvk);
        }
    }
}
