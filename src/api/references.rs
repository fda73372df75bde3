//! What a pod's spec names of other objects in its namespace.

use serde_json::Value;

use crate::value::{list, text};

/// The names of the objects of that resource (`secrets`, `configmaps` or `persistentvolumeclaims`) that a pod names:
/// to pull images, in environments, in volumes.
pub fn of<'a>(pod: &'a Value, resource: &str) -> Vec<&'a str> {
    let volumes = list(pod, "spec.volumes");
    let mut found: Vec<&str> = match resource {
        "persistentvolumeclaims" => volumes
            .iter()
            .map(|volume| text(volume, "persistentVolumeClaim.claimName"))
            .collect(),
        "secrets" => {
            let pulls = list(pod, "spec.imagePullSecrets").iter();
            let mut found: Vec<&str> = pulls.map(|secret| text(secret, "name")).collect();
            found.extend(in_containers(
                pod,
                "valueFrom.secretKeyRef.name",
                "secretRef.name",
            ));
            found.extend(volumes.iter().flat_map(secrets));
            found
        }
        _ => {
            let mut found: Vec<&str> =
                in_containers(pod, "valueFrom.configMapKeyRef.name", "configMapRef.name").collect();
            found.extend(volumes.iter().flat_map(|volume| {
                let own = text(volume, "configMap.name");
                std::iter::once(own).chain(projected(volume, "configMap.name"))
            }));
            found
        }
    };
    found.retain(|name| !name.is_empty());
    found
}

/// Paths of volumes that name secrets, old drivers' included.
const IN_VOLUMES: [&str; 10] = [
    "secret.secretName",
    "csi.nodePublishSecretRef.name",
    "azureFile.secretName",
    "cephfs.secretRef.name",
    "cinder.secretRef.name",
    "flexVolume.secretRef.name",
    "iscsi.secretRef.name",
    "rbd.secretRef.name",
    "scaleIO.secretRef.name",
    "storageos.secretRef.name",
];

fn secrets(volume: &Value) -> impl Iterator<Item = &str> {
    let own = IN_VOLUMES.into_iter().map(|path| text(volume, path));
    own.chain(projected(volume, "secret.name"))
}

fn projected<'a>(volume: &'a Value, path: &'static str) -> impl Iterator<Item = &'a str> {
    let sources = list(volume, "projected.sources").iter();
    sources.map(move |source| text(source, path))
}

fn in_containers<'a>(
    pod: &'a Value,
    variable: &'static str,
    all: &'static str,
) -> impl Iterator<Item = &'a str> {
    let lists = [
        "spec.containers",
        "spec.initContainers",
        "spec.ephemeralContainers",
    ];
    let containers = lists.into_iter().flat_map(|path| list(pod, path));
    containers.flat_map(move |container| {
        let variables = list(container, "env").iter().map(move |env| text(env, variable));
        variables.chain(list(container, "envFrom").iter().map(move |from| text(from, all)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_that_a_pod_names_is_found() {
        let pod = json!({"spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "key"}}}, {"value": "x"}]}],
            "containers": [{"envFrom": [{"secretRef": {"name": "all"}}, {"configMapRef": {"name": "map"}}]}],
            "volumes": [{"secret": {"secretName": "vol"}}, {"persistentVolumeClaim": {"claimName": "disk"}},
                {"projected": {"sources": [{"secret": {"name": "part"}}, {"configMap": {"name": "ca"}}]}}]}});
        let mut secrets = of(&pod, "secrets");
        secrets.sort_unstable();
        assert_eq!(secrets, ["all", "key", "part", "pull", "vol"]);
        assert_eq!(of(&pod, "configmaps"), ["map", "ca"]);
        assert_eq!(of(&pod, "persistentvolumeclaims"), ["disk"]);
    }
}
