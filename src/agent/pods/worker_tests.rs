//! Whole pods on a node of fakes: from assignment to the end, through crashes and restarts.

use serde_json::json;

use crate::eviction::Pressure;
use crate::eviction::evictor::Eviction;
use crate::testing::FakeNode;

#[tokio::test]
async fn a_pod_comes_up_and_goes_down() {
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    node.assign("web", json!({"containers": [{"name": "a", "image": "app:1"}]}));
    node.until_phase("web", "Running", true).await;
    let status = &node.pod("web")["status"];
    assert_eq!(status["podIP"], "10.64.0.2");
    assert_eq!(status["hostIP"], "192.0.2.1");
    assert_eq!(status["qosClass"], "BestEffort");
    let container = &status["containerStatuses"][0];
    assert!(
        container["containerID"]
            .as_str()
            .unwrap()
            .starts_with("coracle-oci://")
    );
    for text in [
        "Pulling Pulling image \"app:1\"",
        "Created Container created",
        "Started Container started",
    ] {
        node.until_event(text).await;
    }
    node.delete("web", 30);
    node.until("it is gone", |node| node.api.get("pods/ns/web").is_none())
        .await;
    node.until_event("Killing Stopping container a").await;
    node.refresh("web");
    node.until("nothing is left", |node| {
        node.table.is_empty() && !node.context.paths.pod("uid-web").exists()
    })
    .await;
    assert_eq!(node.oci.calls()[..3], ["open web", "create a 0", "start a"]);
}

#[tokio::test]
async fn a_pod_is_stopped_when_services_have_let_go_of_it() {
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    node.assign("web", json!({"containers": [{"name": "a", "image": "app:1"}]}));
    node.until_phase("web", "Running", true).await;
    node.net.popular.send_replace(true);
    node.delete("web", 30);
    node.until_event("Killing Stopping container a").await;
    let stops = |node: &FakeNode| node.oci.calls().iter().any(|call| call.starts_with("stop a"));
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(!stops(&node), "{:?}", node.oci.calls());
    node.net.popular.send_replace(false);
    node.until("it is asked to stop", stops).await;
    // What it waited for is gone from its grace.
    assert!(!node.oci.calls().contains(&"stop a 30s".to_owned()));
}

#[tokio::test]
async fn services_that_do_not_let_go_cost_half_of_the_grace_at_most() {
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    node.assign("web", json!({"containers": [{"name": "a", "image": "app:1"}]}));
    node.until_phase("web", "Running", true).await;
    node.net.popular.send_replace(true);
    node.delete("web", 1);
    node.until("it is asked to stop", |node| {
        node.oci.calls().iter().any(|call| call.starts_with("stop a"))
    })
    .await;
}

#[tokio::test]
async fn wasm_only_pods_need_no_shim() {
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    node.assign("w", json!({"containers": [{"name": "a", "image": "wasm:1"}]}));
    node.until_phase("w", "Running", true).await;
    assert!(node.oci.calls().is_empty());
    let id = &node.pod("w")["status"]["containerStatuses"][0]["containerID"];
    assert!(id.as_str().unwrap().starts_with("coracle-wasm://"));
    node.assign(
        "mixed",
        json!({"containers": [{"name": "a", "image": "wasm:1"}, {"name": "b", "image": "app:1"}]}),
    );
    node.until_phase("mixed", "Running", true).await;
    assert!(node.oci.calls().contains(&"open mixed".to_owned()));
}

#[tokio::test]
async fn commands_end() {
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    for (name, code, phase) in [("good", "0", "Succeeded"), ("bad", "3", "Failed")] {
        node.assign(
            name,
            json!({"restartPolicy": "Never",
            "containers": [{"name": "a", "image": "app:1", "args": ["exit", code]}]}),
        );
        node.until_phase(name, phase, false).await;
        let terminated = &node.pod(name)["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(terminated["exitCode"].to_string(), code);
    }
    node.until("their sandboxes go", |node| {
        node.oci.calls().contains(&"close uid-bad".to_owned())
    })
    .await;
}

#[tokio::test]
async fn crashes_back_off_and_are_told() {
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    node.assign(
        "loop",
        json!({"containers": [{"name": "a", "image": "app:1", "args": ["exit", "1"]}]}),
    );
    let waits = |node: &FakeNode| {
        let state = &node.pod("loop")["status"]["containerStatuses"][0]["state"]["waiting"];
        state["reason"] == "CrashLoopBackOff"
    };
    node.until("CrashLoopBackOff", waits).await;
    node.until_event("BackOff Back-off restarting failed container a in pod loop_ns(uid-loop)")
        .await;
    let restarts = |node: &FakeNode| {
        node.pod("loop")["status"]["containerStatuses"][0]["restartCount"].as_i64() >= Some(3)
    };
    node.until("three restarts", restarts).await;
}

#[tokio::test]
async fn missing_things_are_told_and_awaited() {
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    let env = json!([{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]);
    node.assign(
        "env",
        json!({"containers": [{"name": "a", "image": "app:1", "env": env}]}),
    );
    node.until_event("Failed Error: configmap \"cm\" not found").await;
    let waits = |node: &FakeNode| {
        let waiting = &node.pod("env")["status"]["containerStatuses"][0]["state"]["waiting"];
        waiting["reason"] == "CreateContainerConfigError"
            && waiting["message"] == "configmap \"cm\" not found"
    };
    node.until("CreateContainerConfigError", waits).await;
    let map = json!({"metadata": {"name": "cm", "namespace": "ns"}, "data": {"k": "value"}});
    node.api.put("configmaps", map);
    node.until_phase("env", "Running", true).await;
    let launch = node.oci.launch("a").unwrap();
    assert!(launch.env.contains(&("X".to_owned(), "value".to_owned())));

    node.assign(
        "image",
        json!({"containers": [{"name": "b", "image": "missing:1"}]}),
    );
    node.until_event("Failed Error: ErrImagePull").await;
    node.until_event("BackOff Back-off pulling image \"missing:1\"")
        .await;

    node.assign(
        "signed",
        json!({"containers": [{"name": "s", "image": "unsigned:1"}]}),
    );
    node.until_event(
        "Failed Failed to pull image \"unsigned:1\": SignatureValidationFailed: it is not signed",
    )
    .await;
    node.until_event("Failed Error: SignatureValidationFailed").await;

    let volumes = json!([{"name": "v", "secret": {"secretName": "none"}}]);
    node.assign(
        "volume",
        json!({"volumes": volumes, "containers": [{"name": "c", "image": "app:1"}]}),
    );
    let text = "FailedMount MountVolume.SetUp failed for volume \"v\" : secret \"none\" not found";
    node.until_event(text).await;
}

#[tokio::test]
async fn programs_that_cannot_run() {
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    let container = |args: &str| json!({"name": "a", "image": "app:1", "args": [args]});
    node.assign(
        "start",
        json!({"restartPolicy": "Never", "containers": [container("cannot-start")]}),
    );
    node.until_phase("start", "Failed", false).await;
    let terminated = &node.pod("start")["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&terminated["reason"], &terminated["exitCode"]),
        (&json!("ContainerCannotRun"), &json!(128))
    );
    node.assign("create", json!({"containers": [container("cannot-create")]}));
    node.until_event("Failed Error: it was told not to be created")
        .await;
    node.assign(
        "oom",
        json!({"restartPolicy": "Never", "containers": [container("oom")]}),
    );
    node.until_phase("oom", "Failed", false).await;
    let terminated = &node.pod("oom")["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&terminated["reason"], &terminated["exitCode"]),
        (&json!("OOMKilled"), &json!(137))
    );
}

#[tokio::test]
async fn liveness_and_hooks() {
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    let probe = json!({"exec": {"command": ["exit", "1"]}, "periodSeconds": 1, "failureThreshold": 1});
    let lifecycle =
        json!({"postStart": {"exec": {"command": ["post"]}}, "preStop": {"exec": {"command": ["pre"]}}});
    node.assign(
        "live",
        json!({"containers": [
        {"name": "a", "image": "app:1", "livenessProbe": probe, "lifecycle": lifecycle}]}),
    );
    node.until_event("Unhealthy Liveness probe failed: ").await;
    node.until_event("Killing Container a failed liveness probe, will be restarted")
        .await;
    node.until("it starts again", |node| {
        node.oci.calls().contains(&"create a 1".to_owned())
    })
    .await;
    let calls = node.oci.calls();
    for call in ["exec post", "exec pre"] {
        assert!(calls.contains(&call.to_owned()), "{call} in {calls:?}");
    }
}

#[tokio::test]
async fn a_restarted_agent_finds_its_containers() {
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    node.assign("web", json!({"containers": [{"name": "a", "image": "app:1"}]}));
    node.assign("wasm", json!({"containers": [{"name": "w", "image": "wasm:1"}]}));
    node.until_phase("web", "Running", true).await;
    node.until_phase("wasm", "Running", true).await;
    let before = node.pod("web")["status"]["containerStatuses"][0]["containerID"].clone();
    let ip = node.pod("wasm")["status"]["podIP"].clone();
    let kept = |node: &FakeNode| node.kept_phase("uid-wasm").as_deref() == Some("Running");
    node.until("it is kept on disk", kept).await;
    let node = node.restart().await;
    // The server is away: what is on disk must do.
    *node.api.away.lock().unwrap() = true;
    node.until("the guest runs again", |node| {
        node.wasm.calls().contains(&"start w".to_owned())
    })
    .await;
    *node.api.away.lock().unwrap() = false;
    let restarted = |node: &FakeNode| node.pod("wasm")["status"]["containerStatuses"][0]["restartCount"] == 1;
    node.until("the restart is told", restarted).await;
    assert_eq!(node.pod("wasm")["status"]["podIP"], ip);
    assert_eq!(node.oci.creates(), 1, "the ordinary container was left alone");
    assert_eq!(
        node.pod("web")["status"]["containerStatuses"][0]["containerID"],
        before
    );
    node.oci.end("a", 0);
    node.until("its end is still seen", |node| {
        node.oci.calls().contains(&"create a 1".to_owned())
    })
    .await;
}

#[tokio::test]
async fn what_is_gone_from_the_api_is_swept_out() {
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    node.assign(
        "web",
        json!({"terminationGracePeriodSeconds": 1, "containers": [{"name": "a", "image": "app:1"}]}),
    );
    node.until_phase("web", "Running", true).await;
    node.until("it is kept on disk", |node| {
        node.context.paths.checkpoint("uid-web").exists()
    })
    .await;
    node.api.objects.lock().unwrap().clear();
    node.pods.remove("ns", "web");
    let node = node.restart().await;
    node.until("nothing is left", |node| {
        node.table.is_empty() && !node.context.paths.pod("uid-web").exists()
    })
    .await;
    assert!(node.oci.calls().contains(&"close uid-web".to_owned()));
}

#[tokio::test]
async fn volumes_follow_their_sources_and_tokens_come() {
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    let map = json!({"metadata": {"name": "kube-root-ca.crt", "namespace": "ns"}, "data": {"ca.crt": "CA"}});
    node.api.put("configmaps", map);
    let sources = json!([
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]);
    let mount = json!([{"name": "sa", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]);
    node.assign(
        "sa",
        json!({
            "volumes": [{"name": "sa", "projected": {"sources": sources}}],
            "containers": [{"name": "a", "image": "app:1", "volumeMounts": mount}],
        }),
    );
    node.until_phase("sa", "Running", true).await;
    let launch = node.oci.launch("a").unwrap();
    let found = launch
        .mounts
        .iter()
        .find(|m| m.path.ends_with("serviceaccount"))
        .unwrap();
    assert!(found.read_only);
    assert_eq!(std::fs::read_to_string(found.host.join("token")).unwrap(), "jwt");
    assert_eq!(std::fs::read_to_string(found.host.join("ca.crt")).unwrap(), "CA");
}

#[tokio::test]
async fn an_evicted_pod_fails_with_its_reason_and_stays_to_be_read() {
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    node.assign("web", json!({"containers": [{"name": "a", "image": "app:1"}]}));
    node.until_phase("web", "Running", true).await;
    let message = "The node was low on resource: memory. ";
    let eviction = Eviction {
        uid: "uid-web".to_owned(),
        message: message.to_owned(),
    };
    node.evict.send(eviction.clone()).unwrap();
    node.until_phase("web", "Failed", false).await;
    node.until("its sandbox is gone", |node| {
        node.oci.calls().contains(&"close uid-web".to_owned())
    })
    .await;
    // A second one is no news.
    node.evict.send(eviction).unwrap();
    let pod = node.api.get("pods/ns/web").unwrap();
    assert_eq!(
        (
            pod["status"]["reason"].as_str(),
            pod["status"]["message"].as_str()
        ),
        (Some("Evicted"), Some(message))
    );
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    let target = conditions
        .iter()
        .find(|c| c["type"] == "DisruptionTarget")
        .unwrap();
    assert_eq!(target["reason"], "TerminationByKubelet");
}

#[tokio::test]
async fn a_node_under_pressure_takes_no_new_pods_and_keeps_its_own() {
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    node.assign("old", json!({"containers": [{"name": "a", "image": "app:1"}]}));
    node.until_phase("old", "Running", true).await;
    node.pressure.send_replace(Pressure {
        disk: true,
        ..Pressure::default()
    });
    node.assign("new", json!({"containers": [{"name": "b", "image": "app:1"}]}));
    node.until_phase("new", "Failed", false).await;
    let pod = node.api.get("pods/ns/new").unwrap();
    assert_eq!(
        pod["status"]["message"],
        "The node had condition: [DiskPressure]. "
    );
    assert_eq!(node.api.get("pods/ns/old").unwrap()["status"]["phase"], "Running");
}

#[tokio::test]
async fn a_node_that_is_shut_down_ends_its_pods_and_takes_no_others() {
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    node.assign("web", json!({"containers": [{"name": "a", "image": "app:1"}]}));
    node.until_phase("web", "Running", true).await;
    let ending = crate::pods::shutdown::Ending {
        uid: "uid-web".to_owned(),
        grace: std::time::Duration::from_secs(7),
    };
    node.end.send(ending).unwrap();
    node.until_phase("web", "Failed", false).await;
    let status = &node.pod("web")["status"];
    assert_eq!(status["reason"], "Terminated");
    assert_eq!(
        status["message"],
        "Pod was terminated in response to imminent node shutdown."
    );
    let conditions = status["conditions"].as_array().unwrap();
    let told = conditions
        .iter()
        .find(|c| c["type"] == "DisruptionTarget")
        .unwrap();
    assert_eq!(told["reason"], "TerminationByKubelet");
    node.assign("late", json!({"containers": [{"name": "a", "image": "app:1"}]}));
    node.until_phase("late", "Failed", false).await;
    assert_eq!(node.pod("late")["status"]["reason"], "NodeShutdown");
}

/// A manifest of one container in the namespace that this node's tests use.
fn manifest(image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: ns}}\nspec: {{containers: [{{name: a, image: \
         '{image}'}}]}}\n"
    )
}

#[tokio::test]
async fn a_file_is_a_pod_that_the_api_only_shows() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("static/web.yaml");
    std::fs::create_dir(temp.path().join("static")).unwrap();
    std::fs::write(&file, manifest("app:1")).unwrap();
    let node = FakeNode::start(temp.path());
    // Nobody need know of it for it to run.
    node.until("it runs", |node| node.oci.calls().contains(&"start a".to_owned()))
        .await;
    assert!(node.pod("web-n1").is_null());
    node.api
        .put("nodes", json!({"metadata": {"name": "n1", "uid": "uid-n1"}}));
    let shown = |node: &FakeNode| {
        node.refresh("web-n1");
        node.pod("web-n1")["status"]["phase"] == "Running"
    };
    node.until("its mirror tells its status", shown).await;
    let meta = &node.pod("web-n1")["metadata"];
    assert_eq!(meta["uid"], "made-web-n1");
    assert_eq!(meta["ownerReferences"][0]["uid"], "uid-n1");
    let first = meta["annotations"]["kubernetes.io/config.mirror"].clone();

    // Deleted, it comes back; what runs runs on.
    node.delete("web-n1", 30);
    node.until("its mirror is there again", |node| {
        node.refresh("web-n1");
        let pod = node.pod("web-n1");
        pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] == "Running"
    })
    .await;
    assert_eq!(
        node.oci.calls().iter().filter(|call| *call == "start a").count(),
        1
    );

    // Another version begins when this one has ended.
    std::fs::write(&file, manifest("app:22")).unwrap();
    node.until("its mirror stands for the new version", |node| {
        node.refresh("web-n1");
        let pod = node.pod("web-n1");
        pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] != first
            && pod["status"]["phase"] == "Running"
    })
    .await;
    let calls = node.oci.calls();
    let at = |call: &str| calls.iter().position(|one| one == call).unwrap();
    let again = calls.iter().rposition(|one| one == "start a").unwrap();
    let closed = format!("close {}", first.as_str().unwrap());
    assert!(at(&closed) < again, "{calls:?}");

    std::fs::remove_file(&file).unwrap();
    node.until("nothing is left", |node| {
        node.refresh("web-n1");
        node.pod("web-n1").is_null() && node.table.is_empty()
    })
    .await;
}

#[tokio::test]
async fn static_pods_outlive_the_agent_and_end_with_their_files() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("static/web.yaml");
    std::fs::create_dir(temp.path().join("static")).unwrap();
    std::fs::write(&file, manifest("app:1")).unwrap();
    let mut node = FakeNode::start(temp.path());
    node.until("it runs", |node| {
        !node.table.is_empty() && node.oci.calls().contains(&"start a".to_owned())
    })
    .await;
    node.until("the disk knows", |node| {
        let pods = std::fs::read_dir(node.context.paths.pods()).unwrap();
        pods.flatten().any(|pod| pod.path().join("pod.json").exists())
    })
    .await;
    node = node.restart().await;
    node.until("it is there", |node| !node.table.is_empty()).await;
    assert_eq!(
        node.oci.calls().iter().filter(|call| *call == "start a").count(),
        1
    );
    std::fs::remove_file(&file).unwrap();
    node = node.restart().await;
    node.until("it is gone", |node| {
        node.table.is_empty() && node.oci.calls().iter().any(|call| call.starts_with("close "))
    })
    .await;
}
