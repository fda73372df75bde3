//! The files of volumes whose content the agent makes: ConfigMaps, Secrets,
//! the downward API, tokens and projections of them. Pure.

use std::collections::BTreeMap;

use api::cidr::Addresses;
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, DownwardAPIVolumeFile, KeyToPath, Pod, SecretProjection,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use super::atomic::{File, Files};
use crate::env::{NodeFacts, Objects, References, fields};
use crate::pods::spec;

/// One source of files.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Keys of a ConfigMap.
    ConfigMap(ConfigMapProjection),
    /// Keys of a Secret.
    Secret(SecretProjection),
    /// Fields of the pod.
    Downward(Vec<DownwardAPIVolumeFile>),
    /// A token of the pod's service account.
    Token(ServiceAccountTokenProjection),
}

/// A volume whose content the agent makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// Where the files come from; a later source wins.
    pub sources: Vec<Source>,
    /// Permission bits of files that have none of their own.
    pub mode: u32,
}

const MODE_DEFAULT: i32 = 0o644;

/// The volume's sources, if it is of that kind.
///
/// # Errors
/// A projection that is not supported, by name.
pub fn payload(volume: &Volume) -> Option<Result<Payload, String>> {
    let make = |sources, mode: Option<i32>| {
        Some(Ok(Payload {
            sources,
            mode: mode.unwrap_or(MODE_DEFAULT) as u32 & 0o777,
        }))
    };
    if let Some(map) = &volume.config_map {
        let source = ConfigMapProjection {
            name: map.name.clone(),
            items: map.items.clone(),
            optional: map.optional,
        };
        return make(vec![Source::ConfigMap(source)], map.default_mode);
    }
    if let Some(secret) = &volume.secret {
        let name = secret.secret_name.clone().unwrap_or_default();
        let source = SecretProjection {
            name,
            items: secret.items.clone(),
            optional: secret.optional,
        };
        return make(vec![Source::Secret(source)], secret.default_mode);
    }
    if let Some(downward) = &volume.downward_api {
        return make(
            vec![Source::Downward(downward.items.clone().unwrap_or_default())],
            downward.default_mode,
        );
    }
    let projected = volume.projected.as_ref()?;
    let sources: Result<Vec<Source>, String> = projected.sources.iter().flatten().map(projection).collect();
    match sources {
        Ok(sources) => make(sources, projected.default_mode),
        Err(error) => Some(Err(error)),
    }
}

fn projection(projection: &VolumeProjection) -> Result<Source, String> {
    if let Some(map) = &projection.config_map {
        return Ok(Source::ConfigMap(map.clone()));
    }
    if let Some(secret) = &projection.secret {
        return Ok(Source::Secret(secret.clone()));
    }
    if let Some(downward) = &projection.downward_api {
        return Ok(Source::Downward(downward.items.clone().unwrap_or_default()));
    }
    if let Some(token) = &projection.service_account_token {
        return Ok(Source::Token(token.clone()));
    }
    let kind = match projection {
        VolumeProjection {
            cluster_trust_bundle: Some(_),
            ..
        } => "clusterTrustBundle",
        VolumeProjection {
            pod_certificate: Some(_),
            ..
        } => "podCertificate",
        _ => "an unknown kind",
    };
    Err(format!(
        "a projected source of {kind} is not supported by this node"
    ))
}

impl Payload {
    /// The ConfigMaps and Secrets it needs.
    pub fn references(&self) -> References {
        let mut found = References::default();
        for source in &self.sources {
            match source {
                Source::ConfigMap(map) => found.config_maps.insert(map.name.clone()),
                Source::Secret(secret) => found.secrets.insert(secret.name.clone()),
                _ => false,
            };
        }
        found
    }

    /// The tokens it needs.
    pub fn tokens(&self) -> impl Iterator<Item = &ServiceAccountTokenProjection> {
        self.sources.iter().filter_map(|source| match source {
            Source::Token(token) => Some(token),
            _ => None,
        })
    }

    /// Its files.
    ///
    /// # Errors
    /// What is missing, in the kubelet's words.
    pub fn files(&self, inputs: &Inputs<'_>) -> Result<Files, String> {
        let mut files = Files::new();
        for source in &self.sources {
            match source {
                Source::ConfigMap(map) => self.config_map(map, inputs, &mut files)?,
                Source::Secret(secret) => self.secret(secret, inputs, &mut files)?,
                Source::Downward(items) => self.downward(items, inputs, &mut files)?,
                Source::Token(token) => {
                    let text = inputs
                        .tokens
                        .get(&token.path)
                        .ok_or("the service account token is not there yet")?;
                    // A token is for its user alone, where the pod says who that is.
                    let mode = if inputs.user.is_some() || inputs.group.is_some() {
                        0o600
                    } else {
                        self.mode
                    };
                    let file = File {
                        bytes: text.clone().into_bytes(),
                        mode,
                        owner: inputs.user,
                    };
                    files.insert(token.path.clone(), file);
                }
            }
        }
        Ok(files)
    }

    fn config_map(
        &self,
        source: &ConfigMapProjection,
        inputs: &Inputs<'_>,
        files: &mut Files,
    ) -> Result<(), String> {
        let Some(map) = inputs.objects.config_maps.get(&source.name) else {
            return missing("configmap", &source.name, source.optional);
        };
        let texts = map.data.iter().flatten().map(|(k, v)| (k.as_str(), v.as_bytes()));
        let bytes = map
            .binary_data
            .iter()
            .flatten()
            .map(|(k, v)| (k.as_str(), v.0.as_slice()));
        let data: BTreeMap<&str, &[u8]> = texts.chain(bytes).collect();
        let what = "configmap references non-existent config key";
        self.keys(&data, source.items.as_deref(), source.optional, what, files)
    }

    fn secret(
        &self,
        source: &SecretProjection,
        inputs: &Inputs<'_>,
        files: &mut Files,
    ) -> Result<(), String> {
        let Some(secret) = inputs.objects.secrets.get(&source.name) else {
            return missing("secret", &source.name, source.optional);
        };
        let data = secret
            .data
            .iter()
            .flatten()
            .map(|(k, v)| (k.as_str(), v.0.as_slice()))
            .collect();
        let what = "references non-existent secret key";
        self.keys(&data, source.items.as_deref(), source.optional, what, files)
    }

    fn keys(
        &self,
        data: &BTreeMap<&str, &[u8]>,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        missing: &str,
        files: &mut Files,
    ) -> Result<(), String> {
        let mut put = |path: &str, bytes: &[u8], mode: Option<i32>| {
            let mode = mode.map_or(self.mode, |m| m as u32 & 0o777);
            files.insert(
                path.to_owned(),
                File {
                    bytes: bytes.to_vec(),
                    mode,
                    owner: None,
                },
            );
        };
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            data.iter().for_each(|(key, bytes)| put(key, bytes, None));
            return Ok(());
        };
        for item in items {
            match data.get(item.key.as_str()) {
                Some(bytes) => put(&item.path, bytes, item.mode),
                None if optional == Some(true) => {}
                None => return Err(format!("{missing}: {}", item.key)),
            }
        }
        Ok(())
    }

    fn downward(
        &self,
        items: &[DownwardAPIVolumeFile],
        inputs: &Inputs<'_>,
        files: &mut Files,
    ) -> Result<(), String> {
        for item in items {
            let text = if let Some(field) = &item.field_ref {
                fields::field(inputs.pod, &field.field_path, inputs.ip, inputs.node)?
            } else if let Some(resource) = &item.resource_field_ref {
                fields::resource(inputs.pod, resource, "", inputs.node)?
            } else {
                continue;
            };
            let mode = item.mode.map_or(self.mode, |m| m as u32 & 0o777);
            files.insert(
                item.path.clone(),
                File {
                    bytes: text.into_bytes(),
                    mode,
                    owner: None,
                },
            );
        }
        Ok(())
    }
}

fn missing(kind: &str, name: &str, optional: Option<bool>) -> Result<(), String> {
    if optional == Some(true) {
        Ok(())
    } else {
        Err(format!("{kind} {name:?} not found"))
    }
}

/// What files are made from.
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its addresses, once it has some.
    pub ip: Option<Addresses>,
    /// The node.
    pub node: &'a NodeFacts,
    /// ConfigMaps and Secrets that exist.
    pub objects: &'a Objects,
    /// Tokens by the path at which they are wanted.
    pub tokens: &'a BTreeMap<String, String>,
    /// Who all of the pod's containers run as, if that is one and known.
    pub user: Option<u32>,
    /// `fsGroup`.
    pub group: Option<u32>,
}

/// The user that all containers of the pod run as, where the pod says so.
pub fn common_user(pod: &Pod) -> Option<u32> {
    let whole = spec::spec(pod)
        .security_context
        .as_ref()
        .and_then(|s| s.run_as_user);
    let own =
        |c: &k8s_openapi::api::core::v1::Container| c.security_context.as_ref().and_then(|s| s.run_as_user);
    let mut users = spec::containers(pod).map(|(_, c)| own(c).or(whole));
    let first = users.next()??;
    users
        .all(|user| user == Some(first))
        .then_some(first)
        .and_then(|user| u32::try_from(user).ok())
}

/// `fsGroup`.
pub fn group(pod: &Pod) -> Option<u32> {
    let group = spec::spec(pod).security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use serde_json::json;

    use super::*;

    fn files(volume: serde_json::Value) -> Result<Vec<(String, String, u32)>, String> {
        let volume: Volume = serde_json::from_value(volume).unwrap();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "labels": {"app": "x"}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "250m"}}}]},
        }))
        .unwrap();
        let map = ConfigMap {
            data: Some([("a".to_owned(), "1".to_owned())].into()),
            binary_data: Some([("b".to_owned(), ByteString(vec![50]))].into()),
            ..Default::default()
        };
        let secret = Secret {
            data: Some([("pw".to_owned(), ByteString(b"s".to_vec()))].into()),
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
        let tokens = [("token".to_owned(), "jwt".to_owned())].into();
        let inputs = Inputs {
            pod: &pod,
            ip: None,
            node: &node,
            objects: &objects,
            tokens: &tokens,
            user: None,
            group: None,
        };
        let files = payload(&volume).unwrap()?.files(&inputs)?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ok(files
            .into_iter()
            .map(|(path, file)| (path, text(file.bytes), file.mode))
            .collect())
    }

    fn file(path: &str, text: &str, mode: u32) -> (String, String, u32) {
        (path.to_owned(), text.to_owned(), mode)
    }

    #[test]
    fn config_maps_and_secrets() {
        let all = files(json!({"name": "v", "configMap": {"name": "cm"}}));
        assert_eq!(all, Ok(vec![file("a", "1", 0o644), file("b", "2", 0o644)]));
        let some = files(
            json!({"name": "v", "configMap": {"name": "cm", "defaultMode": 256,
            "items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z", "mode": 493}]}}),
        );
        assert_eq!(some, Ok(vec![file("x/y", "1", 0o400), file("z", "2", 0o755)]));
        let secret = files(json!({"name": "v", "secret": {"secretName": "sec"}}));
        assert_eq!(secret, Ok(vec![file("pw", "s", 0o644)]));
    }

    #[test]
    fn what_is_missing_is_an_error_unless_optional() {
        for (volume, text) in [
            (json!({"configMap": {"name": "no"}}), "configmap \"no\" not found"),
            (json!({"secret": {"secretName": "no"}}), "secret \"no\" not found"),
            (
                json!({"configMap": {"name": "cm", "items": [{"key": "k", "path": "p"}]}}),
                "configmap references non-existent config key: k",
            ),
            (
                json!({"secret": {"secretName": "sec", "items": [{"key": "k", "path": "p"}]}}),
                "references non-existent secret key: k",
            ),
        ] {
            let mut volume = volume;
            volume["name"] = json!("v");
            assert_eq!(files(volume), Err(text.to_owned()));
        }
        assert_eq!(
            files(json!({"name": "v", "configMap": {"name": "no", "optional": true}})),
            Ok(vec![])
        );
    }

    #[test]
    fn projections_come_together() {
        let found = files(json!({"name": "v", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "cm", "items": [{"key": "a", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}},
                {"path": "cpu", "resourceFieldRef":
                    {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}},
            ]}},
        ]}}));
        let expected = vec![
            file("ca.crt", "1", 0o644),
            file("cpu", "250", 0o644),
            file("namespace", "ns", 0o644),
            file("token", "jwt", 0o644),
        ];
        assert_eq!(found, Ok(expected));
    }
}
