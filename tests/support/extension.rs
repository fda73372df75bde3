//! The server of `programs/extension.rs`, which extends the API, and objects that lead to it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::running::Running;
use super::sandbox::NODE_IP;
use super::{Cluster, eventually, tools, webhook};

/// Where it listens.
pub const PORT: u16 = 8443;

/// A server that extends the API, on the cluster's own host; it ends with this value.
pub struct Extension {
    server: Running,
    folder: PathBuf,
}

impl Extension {
    /// Starts one that trusts those front proxies that the cluster tells of.
    pub fn start(dir: &Path, cluster: &Cluster) -> Self {
        let folder = dir.join("extension");
        std::fs::create_dir_all(&folder).expect("a folder");
        let authorities = eventually("the front proxies' authority", || {
            let path = r"{.data.requestheader-client-ca-file}";
            cluster.try_ok(&[
                "get",
                "configmap",
                "extension-apiserver-authentication",
                "-n",
                "kube-system",
                "-o",
                &format!("jsonpath={path}"),
            ])
        });
        std::fs::write(folder.join("authorities"), authorities).expect("a file");
        let child = Command::new(tools::example("extension"))
            .arg(format!("0.0.0.0:{PORT}"))
            .arg(&folder)
            .arg(folder.join("authorities"))
            .arg("boats.default.svc")
            .stdin(Stdio::null())
            .spawn()
            .expect("the extension's server");
        let made = Self {
            server: Running(child),
            folder,
        };
        made.bundle();
        made
    }

    /// Lets its connections be made, and answers nobody any more.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Goes on after that.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.server.0.id()).expect("a pid");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("a signal");
    }

    /// Its certificate, as an APIService carries it.
    pub fn bundle(&self) -> String {
        webhook::bundle(&self.folder)
    }
}

/// The APIService of `boats.example.com/v1`, with more in its spec.
pub fn api_service(more: &Value) -> String {
    let mut spec = json!({
        "group": "boats.example.com", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 10,
        "service": {"namespace": "default", "name": "boats", "port": 443},
    });
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.boats.example.com"}, "spec": spec})
    .to_string()
}

/// The Service that leads to it, without endpoints.
pub fn service() -> String {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "boats", "namespace": "default"},
        "spec": {"ports": [{"name": "https", "port": 443, "targetPort": PORT}]}})
    .to_string()
}

/// The Service's endpoints.
pub fn slice() -> String {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "boats", "namespace": "default", "labels": {"kubernetes.io/service-name": "boats"}},
        "ports": [{"name": "https", "port": PORT, "protocol": "TCP"}],
        "endpoints": [{"addresses": [NODE_IP], "conditions": {"ready": true}}]})
    .to_string()
}
