use super::wire::Writer;
use super::*;
use crate::schema::Schemas;
use proptest::prelude::*;
use serde_json::json;

fn envelope(api_version: &str, kind: &str, raw: Writer) -> Vec<u8> {
    let mut meta = Writer::default();
    meta.text(1, api_version);
    meta.text(2, kind);
    let mut unknown = Writer::default();
    unknown.message(1, &meta);
    unknown.message(2, &raw);
    [MAGIC, &unknown.finish()].concat()
}

fn build(f: impl FnOnce(&mut Writer)) -> Writer {
    let mut writer = Writer::default();
    f(&mut writer);
    writer
}

fn decoded(group: &str, kind: &str, raw: Writer) -> Value {
    let schema = Schemas::builtin().for_kind(group, "v1", kind).unwrap();
    let gvk = Gvk::new(group, "v1", kind);
    decode(&envelope(&gvk.api_version(), kind, raw), &schema, &gvk).unwrap()
}

#[test]
fn reads_maps_bytes_and_metadata() {
    let metadata = build(|w| {
        w.text(1, "c");
        w.message(
            11,
            &build(|w| {
                w.text(1, "app");
                w.text(2, "web");
            }),
        );
        w.message(8, &build(|w| w.varint(1, 1_700_000_000)));
    });
    let config_map = build(|w| {
        w.message(1, &metadata);
        w.message(
            2,
            &build(|w| {
                w.text(1, "key");
                w.text(2, "value");
            }),
        );
        w.message(
            3,
            &build(|w| {
                w.text(1, "bin");
                w.bytes(2, &[1, 2, 255]);
            }),
        );
    });
    assert_eq!(
        decoded("", "ConfigMap", config_map),
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "c", "labels": {"app": "web"}, "creationTimestamp": "2023-11-14T22:13:20Z"},
            "data": {"key": "value"}, "binaryData": {"bin": "AQL/"}})
    );
}

#[test]
fn reads_special_types_and_inlined_messages() {
    let quantity = build(|w| w.text(1, "64Mi"));
    let limits = build(|w| {
        w.text(1, "memory");
        w.message(2, &quantity);
    });
    let probe = build(|w| {
        // ProbeHandler is inlined as field 1; httpGet is its field 2; port its field 2.
        let port = build(|w| {
            w.varint(1, 1);
            w.text(3, "http");
        });
        w.message(1, &build(|w| w.message(2, &build(|w| w.message(2, &port)))));
    });
    let container = build(|w| {
        w.text(1, "a");
        w.message(8, &build(|w| w.message(1, &limits)));
        w.message(10, &probe);
    });
    let volume = build(|w| {
        w.text(1, "v");
        // VolumeSource is inlined as field 2; emptyDir is its field 2.
        w.message(2, &build(|w| w.message(2, &Writer::default())));
    });
    let spec = build(|w| {
        w.message(1, &volume);
        w.message(2, &container);
        w.varint(4, 30);
    });
    let pod = decoded("", "Pod", build(|w| w.message(2, &spec)));
    assert_eq!(
        pod["spec"],
        json!({"volumes": [{"name": "v", "emptyDir": {}}], "terminationGracePeriodSeconds": 30,
            "containers": [{"name": "a", "resources": {"limits": {"memory": "64Mi"}},
                "livenessProbe": {"httpGet": {"port": "http"}}}]})
    );
}

#[test]
fn reads_lists_in_maps_and_negative_numbers() {
    let extra = build(|w| {
        w.text(1, "k");
        w.message(
            2,
            &build(|w| {
                w.text(1, "x");
                w.text(1, "y");
            }),
        );
    });
    let review = build(|w| w.message(2, &build(|w| w.message(5, &extra))));
    let review = decoded("authorization.k8s.io", "SubjectAccessReview", review);
    assert_eq!(review["spec"]["extra"], json!({"k": ["x", "y"]}));
    let class = decoded(
        "scheduling.k8s.io",
        "PriorityClass",
        build(|w| w.varint(2, (-5i64).cast_unsigned())),
    );
    assert_eq!(class["value"], -5);
}

#[test]
fn reads_either_or_schemas() {
    let props = build(|w| {
        w.text(5, "object");
        w.message(
            30,
            &build(|w| {
                w.varint(1, 1);
                w.message(2, &build(|w| w.text(5, "string")));
            }),
        );
    });
    let schema = Schemas::builtin()
        .find("apiextensions.v1.JSONSchemaProps")
        .unwrap();
    let number = schema.get().field("additionalProperties").unwrap().number;
    let kind = schema.get().field("type").unwrap().number;
    assert_eq!((number, kind), (30, 5));
    let value = message(&props.finish(), &schema, DEPTH_MAX).unwrap();
    assert_eq!(
        value,
        json!({"type": "object", "additionalProperties": {"type": "string"}})
    );
}

#[test]
fn another_kind_is_named_and_nothing_more() {
    let schema = Schemas::builtin().for_kind("", "v1", "Pod").unwrap();
    let body = envelope("v1", "Service", build(|w| w.text(1, "x")));
    let value = decode(&body, &schema, &Gvk::new("", "v1", "Pod")).unwrap();
    assert_eq!(value, json!({"apiVersion": "v1", "kind": "Service"}));
    assert!(
        decode(b"{}", &schema, &Gvk::default())
            .unwrap_err()
            .contains("expected prefix")
    );
}

#[test]
fn writes_durations_as_go_does() {
    for (nanos, text) in [
        (0, "0s"),
        (1_500_000_000, "1.5s"),
        (3_600_000_000_000, "1h0m0s"),
        (90_000_000_000, "1m30s"),
        (1_500_000, "1.5ms"),
        (-2_000_000_000, "-2s"),
        (7, "7ns"),
        (1_100, "1.1µs"),
    ] {
        assert_eq!(go::nanoseconds(nanos), text);
    }
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let schema = Schemas::builtin().for_kind("", "v1", "Pod").unwrap();
        let _ = message(&bytes, &schema.root, DEPTH_MAX);
        let _ = decode(&[MAGIC, &bytes].concat(), &schema, &Gvk::new("", "v1", "Pod"));
    }
}
