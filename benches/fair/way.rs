//! Accounts, how they get in, and what they write.

use client::{Credentials, Kubeconfig, tls};
use http::Method;
use serde_json::{Value, json};
use wire::Wire;

use crate::node::Node;

/// How an account gets in.
pub struct Way {
    server: String,
    ca_pem: String,
    token: String,
}

impl Way {
    /// A connection of its own.
    pub async fn wire(&self) -> anyhow::Result<Wire> {
        let nobody = Credentials::default();
        let tls = tls::config(&self.ca_pem, &nobody, &[b"h2"])?;
        Wire::open(&self.server, tls).await?.bearing(&self.token)
    }
}

/// The text of an object.
pub fn map(name: &str, bytes: usize) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "x".repeat(bytes)}})
        .to_string()
}

/// A service account with an editor's rights in `default`.
pub async fn account(node: &Node, admin: &Wire, name: &str) -> anyhow::Result<Way> {
    let core = "/api/v1/namespaces/default/serviceaccounts";
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
    admin.ask(Method::POST, core, object.to_string()).await?;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}]});
    admin.ask(Method::POST, rbac, binding.to_string()).await?;
    let asked = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let answer = admin
        .ask(Method::POST, &format!("{core}/{name}/token"), asked.to_string())
        .await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    let config = Kubeconfig::read(&node.kubeconfig())?.http_config();
    Ok(Way {
        server: config.server,
        ca_pem: config.ca_pem,
        token: answer["status"]["token"].as_str().unwrap_or_default().to_owned(),
    })
}
