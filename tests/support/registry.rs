//! Debian's docker-registry on loopback.

use std::path::Path;
use std::process::{Command, Stdio};

use super::cluster::curl;
use super::running::Running;
use super::{eventually, tools};

/// A running registry; ended when dropped.
pub struct Registry {
    /// `127.0.0.1:PORT`.
    pub address: String,
    _server: Running,
}

impl Registry {
    /// Starts a registry that keeps its content below `dir`.
    pub fn start(dir: &Path) -> Self {
        Self::start_at(dir, "127.0.0.1:5000", "", "", &[])
    }

    /// Starts one behind TLS, with an authority of its own at `ca.pem`, for
    /// user `edge` with password `secret` alone.
    pub fn private(dir: &Path, address: &str) -> Self {
        certificate(dir, address);
        // Bcrypt of "secret".
        let users = "edge:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
        std::fs::write(dir.join("htpasswd"), users).expect("htpasswd");
        let file = |name: &str| dir.join(name).display().to_string();
        let tls = format!(
            ", tls: {{certificate: {}, key: {}}}",
            file("server.pem"),
            file("server.key")
        );
        let auth = format!(
            "auth: {{htpasswd: {{realm: edge, path: {}}}}}\n",
            file("htpasswd")
        );
        let ca = file("ca.pem");
        Self::start_at(dir, address, &tls, &auth, &["--cacert", &ca, "-u", "edge:secret"])
    }

    fn start_at(dir: &Path, address: &str, tls: &str, auth: &str, curl_args: &[&str]) -> Self {
        let address = address.to_owned();
        let config = dir.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}{tls}}}\n{auth}",
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
            _server: Running(child.expect("docker-registry (make setup unpacks it)")),
        };
        let scheme = if tls.is_empty() { "http" } else { "https" };
        let url = format!("{scheme}://{}/v2/", registry.address);
        eventually("the registry", || curl(&[curl_args, &[&url]].concat()));
        registry
    }

    /// Pushes an OCI archive; the reference to pull it by.
    pub fn push(&self, archive: &Path, name: &str) -> String {
        let reference = format!("{}/{name}", self.address);
        copy(archive, &format!("docker://{reference}"));
        reference
    }
}

/// An authority of its own, and a certificate for the address by it.
fn certificate(dir: &Path, address: &str) {
    let ip = address.split(':').next().unwrap_or_default();
    let script = format!(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=edge-ca -keyout ca.key -out ca.pem && \
         openssl req -newkey rsa:2048 -nodes -subj /CN=registry -keyout server.key -out server.csr && \
         printf 'subjectAltName=IP:{ip}\n' > san && \
         openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.pem"
    );
    let out = Command::new("sh")
        .args(["-c", &script])
        .current_dir(dir)
        .output()
        .expect("sh");
    assert!(
        out.status.success(),
        "openssl: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// Copies an OCI archive to wherever skopeo can.
pub fn copy(archive: &Path, target: &str) {
    copy_with(archive, target, &[]);
}

/// The same with more of skopeo's flags.
pub fn copy_with(archive: &Path, target: &str, flags: &[&str]) {
    let out = Command::new("skopeo")
        .args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"])
        .args(flags)
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
