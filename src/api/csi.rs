//! What those who attach, mount and count volumes of CSI drivers must agree on: names.

use k8s_openapi::api::core::v1::{CSIPersistentVolumeSource, PersistentVolume};
use k8s_openapi::api::storage::v1::CSIDriver;
use sha2::{Digest, Sha256};

/// On Nodes: what each driver calls the node, a map in JSON.
pub const NODE_IDS: &str = "csi.volume.kubernetes.io/nodeid";

/// SHA-256 of a text, in hex digits.
pub fn digest(text: &str) -> String {
    format!("{:x}", Sha256::digest(text.as_bytes()))
}

/// Name of the VolumeAttachment of a volume and a node, as kubelets and attachers work it out.
pub fn attachment_name(driver: &str, handle: &str, node: &str) -> String {
    format!("csi-{}", digest(&format!("{handle}{driver}{node}")))
}

/// Whether a VolumeAttachment's name is one that [`attachment_name`] gives.
pub fn is_attachment_name(name: &str) -> bool {
    let digest = name.strip_prefix("csi-").unwrap_or_default();
    digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What a driver knows a pod's own (ephemeral) volume by.
pub fn own_handle(pod_uid: &str, volume: &str) -> String {
    format!("csi-{}", digest(&format!("{pod_uid}{volume}")))
}

/// A volume's name in a Node's lists of volumes in use and attached.
pub fn unique_name(driver: &str, handle: &str) -> String {
    format!("kubernetes.io/csi/{driver}^{handle}")
}

/// The driver's part of a volume.
pub fn source(volume: &PersistentVolume) -> Option<&CSIPersistentVolumeSource> {
    volume.spec.as_ref()?.csi.as_ref()
}

/// Whether volumes of a driver are attached before they are mounted: so it is unless the driver denies it.
pub fn is_attached(driver: Option<&CSIDriver>) -> bool {
    driver.is_none_or(|driver| driver.spec.attach_required != Some(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_attachers_work_out() {
        // SHA-256 of "v1disks.example.comn1".
        let text = attachment_name("disks.example.com", "v1", "n1");
        assert_eq!(text, format!("csi-{}", digest("v1disks.example.comn1")));
        assert_eq!(
            digest("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(unique_name("d", "h"), "kubernetes.io/csi/d^h");
    }
}
