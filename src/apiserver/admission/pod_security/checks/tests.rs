use serde_json::{Value, json};

use super::super::policy::Version;
use super::*;

fn broken(level: Level, minor: Option<u32>, metadata: &Value, spec: &Value) -> String {
    let standard = Standard {
        level,
        version: minor.map_or(Version::Latest, Version::Minor),
    };
    details(&violations(standard, &Subject { metadata, spec }))
}

fn latest(level: Level, spec: Value) -> String {
    broken(level, None, &json!({}), &spec)
}

fn hardened(mut more: Value) -> Value {
    let mut spec = json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
    });
    for (key, value) in more.as_object_mut().unwrap() {
        spec[key] = value.take();
    }
    spec
}

#[test]
fn an_ordinary_pod_meets_the_baseline_and_a_hardened_one_everything() {
    let plain = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    assert_eq!(latest(Level::Privileged, plain.clone()), "");
    assert_eq!(latest(Level::Baseline, plain.clone()), "");
    assert_eq!(
        latest(Level::Restricted, plain),
        "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers \"a\", \"b\" must \
         set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or containers \"a\", \"b\" must \
         set securityContext.runAsNonRoot=true), seccompProfile (pod or containers \"a\", \"b\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    assert_eq!(latest(Level::Restricted, hardened(json!({}))), "");
}

#[test]
fn everything_of_the_host_breaks_the_baseline() {
    let spec = json!({
        "hostNetwork": true, "hostPID": true,
        "securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}],
            "windowsOptions": {"hostProcess": true}},
        "volumes": [{"name": "etc", "hostPath": {"path": "/etc"}}],
        "initContainers": [{"name": "i", "ports": [{"hostPort": 9090}]}],
        "containers": [{"name": "a", "ports": [{"hostPort": 80}],
            "livenessProbe": {"httpGet": {"host": "example.com", "port": 1}},
            "securityContext": {"privileged": true, "capabilities": {"add": ["NET_RAW", "CHOWN"]}}}],
    });
    assert_eq!(
        latest(Level::Baseline, spec),
        "non-default capabilities (container \"a\" must not include \"NET_RAW\" in \
         securityContext.capabilities.add), host namespaces (hostNetwork=true, hostPID=true), hostPath volumes \
         (volume \"etc\"), hostPort (containers \"i\", \"a\" use hostPorts 80, 9090), probe or lifecycle host \
         (container \"a\" uses probe or lifecycle host \"example.com\"), privileged (container \"a\" must not set \
         securityContext.privileged=true), forbidden sysctls (kernel.msgmax), hostProcess (pod must not set \
         securityContext.windowsOptions.hostProcess=true)"
    );
}

#[test]
fn profiles_may_be_chosen_but_not_left() {
    let spec = json!({
        "securityContext": {"seccompProfile": {"type": "Unconfined"},
            "seLinuxOptions": {"type": "spc_t", "user": "root"}},
        "containers": [{"name": "a", "securityContext": {"procMount": "Unmasked",
            "appArmorProfile": {"type": "Unconfined"}}}],
    });
    let metadata = json!({"annotations": {"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}});
    assert_eq!(
        broken(Level::Baseline, None, &metadata, &spec),
        "forbidden AppArmor profiles (container \"a\" and annotation must not set AppArmor profile type to \
         \"Unconfined\", \"container.apparmor.security.beta.kubernetes.io/a=\"unconfined\"\"), procMount (container \
         \"a\" must not set securityContext.procMount to \"Unmasked\"), seLinuxOptions (pod set forbidden \
         securityContext.seLinuxOptions: type \"spc_t\"; user may not be set), seccompProfile (pod must not set \
         securityContext.seccompProfile.type to \"Unconfined\")"
    );
}

#[test]
fn restricted_pods_choose_few_volumes_and_no_root() {
    let volumes =
        json!([{"name": "n", "nfs": {}}, {"name": "h", "hostPath": {}}, {"name": "s", "secret": {}}]);
    assert_eq!(
        latest(Level::Restricted, hardened(json!({"volumes": volumes}))),
        "restricted volume types (volumes \"n\", \"h\" use restricted volume types \"hostPath\", \"nfs\")"
    );
    let root = json!({"runAsNonRoot": false, "runAsUser": 0, "seccompProfile": {"type": "Localhost"}});
    assert_eq!(
        latest(Level::Restricted, hardened(json!({"securityContext": root}))),
        "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod must not set \
         runAsUser=0)"
    );
    // Root inside a user namespace is nobody outside.
    let own = hardened(json!({"securityContext": root, "hostUsers": false}));
    assert_eq!(latest(Level::Restricted, own), "");
}

#[test]
fn older_versions_ask_for_less() {
    let none = json!({});
    let at = |minor, spec: &Value| broken(Level::Restricted, Some(minor), &none, spec);
    let root = hardened(json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 0,
        "seccompProfile": {"type": "RuntimeDefault"}}}));
    assert_eq!(at(22, &root), "");
    assert_eq!(at(23, &root), "runAsUser=0 (pod must not set runAsUser=0)");
    let silent = json!({"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "a"}]});
    assert_eq!(at(7, &silent), "");
    let loose = json!({"seccomp.security.alpha.kubernetes.io/pod": "unconfined"});
    assert_eq!(
        broken(Level::Baseline, Some(18), &json!({"annotations": loose}), &silent),
        "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")"
    );
    let windows = json!({"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true},
        "containers": [{"name": "a"}]});
    assert_eq!(latest(Level::Restricted, windows.clone()), "");
    assert!(at(24, &windows).contains("allowPrivilegeEscalation != false"));
}
