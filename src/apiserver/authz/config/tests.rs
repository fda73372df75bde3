//! What the file may say, and what it may not.

use super::*;

const FILE: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- type: Webhook
  name: first
  webhook:
    authorizedTTL: 1m30s
    timeout: 3s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: /etc/webhook}
    matchConditions:
    - expression: has(request.resourceAttributes)
- {type: Node, name: node}
- {type: RBAC, name: rbac}
";

#[test]
fn a_file_is_read() {
    let read = AuthorizationConfiguration::parse(FILE).unwrap();
    let sorts: Vec<&str> = read.authorizers.iter().map(|one| one.sort.as_str()).collect();
    assert_eq!(sorts, ["Webhook", "Node", "RBAC"]);
    let webhook = read.authorizers[0].webhook.as_ref().unwrap();
    assert_eq!(webhook.authorized(), Ok(Duration::from_secs(90)));
    assert_eq!(webhook.unauthorized(), Ok(Duration::from_secs(30)));
}

#[test]
fn mistakes_are_named_by_field() {
    for (old, new, why) in [
        (
            "timeout: 3s",
            "timeout: 31s",
            "authorizers[0].webhook.timeout: Invalid value",
        ),
        (
            "timeout: 3s",
            "timeout: soon",
            "authorizers[0].webhook.timeout: Invalid value",
        ),
        (
            "failurePolicy: Deny",
            "failurePolicy: Maybe",
            "failurePolicy: Unsupported value",
        ),
        ("name: rbac", "name: node", "authorizers[2].name: Duplicate value"),
        ("type: RBAC", "type: Node", "authorizers[2].type: Duplicate value"),
        (
            "type: RBAC",
            "type: ABAC",
            "authorizers[2].type: Unsupported value",
        ),
        (
            "KubeConfigFile, kube",
            "InClusterConfig, kube",
            "connectionInfo.type: Unsupported value",
        ),
        (
            "kind: AuthorizationConfiguration",
            "kind: Other",
            "expected an AuthorizationConfiguration",
        ),
    ] {
        let error = AuthorizationConfiguration::parse(&FILE.replace(old, new)).unwrap_err();
        assert!(error.contains(why), "{new}: {error}");
    }
    let none = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n";
    assert!(AuthorizationConfiguration::parse(none).is_err());
}

#[test]
fn short_settings_say_the_same() {
    let modes = |text: &str| Some(text.split(',').map(str::to_owned).collect());
    let default = AuthorizationConfiguration::of(&AuthorizationSettings::default()).unwrap();
    assert_eq!(default.authorizers.len(), 2);
    let mut settings = AuthorizationSettings {
        modes: modes("Node,RBAC,Webhook"),
        ..AuthorizationSettings::default()
    };
    assert!(
        AuthorizationConfiguration::of(&settings)
            .unwrap_err()
            .contains("requires")
    );
    settings.webhook = Some("/etc/webhook".into());
    settings.unauthorized_ttl = Some(7);
    let told = AuthorizationConfiguration::of(&settings).unwrap();
    let webhook = told.authorizers[2].webhook.as_ref().unwrap();
    assert_eq!(webhook.unauthorized(), Ok(Duration::from_secs(7)));
    assert_eq!(webhook.failure_policy, "NoOpinion");
    settings.modes = modes("RBAC");
    assert!(AuthorizationConfiguration::of(&settings).is_err());
}
