//! What a pod asks of a driver. Pure.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use api::storage;
use k8s_openapi::api::core::v1::{
    CSIVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, SecretReference, Volume,
};
use plugins::csi::{Mode, NodeAbility};

use super::drivers::Driver;
use super::record::Record;
use crate::pods::spec;

/// A volume of a driver.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Its name in the pod's folder: that of the PersistentVolume, or of the pod's own volume.
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) handle: String,
    /// The PersistentVolume; empty for a pod's own volume.
    pub(super) volume: String,
    pub(super) claim: (String, String),
    pub(super) shown_as: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) fs_type: String,
    pub(super) options: Vec<String>,
    pub(super) modes: Vec<String>,
    pub(super) block: bool,
    pub(super) read_only: bool,
    pub(super) secrets: Secrets,
    /// How large the volume is, and how large the claim says its file system is.
    pub(super) sizes: (Quantity, Quantity),
}

/// Where credentials for the driver are.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets {
    pub stage: Option<SecretReference>,
    pub publish: Option<SecretReference>,
    pub expand: Option<SecretReference>,
}

impl Wanted {
    /// What a claim means, if its volume is a driver's.
    pub fn of_claim(
        volume: &PersistentVolume,
        claim: &PersistentVolumeClaim,
        shown_as: &Volume,
    ) -> Option<Wanted> {
        let source = api::csi::source(volume)?;
        let spec = volume.spec.as_ref()?;
        let name = volume.metadata.name.clone().unwrap_or_default();
        let asked = shown_as.persistent_volume_claim.as_ref();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Some(Wanted {
            volume: name.clone(),
            name,
            driver: source.driver.clone(),
            handle: source.volume_handle.clone(),
            claim: (text(&claim.metadata.namespace), text(&claim.metadata.name)),
            shown_as: shown_as.name.clone(),
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            fs_type: text(&source.fs_type),
            options: spec.mount_options.clone().unwrap_or_default(),
            modes: spec.access_modes.clone().unwrap_or_default(),
            block: spec.volume_mode.as_deref() == Some("Block"),
            read_only: source.read_only == Some(true)
                || asked.is_some_and(|asked| asked.read_only == Some(true)),
            secrets: Secrets {
                stage: source.node_stage_secret_ref.clone(),
                publish: source.node_publish_secret_ref.clone(),
                expand: source.node_expand_secret_ref.clone(),
            },
            sizes: (storage::capacity(volume), storage::held(claim)),
        })
    }

    /// A volume that lives and dies with the pod.
    pub fn of_pod(pod: &Pod, volume: &Volume, source: &CSIVolumeSource) -> Wanted {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let publish = source
            .node_publish_secret_ref
            .as_ref()
            .map(|named| SecretReference {
                name: Some(named.name.clone()),
                namespace: Some(spec::namespace(pod).to_owned()),
            });
        Wanted {
            name: volume.name.clone(),
            driver: source.driver.clone(),
            handle: api::csi::own_handle(spec::uid(pod), &volume.name),
            shown_as: volume.name.clone(),
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            fs_type: text(&source.fs_type),
            read_only: source.read_only == Some(true),
            secrets: Secrets {
                publish,
                ..Secrets::default()
            },
            ..Wanted::default()
        }
    }

    /// The driver's name.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// The volume's name in the pod.
    pub fn shown_as(&self) -> &str {
        &self.shown_as
    }

    /// Whether it outlives the pod.
    pub(super) fn is_persistent(&self) -> bool {
        !self.volume.is_empty()
    }

    /// What is written down of it.
    pub(super) fn record(&self, driver: &Driver) -> Record {
        Record {
            driver: self.driver.clone(),
            handle: self.handle.clone(),
            volume: self.volume.clone(),
            claim: self.claim.clone(),
            shown_as: self.shown_as.clone(),
            block: self.block,
            fs_type: self.fs_type.clone(),
            options: self.options.clone(),
            mode: mode(&self.modes, driver.can(NodeAbility::SingleNodeMultiWriter)) as i32,
            ..Record::new()
        }
    }
}

/// By how many it is used, as CSI counts it; `exactly`: the driver tells one writer of a node from many.
fn mode(modes: &[String], exactly: bool) -> Mode {
    match (modes.first().map(String::as_str), exactly) {
        (Some("ReadWriteMany"), _) => Mode::MultiNodeMultiWriter,
        (Some("ReadOnlyMany"), _) => Mode::MultiNodeReaderOnly,
        (Some("ReadWriteOncePod"), true) => Mode::SingleNodeSingleWriter,
        (Some("ReadWriteOnce"), true) => Mode::SingleNodeMultiWriter,
        _ => Mode::SingleNodeWriter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_csi() {
        let of = |name: &str, exactly| mode(&[name.to_owned()], exactly);
        assert_eq!(of("ReadWriteOnce", false), Mode::SingleNodeWriter);
        assert_eq!(of("ReadWriteOnce", true), Mode::SingleNodeMultiWriter);
        assert_eq!(of("ReadWriteOncePod", true), Mode::SingleNodeSingleWriter);
        assert_eq!(of("ReadOnlyMany", false), Mode::MultiNodeReaderOnly);
        assert_eq!(of("ReadWriteMany", true), Mode::MultiNodeMultiWriter);
        assert_eq!(mode(&[], true), Mode::SingleNodeWriter);
    }
}
