//! The webhook server of `programs/webhook.rs`, and configurations that lead to it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::running::Running;
use super::{Cluster, eventually, tools};

/// Where a server on the cluster's own host listens.
const ADDRESS: &str = "127.0.0.1:9443";

/// A webhook server that runs on the host; it ends with this value.
pub struct Webhook {
    _server: Running,
    folder: PathBuf,
}

/// Where the program lies, and the folder that it writes to.
pub fn program() -> PathBuf {
    tools::example("webhook")
}

/// The certificate that a server has made itself, as configurations carry it.
pub fn bundle(folder: &Path) -> String {
    let file = folder.join("ca.crt");
    let pem = eventually("the webhook's certificate", || {
        std::fs::read(&file).map_err(|error| error.to_string())
    });
    STANDARD.encode(pem)
}

/// A file in the form of a kubeconfig that leads to somebody whose authority's file is this.
pub fn leading_to(url: &str, authority: &Path) -> String {
    json!({"apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": url, "certificate-authority": authority}}],
        "users": [{"name": "it", "user": {}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}]})
    .to_string()
}

impl Webhook {
    /// Starts one.
    pub fn start(dir: &Path) -> Self {
        let folder = dir.join("webhook");
        std::fs::create_dir_all(&folder).expect("a folder");
        let child = Command::new(program())
            .args([ADDRESS, folder.to_str().expect("a path of text"), "127.0.0.1"])
            .stdin(Stdio::null())
            .spawn()
            .expect("the webhook server");
        bundle(&folder);
        Self {
            _server: Running(child),
            folder,
        }
    }

    /// `clientConfig` that leads to it.
    pub fn client(&self, path: &str) -> Value {
        json!({"url": format!("https://{ADDRESS}{path}"), "caBundle": bundle(&self.folder)})
    }

    /// Holds what comes to `/hold` from now on, until [`Webhook::release`].
    pub fn hold(&self) {
        let _ = std::fs::remove_file(self.folder.join("released"));
    }

    /// Lets go of what it holds.
    pub fn release(&self) {
        std::fs::write(self.folder.join("released"), "").expect("a file");
    }

    /// What it was asked so far.
    pub fn requests(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("requests")).unwrap_or_default();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("a request"));
        lines.collect()
    }
}

/// A webhook about ConfigMaps that are made, with more of its own.
pub fn about_maps(name: &str, client: &Value, more: &Value) -> Value {
    let mut hook = json!({
        "name": format!("{name}.example.com"), "clientConfig": client, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "timeoutSeconds": 5,
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
        "matchConditions": [{"name": "not-ours", "expression": "object.metadata.name != 'kube-root-ca.crt'"}],
    });
    for (key, value) in more.as_object().expect("an object") {
        hook[key] = value.clone();
    }
    hook
}

impl Cluster {
    /// Applies a configuration (`Validating` or `Mutating`) with one webhook; its name.
    pub fn hook(&self, sort: &str, name: &str, hook: &Value) -> String {
        let manifest = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{sort}WebhookConfiguration"),
            "metadata": {"name": name}, "webhooks": [hook],
        });
        self.apply(&manifest.to_string());
        format!("{}webhookconfiguration/{name}", sort.to_lowercase())
    }
}
