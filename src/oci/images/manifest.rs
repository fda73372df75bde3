//! Manifests, indexes and configurations, as far as running an image needs
//! them (OCI image specification 1.1, docker's schema 2, and the CNCF Wasm
//! artifact layout).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{ImageConfig, ImageError};

/// What a registry is told that it may answer when asked for a manifest.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// Manifests, indexes and configurations are read whole, so they must be small.
pub(super) const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// Indexes that lie within one another.
pub(super) const INDEX_DEPTH_MAX: usize = 4;
/// Layers of an image: their names must fit into the one page of a mount's options.
pub(super) const LAYERS_MAX: usize = 110;

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
    /// Of an entry in a list of referrers: what it is.
    pub(super) artifact_type: Option<String>,
    /// Null in some registries' answers.
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    /// What an annotation says.
    pub(super) fn annotation(&self, name: &str) -> Option<&String> {
        self.annotations.as_ref()?.get(name)
    }

    /// Whether it is content that registries do not hold: Windows' base layers, mostly.
    fn is_foreign(&self) -> bool {
        self.media_type.contains(".foreign.") || self.media_type.contains(".nondistributable.")
    }
}

/// What a program runs on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Platform {
    pub(super) architecture: String,
    pub(super) os: String,
    pub(super) variant: String,
}

impl Platform {
    pub(super) fn is_wasm(&self) -> bool {
        self.os.starts_with("wasi") || self.architecture.starts_with("wasm")
    }

    /// How well it fits this machine; `None`: not at all. The baseline of an
    /// architecture fits best, since it runs for certain.
    fn fits(&self) -> Option<u8> {
        if self.os != "linux" || self.architecture != architecture() {
            return None;
        }
        match self.variant.as_str() {
            "" | "v1" | "v8" => Some(0),
            variant if has_variant(variant) => Some(1),
            _ => None,
        }
    }
}

/// Whether this machine's processor runs programs for that variant of its architecture.
fn has_variant(variant: &str) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let v2 = std::is_x86_feature_detected!("sse4.2") && std::is_x86_feature_detected!("popcnt");
        let v3 = v2 && std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("bmi2");
        matches!((variant, v2, v3), ("v2", true, _) | ("v3", _, true))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = variant;
        false
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
    pub(super) schema_version: Option<u32>,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Vec<Descriptor>,
    pub(super) manifests: Vec<Descriptor>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let manifest: Manifest = serde_json::from_slice(bytes)
            .map_err(|error| ImageError::Unusable(format!("malformed manifest: {error}")))?;
        if manifest.schema_version == Some(1) {
            return Err(ImageError::Unusable(
                "the image has docker's old manifest (schema 1), which is no longer supported: push it again \
                 with a current tool"
                    .to_owned(),
            ));
        }
        Ok(manifest)
    }

    /// The configuration and all layers together.
    pub(super) fn bytes(&self) -> u64 {
        let all = self.config.iter().chain(&self.layers);
        all.fold(0, |sum, at| sum.saturating_add(at.size))
    }

    /// The configuration, which every image has.
    pub(super) fn config(&self) -> Result<&Descriptor, ImageError> {
        let config = self.config.as_ref();
        let config =
            config.ok_or_else(|| ImageError::Unusable("manifest without a configuration".to_owned()))?;
        if config.size > DOCUMENT_BYTES_MAX {
            return Err(ImageError::Unusable(format!(
                "configuration of {} bytes is larger than the {DOCUMENT_BYTES_MAX} that are allowed",
                config.size
            )));
        }
        Ok(config)
    }

    /// Checks the layers of an ordinary image against its configuration: so
    /// many, of kinds that can be unpacked here.
    pub(super) fn check_layers(&self, diff_ids: &[String]) -> Result<(), ImageError> {
        check_count(self.layers.len(), diff_ids.len())?;
        match self.layers.iter().find(|layer| layer.is_foreign()) {
            None => Ok(()),
            Some(layer) => Err(ImageError::Unusable(format!(
                "layer {} is a foreign layer ({}), which its registry does not hold: such images, mostly for \
                 Windows, do not run here",
                layer.digest, layer.media_type
            ))),
        }
    }

    pub(super) fn is_index(&self) -> bool {
        self.config.is_none() && !self.manifests.is_empty()
    }

    /// The entry of an index that runs here: this machine's, else Wasm, else one that does not say.
    pub(super) fn choose(&self) -> Result<&Descriptor, ImageError> {
        let find = |fits: &dyn Fn(&Platform) -> bool| {
            let mut all = self.manifests.iter();
            all.find(|m| m.platform.as_ref().is_some_and(fits))
        };
        find(&|platform| platform.fits() == Some(0))
            .or_else(|| find(&|platform| platform.fits().is_some()))
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

/// An image has a layer for each `diff_id`, and no more than can be stacked.
pub(super) fn check_count(layers: usize, diff_ids: usize) -> Result<(), ImageError> {
    if layers > LAYERS_MAX {
        return Err(ImageError::Unusable(format!(
            "image has {layers} layers, at most {LAYERS_MAX} can be stacked: build it with fewer"
        )));
    }
    if layers != diff_ids {
        return Err(ImageError::Unusable(format!(
            "image has {layers} layers, its configuration names {diff_ids}"
        )));
    }
    Ok(())
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
pub(super) fn annotated_as_wasm(annotations: Option<&BTreeMap<String, String>>) -> bool {
    ["module.wasm.image/variant", "run.oci.handler"]
        .iter()
        .any(|name| {
            annotations
                .and_then(|annotations| annotations.get(*name))
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
    fn variants_fit_when_the_processor_has_them_and_the_baseline_fits_best() {
        let entry = |digest: &str, variant: &str| {
            format!(
                r#"{{"digest": "{digest}", "platform": {{"os": "linux", "architecture": "{}", "variant": "{variant}"}}}}"#,
                architecture()
            )
        };
        let index = |entries: &[String]| {
            Manifest::parse(format!(r#"{{"manifests": [{}]}}"#, entries.join(",")).as_bytes()).unwrap()
        };
        let both = index(&[entry("future", "v9"), entry("three", "v3"), entry("base", "")]);
        assert_eq!(both.choose().unwrap().digest, "base");
        assert!(index(&[entry("future", "v9")]).choose().is_err());
        let nested = index(&[
            r#"{"digest": "inner", "mediaType": "application/vnd.oci.image.index.v1+json"}"#.to_owned(),
        ]);
        assert_eq!(nested.choose().unwrap().digest, "inner");
    }

    #[test]
    fn what_cannot_be_stacked_is_refused() {
        let text = |manifest: &str, diff_ids: usize| {
            let ids = vec![String::new(); diff_ids];
            Manifest::parse(manifest.as_bytes())
                .unwrap()
                .check_layers(&ids)
                .unwrap_err()
                .to_string()
        };
        let foreign = r#"{"config": {}, "layers": [
            {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": "f"}]}"#;
        assert!(text(foreign, 1).contains("foreign layer"));
        assert!(text(foreign, 2).contains("has 1 layers, its configuration names 2"));
        let many = format!(
            r#"{{"config": {{}}, "layers": [{}]}}"#,
            vec!["{}"; 2000].join(",")
        );
        assert!(text(&many, 2000).contains("2000 layers, at most 110"));
        assert!(Manifest::parse(br#"{"schemaVersion": 1, "fsLayers": []}"#).is_err());
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Manifest::parse(deep.as_bytes()).is_err());
        let large = r#"{"config": {"size": 5000000000}}"#;
        assert!(Manifest::parse(large.as_bytes()).unwrap().config().is_err());
    }

    #[test]
    fn digests_that_could_be_paths_are_refused() {
        assert!(hex("sha256:../../etc/passwd").is_err());
        assert!(hex(&format!("sha256:{}", "a".repeat(64))).is_ok());
        assert!(hex(&format!("sha512:{}", "a".repeat(64))).is_err());
    }
}
