//! Manifests, indexes and configurations, as far as running an image needs
//! them (OCI image specification 1.1, docker's schema 2, and the CNCF Wasm
//! artifact layout).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{ImageConfig, ImageError};

/// What a registry may answer when asked for a manifest.
pub(super) const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const WASM_LAYER: &str = "application/wasm";

/// Points to content.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) platform: Option<Platform>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// What a program runs on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Platform {
    pub(super) architecture: String,
    pub(super) os: String,
}

impl Platform {
    pub(super) fn is_wasm(&self) -> bool {
        self.os.starts_with("wasi") || self.architecture.starts_with("wasm")
    }

    fn is_ours(&self) -> bool {
        self.os == "linux" && self.architecture == architecture()
    }
}

/// This machine, in the names of images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A manifest or an index: which one it is shows in what it has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Manifest {
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Vec<Descriptor>,
    pub(super) manifests: Vec<Descriptor>,
    pub(super) annotations: BTreeMap<String, String>,
}

impl Manifest {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        serde_json::from_slice(bytes)
            .map_err(|error| ImageError::Unusable(format!("malformed manifest: {error}")))
    }

    pub(super) fn is_index(&self) -> bool {
        self.config.is_none() && !self.manifests.is_empty()
    }

    /// The entry of an index that runs here: this machine's, else Wasm, else one that does not say.
    pub(super) fn choose(&self) -> Result<&Descriptor, ImageError> {
        let find = |fits: &dyn Fn(&Platform) -> bool| {
            self.manifests
                .iter()
                .find(|m| m.platform.as_ref().is_some_and(fits))
        };
        find(&Platform::is_ours)
            .or_else(|| find(&Platform::is_wasm))
            .or_else(|| self.manifests.iter().find(|m| m.platform.is_none()))
            .ok_or_else(|| {
                let there: Vec<String> = self
                    .manifests
                    .iter()
                    .filter_map(|m| {
                        m.platform
                            .as_ref()
                            .map(|p| format!("{}/{}", p.os, p.architecture))
                    })
                    .collect();
                ImageError::Unusable(format!(
                    "no match for platform in manifest: linux/{} is wanted, {} is there",
                    architecture(),
                    there.join(", ")
                ))
            })
    }

    /// The layer that is a Wasm program, where the artifact itself says so.
    pub(super) fn wasm_layer(&self) -> Option<&Descriptor> {
        let cncf = self
            .config
            .as_ref()
            .is_some_and(|config| config.media_type == WASM_CONFIG);
        self.layers.iter().find(|layer| {
            let kind = layer.media_type.as_str();
            kind == WASM_LAYER || is_runwasi(kind) || (cncf && self.layers.len() == 1)
        })
    }
}

/// The layer types under which runwasi's tools store programs.
fn is_runwasi(media_type: &str) -> bool {
    (media_type.starts_with("application/vnd.bytecodealliance.wasm.") && media_type.ends_with("+wasm"))
        || media_type == "application/vnd.wasm.content.layer.v1+wasm"
        || media_type == "application/vnd.w3c.wasm.module.v1+wasm"
        || media_type == "application/vnd.w3c.wasm.component.v1+wasm"
}

/// An image configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Configuration {
    #[serde(flatten)]
    pub(super) platform: Platform,
    pub(super) config: Option<Process>,
    pub(super) rootfs: RootFs,
}

/// The layers of a root file system by the digests of their unpacked archives.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RootFs {
    pub(super) diff_ids: Vec<String>,
}

/// How to run it; capitalised as docker wrote it first.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Process {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: String,
    user: String,
    stop_signal: String,
    labels: Option<BTreeMap<String, String>>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
}

impl Configuration {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        serde_json::from_slice(bytes)
            .map_err(|error| ImageError::Unusable(format!("malformed image configuration: {error}")))
    }

    pub(super) fn process(&self) -> ImageConfig {
        let from = self.config.clone().unwrap_or_default();
        ImageConfig {
            entrypoint: from.entrypoint.unwrap_or_default(),
            cmd: from.cmd.unwrap_or_default(),
            env: from.env.unwrap_or_default(),
            working_dir: from.working_dir,
            user: from.user,
            stop_signal: from.stop_signal,
            labels: from.labels.unwrap_or_default(),
            volumes: from.volumes.unwrap_or_default().into_keys().collect(),
        }
    }
}

/// Whether annotations of a manifest say that the ordinary image holds a Wasm program.
pub(super) fn annotated_as_wasm(annotations: &BTreeMap<String, String>) -> bool {
    ["module.wasm.image/variant", "run.oci.handler"]
        .iter()
        .any(|name| {
            annotations
                .get(*name)
                .is_some_and(|value| value.starts_with("compat") || value == "wasm")
        })
}

/// The hex digits of a `sha256:` digest.
///
/// # Errors
/// When it is not one; a digest becomes part of a path, so nothing else may pass.
pub(super) fn hex(digest: &str) -> Result<&str, ImageError> {
    digest
        .strip_prefix("sha256:")
        .filter(|hex| {
            hex.len() == 64
                && hex
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        })
        .ok_or_else(|| ImageError::Unusable(format!("unsupported or malformed digest {digest:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_platform_is_chosen() {
        let index = format!(
            r#"{{"manifests": [
                {{"digest": "a", "platform": {{"os": "windows", "architecture": "amd64"}}}},
                {{"digest": "w", "platform": {{"os": "wasi", "architecture": "wasm"}}}},
                {{"digest": "l", "platform": {{"os": "linux", "architecture": "{}"}}}}]}}"#,
            architecture()
        );
        let index = Manifest::parse(index.as_bytes()).unwrap();
        assert!(index.is_index());
        assert_eq!(index.choose().unwrap().digest, "l");
        let only_windows =
            r#"{"manifests": [{"digest": "a", "platform": {"os": "windows", "architecture": "x"}}]}"#;
        let error = Manifest::parse(only_windows.as_bytes())
            .unwrap()
            .choose()
            .unwrap_err();
        assert!(error.to_string().contains("windows/x is there"), "{error}");
    }

    #[test]
    fn wasm_artifacts_are_recognised() {
        let cncf = r#"{"config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": "c"},
            "layers": [{"mediaType": "application/wasm", "digest": "m"}]}"#;
        assert_eq!(
            Manifest::parse(cncf.as_bytes())
                .unwrap()
                .wasm_layer()
                .unwrap()
                .digest,
            "m"
        );
        let runwasi = r#"{"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "c"},
            "layers": [{"mediaType": "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm", "digest": "m"}]}"#;
        assert_eq!(
            Manifest::parse(runwasi.as_bytes())
                .unwrap()
                .wasm_layer()
                .unwrap()
                .digest,
            "m"
        );
        let plain = r#"{"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "c"},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "m"}]}"#;
        assert!(Manifest::parse(plain.as_bytes()).unwrap().wasm_layer().is_none());
    }

    #[test]
    fn digests_that_could_be_paths_are_refused() {
        assert!(hex("sha256:../../etc/passwd").is_err());
        assert!(hex(&format!("sha256:{}", "a".repeat(64))).is_ok());
        assert!(hex(&format!("sha512:{}", "a".repeat(64))).is_err());
    }
}
