//! Pods that use more of the disk than they may, whether or not it is short. Pure.

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::usage::PodUse;
use crate::pods::spec;

/// Whether a pod has any limit of that sort: only such pods need to be measured all the time.
pub fn is_limited(pod: &Pod) -> bool {
    let volumes = spec::spec(pod).volumes.iter().flatten();
    let mut empty_dirs = volumes.filter_map(|volume| volume.empty_dir.as_ref());
    empty_dirs.any(|empty| bytes(empty.size_limit.as_ref()).is_some())
        || spec::containers(pod).any(|(_, container)| limit(container).is_some())
}

/// Why the pod has to go: the first of its limits that it breaks, in the kubelet's words.
pub fn broken(pod: &Pod, used: &PodUse) -> Option<String> {
    empty_dir(pod, used)
        .or_else(|| whole(pod, used))
        .or_else(|| container(pod, used))
}

fn empty_dir(pod: &Pod, used: &PodUse) -> Option<String> {
    spec::spec(pod).volumes.iter().flatten().find_map(|volume| {
        let size = volume.empty_dir.as_ref()?.size_limit.as_ref();
        let (most, text) = (bytes(size)?, size?);
        let is = used.empty_dirs.get(&volume.name)?.bytes;
        (is > most).then(|| {
            format!(
                "Usage of EmptyDir volume {:?} exceeds the limit {:?}. ",
                volume.name, text.0
            )
        })
    })
}

/// The sum of the containers' limits holds for the pod where each has one.
fn whole(pod: &Pod, used: &PodUse) -> Option<String> {
    let limits = spec::main_containers(pod).map(|c| bytes(limit(c)));
    let most: u64 = limits.sum::<Option<u64>>()?;
    (used.disk().bytes > most).then(|| {
        format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {}. ",
            super::signals::binary(most)
        )
    })
}

fn container(pod: &Pod, used: &PodUse) -> Option<String> {
    spec::containers(pod).find_map(|(_, container)| {
        let text = limit(container);
        let most = bytes(text)?;
        let is = used.containers.get(&container.name)?.disk.bytes;
        (is > most).then(|| {
            let (name, text) = (&container.name, text.map(|t| t.0.as_str()).unwrap_or_default());
            format!("Container {name} exceeded its local ephemeral storage limit {text:?}. ")
        })
    })
}

fn limit(container: &Container) -> Option<&Text> {
    container
        .resources
        .as_ref()?
        .limits
        .as_ref()?
        .get("ephemeral-storage")
}

fn bytes(text: Option<&Text>) -> Option<u64> {
    let amount = text?.0.parse::<Quantity>().ok()?;
    u64::try_from(amount.value()).ok().filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::usage::{ContainerUse, Space};
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn using(scratch: u64, container: u64) -> PodUse {
        let space = |bytes| Space { bytes, inodes: 1 };
        let used = ContainerUse {
            disk: space(container),
            ..ContainerUse::default()
        };
        PodUse {
            containers: [("c".to_owned(), used)].into(),
            empty_dirs: [("scratch".to_owned(), space(scratch))].into(),
            disk_volumes: space(scratch),
        }
    }

    #[test]
    fn an_empty_dir_has_its_size() {
        let pod = pod(json!({"containers": [{"name": "c"}],
            "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}]}));
        assert!(is_limited(&pod));
        assert_eq!(broken(&pod, &using(1 << 20, 1 << 30)), None);
        assert_eq!(
            broken(&pod, &using((1 << 20) + 1, 0)).unwrap(),
            "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\". "
        );
    }

    #[test]
    fn containers_have_theirs_and_together_the_sum() {
        let limited = json!({"name": "c", "resources": {"limits": {"ephemeral-storage": "1Mi"}}});
        let alone = pod(json!({"containers": [limited]}));
        assert_eq!(
            broken(&alone, &using(1 << 20, 1)).unwrap(),
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "
        );
        let beside = pod(json!({"containers": [limited, {"name": "free"}]}));
        assert_eq!(broken(&beside, &using(1 << 30, 1 << 20)), None);
        assert_eq!(
            broken(&beside, &using(0, (1 << 20) + 1)).unwrap(),
            "Container c exceeded its local ephemeral storage limit \"1Mi\". "
        );
        assert!(!is_limited(&pod(
            json!({"containers": [{"name": "c"}], "volumes": [{"name": "v", "emptyDir": {}}]})
        )));
    }
}
