//! `apiserver.config.k8s.io/v1` EncryptionConfiguration: which resources are kept encrypted, with which keys. Pure.

use serde::Deserialize;

use super::keys::Key;

/// What this server itself reads to decide, or to know who it is among others: it could not begin without.
const NEVER: [&str; 8] = [
    "rbac.authorization.k8s.io",
    "admissionregistration.k8s.io",
    "apiregistration.k8s.io",
    "apiextensions.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "coracle.dev",
];

/// Which resources are sealed with what.
#[derive(Default)]
pub struct Configuration(Vec<Rule>);

struct Rule {
    /// Prefixes of the keys of its objects.
    prefixes: Vec<String>,
    /// The first is written with; `None` is plain text.
    providers: Vec<Option<Key>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    resources: Vec<Resources>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    resources: Vec<String>,
    providers: Vec<Provider>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Provider {
    aesgcm: Option<Keys>,
    secretbox: Option<Keys>,
    aescbc: Option<serde_json::Value>,
    kms: Option<serde_json::Value>,
    identity: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<NamedKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedKey {
    name: String,
    secret: String,
}

impl Configuration {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        if (file.api_version.as_str(), file.kind.as_str())
            != ("apiserver.config.k8s.io/v1", "EncryptionConfiguration")
        {
            return Err(format!(
                "it is {} of {}, but should be EncryptionConfiguration of apiserver.config.k8s.io/v1",
                file.kind, file.api_version
            ));
        }
        file.resources
            .into_iter()
            .map(Rule::read)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// With what the object under a key is to be sealed; `None` for plain text.
    pub fn sealer(&self, key: &str) -> Option<&Key> {
        self.rule(key)?.providers.first()?.as_ref()
    }

    /// The key of that label, among those that objects at this place are read with.
    pub fn opener(&self, key: &str, label: &str) -> Option<&Key> {
        let providers = self.rule(key)?.providers.iter();
        providers.flatten().find(|one| one.label == label)
    }

    fn rule(&self, key: &str) -> Option<&Rule> {
        let concerns = |rule: &&Rule| rule.prefixes.iter().any(|prefix| key.starts_with(prefix));
        self.0.iter().find(concerns)
    }
}

impl Rule {
    fn read(from: Resources) -> Result<Self, String> {
        let mut providers = Vec::new();
        for provider in from.providers {
            provider.read(&mut providers)?;
        }
        if providers.is_empty() {
            return Err("a rule has no providers: name aesgcm, secretbox or identity".to_owned());
        }
        let prefixes = from.resources.iter().map(|name| prefix(name));
        Ok(Self {
            prefixes: prefixes.collect::<Result<_, _>>()?,
            providers,
        })
    }
}

impl Provider {
    fn read(self, into: &mut Vec<Option<Key>>) -> Result<(), String> {
        if self.aescbc.is_some() {
            return Err(
                "aescbc is not supported, because what it keeps can be altered unnoticed: use aesgcm or \
                        secretbox"
                    .to_owned(),
            );
        }
        if self.kms.is_some() {
            return Err("kms is not supported yet: use aesgcm or secretbox".to_owned());
        }
        for (provider, keys) in [("aesgcm", self.aesgcm), ("secretbox", self.secretbox)] {
            for key in keys.into_iter().flat_map(|keys| keys.keys) {
                into.push(Some(Key::read(provider, &key.name, &key.secret)?));
            }
        }
        if self.identity.is_some() {
            into.push(None);
        }
        Ok(())
    }
}

/// The prefix of the keys of a resource, named `secrets` or `widgets.example.com`.
fn prefix(name: &str) -> Result<String, String> {
    let (plural, group) = name.split_once('.').unwrap_or((name, ""));
    if name.contains('*') {
        return Err(format!(
            "{name:?}: name every resource, such as secrets and configmaps"
        ));
    }
    if NEVER.contains(&group) || (group.is_empty() && plural == "namespaces") {
        return Err(format!(
            "{name:?} cannot be encrypted: the server must read it before it reads keys"
        ));
    }
    Ok(crate::lookup::prefix(group, plural, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, widgets.example.com]
  providers:
  - aesgcm: {keys: [{name: new, secret: AAAAAAAAAAAAAAAAAAAAAA==}, {name: old, secret: AQAAAAAAAAAAAAAAAAAAAA==}]}
  - identity: {}
";

    #[test]
    fn rules_say_what_is_sealed_with_what() {
        let read = Configuration::parse(FILE).unwrap();
        let label = |key: &str| read.sealer(key).map(|key| key.label.as_str());
        assert_eq!(label("/core/secrets/a/b"), Some("aesgcm:new"));
        assert_eq!(label("/example.com/widgets/a/b"), Some("aesgcm:new"));
        assert_eq!(label("/core/configmaps/a/b"), None);
        assert!(read.opener("/core/secrets/a/b", "aesgcm:old").is_some());
        assert!(read.opener("/core/secrets/a/b", "aesgcm:lost").is_none());
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let with = |old: &str, new: &str| Configuration::parse(&FILE.replace(old, new)).err().unwrap();
        assert!(with("identity: {}", "aescbc: {keys: []}").contains("aescbc is not supported"));
        assert!(with("identity: {}", "kms: {name: x}").contains("kms is not supported"));
        assert!(with("secrets,", "\"*.*\",").contains("name every resource"));
        assert!(with("secrets,", "roles.rbac.authorization.k8s.io,").contains("cannot be encrypted"));
        assert!(with("identity: {}", "rot13: {}").contains("rot13"));
        assert!(with("EncryptionConfiguration", "Other").contains("should be EncryptionConfiguration"));
    }
}
