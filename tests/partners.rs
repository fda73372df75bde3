//! Wasm containers of one pod of which one calls what another exports.

use serde_json::{Value, json};

use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

const CALC: &str = "demo:math/calc@1.0.0";

fn container(name: &str, image: &str) -> Value {
    json!({"name": name, "image": format!("local/{image}:1")})
}

/// A pod whose sidecars come first.
fn pod(name: &str, sidecars: &[Value], containers: &[Value], providers: &str) -> String {
    let sidecars = sidecars.iter().cloned().map(|mut sidecar| {
        sidecar["restartPolicy"] = json!("Always");
        sidecar
    });
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "annotations": {"coracle.dev/wasm-providers": providers}},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "initContainers": sidecars.collect::<Vec<_>>(), "containers": containers}})
    .to_string()
}

/// What has become of a container that has ended.
fn ended(cluster: &Cluster, pod: &str, container: &str) -> Value {
    let path = format!("{{.status.containerStatuses[?(@.name==\"{container}\")].state.terminated}}");
    eventually(&format!("the end of {container} of {pod}"), || {
        let text = cluster.field(&format!("pod/{pod}"), &path)?;
        serde_json::from_str(&text).map_err(|_| format!("{text:?}"))
    })
}

#[test]
fn containers_of_one_pod_call_what_others_export() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let asks = |length: &str| include_str!("programs/asks.wat").replace("LENGTH", length);
        cluster.import_text("calc", include_str!("programs/calc.wat"));
        cluster.import_text("asks", &asks("17"));
        cluster.import_text("asks-wrongly", &asks("0"));
        let (calc, asks) = (container("calc", "calc"), container("asks", "asks"));

        // A sidecar that does nothing by itself, in a pod that ends with the main container.
        cluster.apply(&pod(
            "pair",
            std::slice::from_ref(&calc),
            std::slice::from_ref(&asks),
            "",
        ));
        assert_eq!(cluster.finished("pair"), "Succeeded");

        // Beside each other, whichever begins first; who is called runs on.
        cluster.apply(&pod("equals", &[], &[asks.clone(), calc.clone()], ""));
        let end = ended(&cluster, "equals", "asks");
        assert_eq!(end["exitCode"], 0, "{end}");
        let ready = "{.status.containerStatuses[?(@.name==\"calc\")].ready}";
        cluster.until("pod/equals", ready, "true");

        // Resources of one in the hands of the other.
        let visit = "(local.set $a (call $new (i32.const 40)))
            (local.set $a (call $merge (local.get $a) (call $new (i32.const 2))))
            (i32.ne (call $get (local.get $a)) (i32.const 42)) (call $drop (local.get $a))";
        let visitor = include_str!("programs/visitor.wat").replace("BODY", visit);
        cluster.import_text("shelf", include_str!("programs/shelf.wat"));
        cluster.import_text("visitor", &visitor);
        cluster.apply(&pod(
            "boxes",
            &[container("shelf", "shelf")],
            &[container("visitor", "visitor")],
            "",
        ));
        assert_eq!(cluster.finished("boxes"), "Succeeded");
        // Compiled for this pod, which says how long that took.
        cluster.event(
            "boxes",
            "Compiled",
            &["Compiled WebAssembly program sha256:", " in "],
        );

        // What fails there is told here, and there; only the caller ends of it.
        let wrong = container("asks", "asks-wrongly");
        cluster.apply(&pod("wrong", &[], &[wrong, calc.clone()], ""));
        let end = ended(&cluster, "wrong", "asks");
        let message = end["message"].as_str().unwrap_or_default();
        assert_eq!(end["exitCode"], 134, "{end}");
        assert_has(
            message,
            &[CALC, "#measure, which \"calc\" provides, failed: wasm trap"],
        );
        eventually("the log of who was called", || {
            let log = cluster.try_ok(&["logs", "wrong", "-c", "calc"])?;
            has(&log, &["#measure: wasm trap"])
        });
        let restarts = "{.status.containerStatuses[?(@.name==\"calc\")].restartCount}";
        assert_eq!(cluster.field("pod/wrong", restarts).unwrap(), "0");

        // One that is broken is not waited for.
        cluster.import_code("broken", b"\0asm\x0d\0\x01\0no more of it");
        cluster.apply(&pod(
            "doomed",
            &[],
            &[asks.clone(), container("calc", "broken")],
            "",
        ));
        let end = ended(&cluster, "doomed", "asks");
        let words = "is imported and nobody exports it: \"calc\" cannot be started: invalid wasm program";
        assert_has(end["message"].as_str().unwrap_or_default(), &[CALC, words]);

        // Nobody has it; two have it, and nobody says which; somebody does.
        let other = container("other", "calc");
        let both = [calc.clone(), other];
        for (name, sidecars, words) in [
            ("alone", &both[..0], "a matching implementation was not found"),
            (
                "unclear",
                &both[..],
                "is exported by several programs (\"calc\", \"other\")",
            ),
        ] {
            cluster.apply(&pod(name, sidecars, std::slice::from_ref(&asks), ""));
            assert_eq!(cluster.finished(name), "Failed", "{name}");
            let about = format!("involvedObject.name={name}");
            let events = cluster.ok(&["get", "events", "--field-selector", &about]);
            assert_has(&events, &[CALC, words]);
        }
        let providers = format!("{CALC}=other");
        cluster.apply(&pod("clear", &both, &[asks], &providers));
        assert_eq!(cluster.finished("clear"), "Succeeded");
    });
}
