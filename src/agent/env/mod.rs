//! A container's environment, from its spec and the objects it refers to. Pure.

pub mod expand;
pub mod fields;
pub mod files;
pub mod services;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::cidr::Addresses;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};

use crate::pods::spec;
pub use expand::expand;
pub use fields::NodeFacts;
use files::FileName;

/// Names of objects in the pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// ConfigMaps.
    pub config_maps: BTreeSet<String>,
    /// Secrets.
    pub secrets: BTreeSet<String>,
}

/// The objects of [`References`] that exist.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// ConfigMaps by name.
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Arc<Secret>>,
}

/// What a container's environment refers to.
pub fn references(container: &Container) -> References {
    let mut found = References::default();
    for source in container.env_from.iter().flatten() {
        found
            .config_maps
            .extend(source.config_map_ref.iter().map(|r| r.name.clone()));
        found
            .secrets
            .extend(source.secret_ref.iter().map(|r| r.name.clone()));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|e| e.value_from.as_ref())
    {
        found
            .config_maps
            .extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
        found
            .secrets
            .extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    found
}

/// Where values come from.
pub struct Sources<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its addresses.
    pub ip: Option<Addresses>,
    /// The node.
    pub node: &'a NodeFacts,
    /// ConfigMaps and Secrets.
    pub objects: &'a Objects,
    /// What is in the files that variables come from, or why that is not known; none for files that are not there.
    pub files: &'a BTreeMap<FileName, Result<String, String>>,
    /// Service variables, weakest of all.
    pub services: &'a [(String, String)],
}

/// A container's environment in the order in which it was made: Services,
/// `envFrom`, `env`; each name once, the later value winning.
///
/// # Errors
/// The message behind `CreateContainerConfigError`.
pub fn resolve(container: &Container, sources: &Sources<'_>) -> Result<Vec<(String, String)>, String> {
    let mut env = Environment::default();
    for (name, value) in sources.services {
        env.set(name, value.clone());
    }
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        for (key, value) in env_from(source, sources)? {
            // A name with '=' cannot be a variable; Kubernetes leaves it out.
            if !key.is_empty() && !key.contains('=') {
                env.set(&format!("{prefix}{key}"), value);
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) if variable.value.as_deref().unwrap_or_default().is_empty() => {
                value_from(container, source, sources)?
            }
            _ => Some(expand(variable.value.as_deref().unwrap_or_default(), |name| {
                env.get(name)
            })),
        };
        if let Some(value) = value {
            env.set(&variable.name, value);
        }
    }
    Ok(env.list)
}

#[derive(Default)]
struct Environment {
    list: Vec<(String, String)>,
    places: HashMap<String, usize>,
}

impl Environment {
    fn set(&mut self, name: &str, value: String) {
        if let Some(slot) = self.places.get(name).and_then(|place| self.list.get_mut(*place)) {
            slot.1 = value;
            return;
        }
        self.places.insert(name.to_owned(), self.list.len());
        self.list.push((name.to_owned(), value));
    }

    fn get(&self, name: &str) -> Option<String> {
        self.places
            .get(name)
            .and_then(|place| self.list.get(*place))
            .map(|(_, value)| value.clone())
    }
}

/// A command, argument list or sub-path with `$(NAME)` filled in from the environment.
pub fn expand_all(texts: &[String], env: &[(String, String)]) -> Vec<String> {
    let map: HashMap<&str, &str> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    texts
        .iter()
        .map(|text| expand(text, |name| map.get(name).map(|v| (*v).to_owned())))
        .collect()
}

fn env_from(
    source: &k8s_openapi::api::core::v1::EnvFromSource,
    sources: &Sources<'_>,
) -> Result<Vec<(String, String)>, String> {
    if let Some(reference) = &source.config_map_ref {
        let Some(map) = sources.objects.config_maps.get(&reference.name) else {
            return absent("configmap", &reference.name, reference.optional).map(|()| Vec::new());
        };
        return Ok(map.data.clone().unwrap_or_default().into_iter().collect());
    }
    if let Some(reference) = &source.secret_ref {
        let Some(secret) = sources.objects.secrets.get(&reference.name) else {
            return absent("secret", &reference.name, reference.optional).map(|()| Vec::new());
        };
        let data = secret.data.iter().flatten();
        return Ok(data
            .map(|(k, v)| (k.clone(), String::from_utf8_lossy(&v.0).into_owned()))
            .collect());
    }
    Ok(Vec::new())
}

fn absent(kind: &str, name: &str, optional: Option<bool>) -> Result<(), String> {
    if optional == Some(true) {
        Ok(())
    } else {
        Err(format!("{kind} {name:?} not found"))
    }
}

fn value_from(
    container: &Container,
    source: &EnvVarSource,
    sources: &Sources<'_>,
) -> Result<Option<String>, String> {
    let namespace = spec::namespace(sources.pod);
    if let Some(reference) = &source.field_ref {
        return fields::field(sources.pod, &reference.field_path, sources.ip, sources.node).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return fields::resource(sources.pod, selector, &container.name, sources.node).map(Some);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let Some(map) = sources.objects.config_maps.get(&reference.name) else {
            return absent("configmap", &reference.name, reference.optional).map(|()| None);
        };
        let found = map.data.as_ref().and_then(|d| d.get(&reference.key)).cloned();
        return key(
            found,
            &reference.key,
            "ConfigMap",
            namespace,
            &reference.name,
            reference.optional,
        );
    }
    if let Some(reference) = &source.secret_key_ref {
        let Some(secret) = sources.objects.secrets.get(&reference.name) else {
            return absent("secret", &reference.name, reference.optional).map(|()| None);
        };
        let found = secret.data.as_ref().and_then(|d| d.get(&reference.key));
        let found = found.map(|v| String::from_utf8_lossy(&v.0).into_owned());
        return key(
            found,
            &reference.key,
            "Secret",
            namespace,
            &reference.name,
            reference.optional,
        );
    }
    if let Some(selector) = &source.file_key_ref {
        let found = match sources.files.get(&files::name_of(selector)) {
            Some(text) => files::value(text.as_ref().map_err(Clone::clone)?, &selector.key)
                .map_err(|why| format!("couldn't parse env file {:?}: {why}", selector.path))?,
            None => None,
        };
        return match found {
            None if selector.optional != Some(true) => Err(format!(
                "environment variable key {:?} not found in file {:?}",
                selector.key, selector.path
            )),
            found => Ok(found),
        };
    }
    Err("unsupported source of an environment variable".to_owned())
}

fn key(
    found: Option<String>,
    key: &str,
    kind: &str,
    namespace: &str,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<String>, String> {
    match found {
        None if optional != Some(true) => {
            Err(format!("couldn't find key {key} in {kind} {namespace}/{name}"))
        }
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn resolved(
        container: serde_json::Value,
        services: &[(String, String)],
    ) -> Result<Vec<(String, String)>, String> {
        let container: Container = serde_json::from_value(container).unwrap();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "labels": {"app": "x"}},
            "spec": {"containers": [container.clone()]},
        }))
        .unwrap();
        let map = ConfigMap {
            data: Some(
                [
                    ("k".to_owned(), "v".to_owned()),
                    ("a=b".to_owned(), "no".to_owned()),
                ]
                .into(),
            ),
            ..Default::default()
        };
        let secret = Secret {
            data: Some([("pw".to_owned(), ByteString(b"s3cret".to_vec()))].into()),
            ..Default::default()
        };
        let objects = Objects {
            config_maps: [("cm".to_owned(), Arc::new(map))].into(),
            secrets: [("sec".to_owned(), Arc::new(secret))].into(),
        };
        let node = NodeFacts {
            name: "n1".into(),
            ip: [192, 0, 2, 1].into(),
            cpu_millis: 1000,
            memory_bytes: 1,
            storage_bytes: 1,
        };
        let ip = Some([10, 64, 0, 9].into());
        let name = |path: &str| ("v".to_owned(), path.to_owned());
        let files = [
            (name("good"), Ok("F='of a file'".to_owned())),
            (name("bad"), Ok("F=x".to_owned())),
            (name("link"), Err("it is no file".to_owned())),
        ]
        .into();
        resolve(
            &container,
            &Sources {
                pod: &pod,
                ip,
                node: &node,
                objects: &objects,
                files: &files,
                services,
            },
        )
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn every_source_in_its_order() {
        let found = resolved(
            json!({"name": "c", "envFrom": [
                {"prefix": "P_", "configMapRef": {"name": "cm"}},
                {"secretRef": {"name": "none", "optional": true}},
            ], "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "value": "$(A)$(P_k)$(S)$(LATER)"},
                {"name": "LATER", "value": "x"},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
                {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}},
                {"name": "GONE", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "no", "optional": true}}},
                {"name": "S", "value": "mine"},
                {"name": "F", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "good", "key": "F"}}},
                {"name": "NONE", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "none", "key": "F", "optional": true}}},
            ]}),
            &pairs(&[("S", "service")]),
        );
        let expected = pairs(&[
            ("S", "mine"),
            ("P_k", "v"),
            ("A", "1"),
            ("B", "1vservice$(LATER)"),
            ("LATER", "x"),
            ("IP", "10.64.0.9"),
            ("K", "v"),
            ("PW", "s3cret"),
            ("F", "of a file"),
        ]);
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn what_is_missing_is_named_as_the_kubelet_does() {
        for (source, text) in [
            (
                json!({"configMapKeyRef": {"name": "x", "key": "k"}}),
                "configmap \"x\" not found",
            ),
            (
                json!({"secretKeyRef": {"name": "x", "key": "k"}}),
                "secret \"x\" not found",
            ),
            (
                json!({"configMapKeyRef": {"name": "cm", "key": "z"}}),
                "couldn't find key z in ConfigMap ns/cm",
            ),
            (
                json!({"secretKeyRef": {"name": "sec", "key": "z"}}),
                "couldn't find key z in Secret ns/sec",
            ),
            (
                json!({"fileKeyRef": {"volumeName": "v", "path": "none", "key": "F"}}),
                "environment variable key \"F\" not found in file \"none\"",
            ),
            (
                json!({"fileKeyRef": {"volumeName": "v", "path": "bad", "key": "F", "optional": true}}),
                "couldn't parse env file \"bad\": invalid environment variable format at line 1: value must be enclosed in \
                 single quotes",
            ),
            (
                json!({"fileKeyRef": {"volumeName": "v", "path": "link", "key": "F"}}),
                "it is no file",
            ),
        ] {
            let container = json!({"name": "c", "env": [{"name": "A", "valueFrom": source}]});
            assert_eq!(resolved(container, &[]), Err(text.to_owned()));
        }
        let container = json!({"name": "c", "envFrom": [{"configMapRef": {"name": "x"}}]});
        assert_eq!(
            resolved(container, &[]),
            Err("configmap \"x\" not found".to_owned())
        );
    }

    #[test]
    fn commands_expand_from_the_environment() {
        let env = pairs(&[("A", "1")]);
        let texts = ["echo".to_owned(), "$(A) $(B) $$(A)".to_owned()];
        assert_eq!(expand_all(&texts, &env), ["echo", "1 $(B) $(A)"]);
    }
}
