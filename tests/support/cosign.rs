//! Signing images as `cosign sign --key` does, by openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::cluster::curl;
use super::{images, registry};

/// Somebody who signs images.
pub struct Signer {
    dir: PathBuf,
    name: String,
}

impl Signer {
    /// Makes a pair of keys as `cosign generate-key-pair` does, but for the password.
    pub fn new(dir: &Path, name: &str) -> Self {
        let signer = Self {
            dir: dir.to_owned(),
            name: name.to_owned(),
        };
        let kind = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
        let key = signer.file("key");
        openssl(
            Command::new("openssl")
                .arg("genpkey")
                .args(kind)
                .arg("-out")
                .arg(&key),
        );
        openssl(
            Command::new("openssl")
                .args(["pkey", "-pubout", "-in"])
                .arg(&key)
                .arg("-out")
                .arg(signer.public()),
        );
        signer
    }

    /// The file of the public key.
    pub fn public(&self) -> PathBuf {
        self.file("pub")
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.dir.join(format!("{}.{kind}", self.name))
    }

    /// Signs what a registry without TLS has under `HOST:PORT/NAME:TAG`, and
    /// leaves the signature beside it.
    pub fn sign(&self, reference: &str) {
        let (repository, tag) = reference.rsplit_once(':').expect("a tag");
        let (host, name) = repository.split_once('/').expect("a host");
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
        let manifest = curl(&["-H", accept, &format!("http://{host}/v2/{name}/manifests/{tag}")]);
        let digest = images::digest(manifest.expect("a manifest").as_bytes());
        let payload = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{repository}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        let (signed, signature) = (self.file("payload"), self.file("signature"));
        std::fs::write(&signed, &payload).expect("the payload");
        let mut command = Command::new("openssl");
        command.args(["dgst", "-sha256", "-sign"]).arg(self.file("key"));
        openssl(command.arg("-out").arg(&signature).arg(&signed));
        let signature = STANDARD.encode(std::fs::read(&signature).expect("the signature"));
        let archive = images::signature_archive(&self.dir, payload.as_bytes(), &signature);
        registry::copy(
            &archive,
            &format!("docker://{repository}:{}.sig", digest.replace(':', "-")),
        );
    }
}

fn openssl(command: &mut Command) {
    let out = command.output().expect("openssl");
    assert!(
        out.status.success(),
        "openssl: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}
