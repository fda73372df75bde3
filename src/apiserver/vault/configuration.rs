//! `apiserver.config.k8s.io/v1` EncryptionConfiguration: which resources are kept encrypted, with which keys. Pure.

use std::sync::Arc;

use serde::Deserialize;

use super::keys::Key;
use super::kms::{Kms, ToldKms};

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
    providers: Vec<Option<Sealer>>,
}

/// With what something is sealed.
pub enum Sealer {
    /// A key of the configuration.
    Key(Key),
    /// Keys that a plugin keeps.
    Kms(Arc<Kms>),
}

/// Makes the plugin that a configuration tells of, or finds it again.
pub type Plug<'p> = &'p dyn Fn(&ToldKms) -> Result<Arc<Kms>, String>;

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
    kms: Option<ToldKms>,
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
    pub fn parse(text: &str, plug: Plug) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        if (file.api_version.as_str(), file.kind.as_str())
            != ("apiserver.config.k8s.io/v1", "EncryptionConfiguration")
        {
            return Err(format!(
                "it is {} of {}, but should be EncryptionConfiguration of apiserver.config.k8s.io/v1",
                file.kind, file.api_version
            ));
        }
        let rules = file.resources.into_iter().map(|rule| Rule::read(rule, plug));
        let made = Self(rules.collect::<Result<_, _>>()?);
        let mut names: Vec<&str> = made.plugins().map(|kms| kms.told.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|two| two[0] == two[1]) {
            Some(two) => Err(format!(
                "kms: Duplicate value: {:?}: give each plugin its own name",
                two[0]
            )),
            None => Ok(made),
        }
    }

    /// With what the object under a key is to be sealed; `None` for plain text.
    pub fn sealer(&self, key: &str) -> Option<&Sealer> {
        self.rule(key)?.providers.first()?.as_ref()
    }

    /// What has that label, among those that objects at this place are read with.
    pub fn opener(&self, key: &str, label: &str) -> Option<&Sealer> {
        let providers = self.rule(key)?.providers.iter();
        providers.flatten().find(|one| one.label() == label)
    }

    /// The plugins that keep keys.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<Kms>> {
        let all = self.0.iter().flat_map(|rule| rule.providers.iter().flatten());
        all.filter_map(|sealer| match sealer {
            Sealer::Kms(kms) => Some(kms),
            Sealer::Key(_) => None,
        })
    }

    /// Where objects may be that were sealed with a plugin's keys.
    pub fn prefixes_of_plugins(&self) -> impl Iterator<Item = &str> {
        let kept = |one: &Option<Sealer>| matches!(one, Some(Sealer::Kms(_)));
        let rules = self.0.iter().filter(move |rule| rule.providers.iter().any(kept));
        rules.flat_map(|rule| rule.prefixes.iter().map(String::as_str))
    }

    fn rule(&self, key: &str) -> Option<&Rule> {
        let concerns = |rule: &&Rule| rule.prefixes.iter().any(|prefix| key.starts_with(prefix));
        self.0.iter().find(concerns)
    }
}

impl Rule {
    fn read(from: Resources, plug: Plug) -> Result<Self, String> {
        let mut providers = Vec::new();
        for provider in from.providers {
            provider.read(&mut providers, plug)?;
        }
        if providers.is_empty() {
            return Err("a rule has no providers: name kms, aesgcm, secretbox or identity".to_owned());
        }
        let prefixes = from.resources.iter().map(|name| prefix(name));
        Ok(Self {
            prefixes: prefixes.collect::<Result<_, _>>()?,
            providers,
        })
    }
}

impl Sealer {
    /// What records that were sealed with it say.
    pub fn label(&self) -> &str {
        match self {
            Sealer::Key(key) => &key.label,
            Sealer::Kms(kms) => &kms.label,
        }
    }
}

impl Provider {
    fn read(self, into: &mut Vec<Option<Sealer>>, plug: Plug) -> Result<(), String> {
        if self.aescbc.is_some() {
            return Err(
                "aescbc is not supported, because what it keeps can be altered unnoticed: use aesgcm or \
                        secretbox"
                    .to_owned(),
            );
        }
        if let Some(told) = &self.kms {
            told.check()?;
            into.push(Some(Sealer::Kms(plug(told)?)));
        }
        for (provider, keys) in [("aesgcm", self.aesgcm), ("secretbox", self.secretbox)] {
            for key in keys.into_iter().flat_map(|keys| keys.keys) {
                into.push(Some(Sealer::Key(Key::read(provider, &key.name, &key.secret)?)));
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
    Ok(crate::stored::prefix(group, plural, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::kms::testing::unplugged;

    const FILE: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, widgets.example.com]
  providers:
  - aesgcm: {keys: [{name: new, secret: AAAAAAAAAAAAAAAAAAAAAA==}, {name: old, secret: AQAAAAAAAAAAAAAAAAAAAA==}]}
  - identity: {}
";
    const KMS: &str = "kms: {apiVersion: v2, name: p, endpoint: \"unix:///run/p.sock\"}";

    fn parse(text: &str) -> Result<Configuration, String> {
        Configuration::parse(text, &unplugged)
    }

    #[test]
    fn rules_say_what_is_sealed_with_what() {
        let read = parse(FILE).unwrap();
        let label = |key: &str| read.sealer(key).map(Sealer::label);
        assert_eq!(label("/core/secrets/a/b"), Some("aesgcm:new"));
        assert_eq!(label("/example.com/widgets/a/b"), Some("aesgcm:new"));
        assert_eq!(label("/core/configmaps/a/b"), None);
        assert!(read.opener("/core/secrets/a/b", "aesgcm:old").is_some());
        assert!(read.opener("/core/secrets/a/b", "aesgcm:lost").is_none());
        assert_eq!(read.plugins().count(), 0);
        let read = parse(&FILE.replace("identity: {}", KMS)).unwrap();
        assert!(read.opener("/core/secrets/a/b", "kms:p").is_some());
        let prefixes: Vec<&str> = read.prefixes_of_plugins().collect();
        assert_eq!(prefixes, ["/core/secrets/", "/example.com/widgets/"]);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let with = |old: &str, new: &str| parse(&FILE.replace(old, new)).err().unwrap();
        assert!(with("identity: {}", "aescbc: {keys: []}").contains("aescbc is not supported"));
        assert!(with("secrets,", "\"*.*\",").contains("name every resource"));
        assert!(with("secrets,", "roles.rbac.authorization.k8s.io,").contains("cannot be encrypted"));
        assert!(with("identity: {}", "rot13: {}").contains("rot13"));
        assert!(with("EncryptionConfiguration", "Other").contains("should be EncryptionConfiguration"));
    }

    #[test]
    fn plugins_are_told_of_as_kubernetes_wants() {
        let with = |old: &str, new: &str| {
            let kms = KMS.replace(old, new);
            parse(&FILE.replace("identity: {}", &kms)).err().unwrap()
        };
        assert!(with("v2", "v1").contains("use v2"));
        assert!(with("v2", "v3").contains("unsupported apiVersion v3"));
        assert!(with("name: p", "name: \"p:q\"").contains("must not contain ':'"));
        assert!(with("unix://", "https://").contains("must be unix"));
        assert!(with("}", ", timeout: soon}").contains("should be a positive value"));
        assert!(with("}", ", cachesize: 7}").contains("not supported in v2"));
        assert!(
            with(
                "}",
                "}\n  - kms: {apiVersion: v2, name: p, endpoint: \"unix:///q\"}"
            )
            .contains("Duplicate value")
        );
    }
}
