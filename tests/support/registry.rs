//! Debian's docker-registry on loopback.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::cluster::curl;
use super::{eventually, tools};

/// A running registry; ended when dropped.
pub struct Registry {
    /// `127.0.0.1:PORT`.
    pub address: String,
    child: Child,
}

impl Registry {
    /// Starts a registry that keeps its content below `dir`.
    pub fn start(dir: &Path) -> Self {
        let address = "127.0.0.1:5000".to_owned();
        let config = dir.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n",
            dir.join("registry").display()
        );
        std::fs::write(&config, text).expect("registry.yml");
        let mut command = Command::new(tools::registry());
        let child = command
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let registry = Self {
            address,
            child: child.expect("docker-registry (make setup unpacks it)"),
        };
        eventually("the registry", || {
            curl(&[&format!("http://{}/v2/", registry.address)])
        });
        registry
    }

    /// Pushes an OCI archive; the reference to pull it by.
    pub fn push(&self, archive: &Path, name: &str) -> String {
        let reference = format!("{}/{name}", self.address);
        copy(archive, &format!("docker://{reference}"));
        reference
    }
}

/// Copies an OCI archive to wherever skopeo can.
pub fn copy(archive: &Path, target: &str) {
    let out = Command::new("skopeo")
        .args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"])
        .arg(format!("oci-archive:{}", archive.display()))
        .arg(target)
        .output()
        .expect("skopeo");
    assert!(
        out.status.success(),
        "skopeo: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
