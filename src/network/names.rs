//! The names of what we make in the kernel. Each carries the instance id, so
//! that an instance finds what is its own, and only that.

use std::path::{Path, PathBuf};

use crate::config::netns_dir;

/// The host's end of the link to the shared namespace: 10 bytes.
pub fn shared_link(instance: &str) -> String {
    format!("cw{instance}")
}

/// The vxlan device to other nodes: 10 bytes.
pub fn overlay_link(instance: &str) -> String {
    format!("cx{instance}")
}

/// The host's end of the link to the pod whose address lies `offset` after
/// the node range's first: 15 bytes, the most there can be.
pub fn pod_link(instance: &str, offset: u32) -> String {
    format!("cp{instance}{offset:05x}")
}

/// Whether a link is one of an instance's.
pub fn is_link_of(instance: &str, name: &str) -> bool {
    let pod = name
        .strip_prefix("cp")
        .and_then(|rest| rest.strip_prefix(instance));
    name == shared_link(instance)
        || name == overlay_link(instance)
        || pod.is_some_and(|offset| offset.len() == 5)
}

/// The metric of routes to other nodes' pods: the instance id as a number, so
/// that each instance on a machine has routes of its own and knows them.
pub fn route_metric(instance: &str) -> u32 {
    // Zero is what routes have that nobody gave a metric.
    u32::from_str_radix(instance, 16).unwrap_or(u32::MAX).max(1)
}

/// The nftables table of Services.
pub fn services_table(instance: &str) -> String {
    format!("coracle-{instance}")
}

/// The nftables table for what pods need whatever Services there are.
pub fn pods_table(instance: &str) -> String {
    format!("coracle-{instance}-pods")
}

/// The file that holds the shared namespace.
pub fn shared_netns(instance: &str, data_dir: &Path) -> PathBuf {
    netns_dir(data_dir).join(format!("{instance}-shared"))
}

/// The file that holds a pod's own namespace; `None` if the uid cannot be
/// part of a file name.
pub fn pod_netns(instance: &str, data_dir: &Path, pod: &str) -> Option<PathBuf> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let good = !pod.is_empty() && pod.len() <= 128 && pod != "shared" && pod.bytes().all(fits);
    good.then(|| netns_dir(data_dir).join(format!("{instance}-{pod}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_fit_and_are_recognised() {
        let id = "0a1b2c3d";
        for name in [
            shared_link(id),
            overlay_link(id),
            pod_link(id, 0),
            pod_link(id, 0xfffff),
        ] {
            assert!(name.len() <= sys::link::NAME_BYTES_MAX);
            assert!(is_link_of(id, &name));
            assert!(!is_link_of("ffffffff", &name));
        }
        assert!(!is_link_of(id, "eth0"));
        assert!(!is_link_of(id, "cp"));
    }

    #[test]
    fn routes_are_known_by_their_metric() {
        assert_eq!(route_metric("0a1b2c3d"), 0x0a1b_2c3d);
        assert_eq!(route_metric("00000000"), 1);
    }

    #[test]
    fn only_harmless_uids_become_files() {
        let dir = Path::new("/data");
        assert_eq!(
            pod_netns("0a1b2c3d", dir, "2f-1").unwrap(),
            Path::new("/data/netns/0a1b2c3d-2f-1")
        );
        for bad in ["", "shared", "../x", "a/b", "a.b"] {
            assert_eq!(pod_netns("0a1b2c3d", dir, bad), None, "{bad}");
        }
    }
}
