use serde_json::json;

use super::*;

fn pod(spec: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": spec});
    (KIND.default)(&mut pod);
    pod
}

fn simple() -> Value {
    pod(json!({"containers": [{"name": "c", "image": "busybox"}]}))
}

fn texts(errors: Vec<FieldError>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_are_those_of_kubernetes() {
    let mut pod = pod(json!({
        "serviceAccount": "bot",
        "containers": [{
            "name": "c", "image": "registry:5000/app", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1"}},
            "readinessProbe": {"httpGet": {"port": 80}},
            "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
        }],
        "volumes": [{"name": "a"}, {"name": "b", "configMap": {"name": "x"}},
            {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}],
    }));
    (KIND.prepare_create)(&mut pod);
    assert_eq!(
        pod["spec"],
        json!({
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30,
            "schedulerName": "default-scheduler", "securityContext": {}, "enableServiceLinks": true,
            "serviceAccount": "bot", "serviceAccountName": "bot",
            "containers": [{
                "name": "c", "image": "registry:5000/app", "imagePullPolicy": "Always",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "readinessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}]
            }],
            "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "configMap": {"name": "x", "defaultMode": 420}},
                {"name": "d", "projected": {"defaultMode": 420,
                    "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}}],
        })
    );
    assert_eq!(
        pod["status"],
        json!({"phase": "Pending", "qosClass": "Burstable"})
    );
    assert_eq!(pod["metadata"]["generation"], 1);
    assert_eq!(texts(KIND.check_create(&pod)), [""; 0]);
}

#[test]
fn pull_policies_follow_the_tag() {
    for (image, policy) in [
        ("a", "Always"),
        ("a:latest", "Always"),
        ("a:1", "IfNotPresent"),
        ("host:5000/a", "Always"),
        ("host:5000/a:1", "IfNotPresent"),
        ("a@sha256:0", "IfNotPresent"),
    ] {
        let pod = pod(json!({"containers": [{"name": "c", "image": image}]}));
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn what_is_wrong_with_a_pod() {
    for (spec, expected) in [
        (json!({}), "spec.containers: Required value"),
        (
            json!({"containers": [{"image": "a"}]}),
            "spec.containers[0].name: Required value",
        ),
        (
            json!({"containers": [{"name": "c"}]}),
            "spec.containers[0].image: Required value",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a"}, {"name": "c", "image": "a"}]}),
            "spec.containers[1].name: Duplicate value: \"c\"",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a"}], "restartPolicy": "Maybe"}),
            "spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a", "ports": [{"containerPort": 70000}]}]}),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}]}),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a"}], "volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a", "env": [{"name": "A", "valueFrom": {}}]}]}),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, \
             `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a", "livenessProbe": {}}]}),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a"}], "initContainers": [{"name": "i", "image": "a", "readinessProbe": {"exec": {"command": ["x"]}}}]}),
            "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a"}], "tolerations": [{"value": "x"}]}),
            "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \
             \"match all values and all keys\"",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a"}], "activeDeadlineSeconds": 0}),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
    ] {
        assert_eq!(texts((KIND.validate)(&pod(spec.clone()))), [expected], "{spec}");
    }
}

#[test]
fn what_may_change_in_a_running_pod() {
    let old = simple();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new["spec"]);
        texts((KIND.validate_update)(&new, &old))
    };
    assert!(changed(&|s| s["containers"][0]["image"] = json!("busybox:2")).is_empty());
    assert!(changed(&|s| s["activeDeadlineSeconds"] = json!(5)).is_empty());
    assert!(changed(&|s| s["tolerations"] = json!([{"operator": "Exists"}])).is_empty());
    let refused = changed(&|s| s["nodeName"] = json!("n1"));
    assert_eq!(
        refused,
        [
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
          `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
          tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously \
          negative)\n- nodeName: null\n+ nodeName: \"n1\""
        ]
    );
    assert_eq!(
        changed(&|s| s["containers"] = json!([])),
        [
            "spec.containers: Required value",
            "spec.containers: Forbidden: pod updates may not add or remove containers"
        ]
    );
}

#[test]
fn writers_keep_to_their_part() {
    let mut old = simple();
    (KIND.prepare_create)(&mut old);
    let mut new = old.clone();
    new["status"]["phase"] = json!("Running");
    new["spec"]["containers"][0]["image"] = json!("other");
    let (mut spec_write, mut status_write) = (new.clone(), new);
    (KIND.prepare_update)(&mut spec_write, &old);
    assert_eq!(spec_write["status"]["phase"], "Pending");
    assert_eq!(spec_write["metadata"]["generation"], 2);
    (KIND.prepare_status)(&mut status_write, &old);
    assert_eq!(status_write["status"]["phase"], "Running");
    assert_eq!(status_write["spec"], old["spec"]);
    assert_eq!(status_write["metadata"]["generation"], 1);
}

#[test]
fn ephemeral_containers_are_only_added() {
    let old = simple();
    let mut new = old.clone();
    new["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "a"}]);
    new["spec"]["nodeName"] = json!("n1");
    (KIND.default)(&mut new);
    let part = KIND.part("ephemeralcontainers").unwrap();
    (part.prepare)(&mut new, &old);
    assert!(new["spec"].get("nodeName").is_none());
    assert_eq!(texts((part.validate)(&new, &old)), [""; 0]);
    assert_eq!(texts((part.validate)(&old, &new)).len(), 1);
}

#[test]
fn grace_periods() {
    let mut p = simple();
    assert_eq!((KIND.graceful_delete)(&p, None), None);
    p["spec"]["nodeName"] = json!("n1");
    assert_eq!((KIND.graceful_delete)(&p, None), Some(30));
    assert_eq!((KIND.graceful_delete)(&p, Some(5)), Some(5));
    assert_eq!((KIND.graceful_delete)(&p, Some(0)), None);
    assert_eq!((KIND.graceful_delete)(&p, Some(-3)), Some(1));
    p["status"] = json!({"phase": "Succeeded"});
    assert_eq!((KIND.graceful_delete)(&p, None), None);
}

fn columns(extra: Value) -> Vec<String> {
    let mut p = simple();
    p["metadata"]["creationTimestamp"] = json!("2024-01-01T00:00:00Z");
    for (key, value) in extra.as_object().unwrap() {
        match key.as_str() {
            "deleted" => p["metadata"]["deletionTimestamp"] = value.clone(),
            "init" => p["spec"]["initContainers"] = value.clone(),
            _ => p[key] = value.clone(),
        }
    }
    let now = "2024-01-01T00:05:03Z".parse().unwrap();
    (KIND.row)(&p, now)[1..5]
        .iter()
        .map(|c| c.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn rows_are_those_of_kubectl() {
    let running = json!({"name": "c", "ready": true, "restartCount": 0, "state": {"running": {}}});
    for (object, expected) in [
        (
            json!({"status": {"phase": "Pending"}}),
            ["0/1", "Pending", "0", "5m3s"],
        ),
        (
            json!({"status": {"phase": "Running", "containerStatuses": [running]}}),
            ["1/1", "Running", "0", "5m3s"],
        ),
        (
            json!({"status": {"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"finishedAt": "2024-01-01T00:04:58Z"}}}]}}),
            ["0/1", "CrashLoopBackOff", "3 (5s ago)", "5m3s"],
        ),
        (
            json!({"status": {"phase": "Succeeded", "containerStatuses": [{"name": "c",
                "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}}),
            ["0/1", "Completed", "0", "5m3s"],
        ),
        (
            json!({"status": {"phase": "Failed", "containerStatuses": [{"name": "c",
                "state": {"terminated": {"exitCode": 3}}}]}}),
            ["0/1", "ExitCode:3", "0", "5m3s"],
        ),
        (
            json!({"init": [{"name": "i"}, {"name": "j"}], "status": {"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"running": {}}}]}}),
            ["0/1", "Init:1/2", "0", "5m3s"],
        ),
        (
            json!({"init": [{"name": "i"}], "status": {"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}),
            ["0/1", "Init:CrashLoopBackOff", "2", "5m3s"],
        ),
        (
            json!({"init": [{"name": "i", "restartPolicy": "Always"}], "status": {"phase": "Running",
                "initContainerStatuses": [{"name": "i", "ready": true, "started": true, "state": {"running": {}}}],
                "containerStatuses": [running]}}),
            ["2/2", "Running", "0", "5m3s"],
        ),
        (
            json!({"deleted": "2024-01-01T00:05:00Z", "status": {"phase": "Running", "containerStatuses": [running]}}),
            ["1/1", "Terminating", "0", "5m3s"],
        ),
        (
            json!({"status": {"phase": "Failed", "reason": "Evicted"}}),
            ["0/1", "Evicted", "0", "5m3s"],
        ),
    ] {
        assert_eq!(columns(object.clone()), expected, "{object}");
    }
}

#[test]
fn ended_containers_stay_ended() {
    let mut old = simple();
    old["spec"]["restartPolicy"] = json!("Never");
    old["status"] = json!({"containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 1}}}]});
    let mut new = old.clone();
    new["status"]["containerStatuses"][0]["state"] = json!({"running": {}});
    assert_eq!(
        texts((KIND.validate_status)(&new, &old)),
        ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
    );
}

#[test]
fn single_and_listed_addresses_agree() {
    let old = simple();
    let mut new = old.clone();
    new["status"] = json!({"podIP": "10.0.0.1"});
    (KIND.prepare_status)(&mut new, &old);
    assert_eq!(new["status"]["podIPs"], json!([{"ip": "10.0.0.1"}]));
    let fields = KIND.selectable(&new);
    assert!(fields.contains(&("status.podIP", "10.0.0.1".to_owned())));
}
