//! What a container sees of its pod's volumes.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

use super::host::make_sub_path;
use super::payload;
use crate::env::expand::{self, expand};
use crate::pods::spec;

/// One path of this machine in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// Path on this machine.
    pub host: PathBuf,
    /// What of it is meant: a path below it, which containers may have changed; empty for all.
    pub inside: PathBuf,
    /// Path in the container.
    pub path: String,
    /// Refuse writes.
    pub read_only: bool,
    /// Refuse them in what is mounted below it, too.
    pub recursive: bool,
    /// `None`, `HostToContainer` or `Bidirectional`.
    pub propagation: String,
}

/// The container's `volumeMounts`, sub-paths resolved and made.
///
/// # Errors
/// The text behind `CreateContainerConfigError`.
pub fn resolve(
    pod: &Pod,
    container: &Container,
    env: &[(String, String)],
    place: impl Fn(&Volume) -> Result<PathBuf, String>,
) -> Result<Vec<MountPoint>, String> {
    let volumes = spec::spec(pod).volumes.as_deref().unwrap_or_default();
    let mut mounts = Vec::new();
    for wanted in container.volume_mounts.iter().flatten() {
        let volume = volumes.iter().find(|v| v.name == wanted.name);
        let volume = volume.ok_or_else(|| format!("volume {:?} not found in the pod", wanted.name))?;
        let host = place(volume)?;
        let inside = relative_path(wanted, env)?.unwrap_or_default();
        if !inside.is_empty() {
            make_sub_path(&host, &inside)?;
        }
        // What the agent writes is nobody else's to write.
        let made_by_agent = payload::payload(volume).is_some();
        let claim = volume.persistent_volume_claim.as_ref();
        let to_read = volume.image.is_some() || claim.is_some_and(|claim| claim.read_only == Some(true));
        let path = match wanted.mount_path.strip_prefix('/') {
            Some(_) => wanted.mount_path.clone(),
            None => format!("/{}", wanted.mount_path),
        };
        mounts.push(MountPoint {
            host,
            inside: inside.into(),
            path,
            read_only: wanted.read_only.unwrap_or(false) || made_by_agent || to_read,
            recursive: matches!(
                wanted.recursive_read_only.as_deref(),
                Some("Enabled" | "IfPossible")
            ),
            propagation: wanted.mount_propagation.clone().unwrap_or_default(),
        });
    }
    Ok(mounts)
}

fn relative_path(
    mount: &k8s_openapi::api::core::v1::VolumeMount,
    env: &[(String, String)],
) -> Result<Option<String>, String> {
    let get = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    if let Some(text) = mount.sub_path_expr.as_deref().filter(|t| !t.is_empty()) {
        if let Some(name) = expand::missing(text, |name| get(name).is_some()) {
            return Err(format!(
                "failed to expand subPathExpr {text:?}: missing value for {name:?}"
            ));
        }
        return Ok(Some(expand(text, get)));
    }
    Ok(mount.sub_path.clone().filter(|t| !t.is_empty()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn mounts_of_a_container() {
        let temp = tempfile::tempdir().unwrap();
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "volumes": [{"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "cm"}}],
            "containers": [{"name": "a", "volumeMounts": [
                {"name": "e", "mountPath": "/data", "subPathExpr": "$(POD)/x"},
                {"name": "c", "mountPath": "/etc/app"},
            ]}],
        }}))
        .unwrap();
        let container = &spec::spec(&pod).containers[0];
        let root = temp.path().canonicalize().unwrap();
        let place = |volume: &Volume| {
            let path = root.join(&volume.name);
            std::fs::create_dir_all(&path).unwrap();
            Ok(path)
        };
        let env = [("POD".to_owned(), "p1".to_owned())];
        let mounts = resolve(&pod, container, &env, place).unwrap();
        assert_eq!(
            (&mounts[0].host, &mounts[0].inside),
            (&root.join("e"), &"p1/x".into())
        );
        assert!(root.join("e/p1/x").is_dir());
        assert_eq!((mounts[0].path.as_str(), mounts[0].read_only), ("/data", false));
        assert_eq!((mounts[1].path.as_str(), mounts[1].read_only), ("/etc/app", true));
        let error = resolve(&pod, container, &[], place).unwrap_err();
        assert!(error.contains("missing value for \"POD\""), "{error}");
    }
}
