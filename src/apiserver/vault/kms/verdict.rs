//! What a plugin says of itself and of seeds, and what follows from it, in Kubernetes' words. Pure.

use std::collections::BTreeMap;

use api::go;
use api::names;

/// The version of the plugin's API that is spoken.
pub const VERSION: &str = "v2";
/// The longest identifier of a key, in bytes.
const KEY_ID_MAX: usize = 1024;
/// The longest form of a seed that is stored, in bytes.
const SOURCE_MAX: usize = 1024;
/// What all annotations may take, in bytes.
const ANNOTATIONS_MAX: usize = 32 * 1024;
/// How many parts an annotation's name has at least: `version.kms.example`, say.
const DOMAIN_SEGMENTS_MIN: usize = 3;

/// What a plugin says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The version of its API.
    pub version: String,
    /// `ok`, or what is wrong.
    pub healthz: String,
    /// The key that it encrypts with.
    pub key_id: String,
}

/// A seed as the plugin encrypted it. It is stored with what is sealed by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Source {
    /// The plugin's key.
    pub key_id: String,
    /// The seed, encrypted.
    pub encrypted: Vec<u8>,
    /// What the plugin wants to be told again.
    pub annotations: BTreeMap<String, Vec<u8>>,
}

/// What is wrong with an identifier of a key, as Kubernetes' metric names it.
pub fn key_id_trouble(key_id: &str) -> Option<&'static str> {
    match key_id.len() {
        0 => Some("empty"),
        length if length > KEY_ID_MAX => Some("too_long"),
        _ => None,
    }
}

impl Told {
    /// Whether the plugin called `name` is well.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, name: &str) -> Result<(), String> {
        let mut wrong = Vec::new();
        if self.healthz != "ok" {
            wrong.push(format!("got unexpected healthz status: {}", self.healthz));
        }
        if self.version != VERSION && self.version != "v2beta1" {
            wrong.push(format!(
                "expected KMSv2 API version {VERSION}, got {}",
                self.version
            ));
        }
        match key_id_trouble(&self.key_id) {
            Some("empty") => wrong.push("expected KMSv2 KeyID to be set, got ".to_owned()),
            Some(_) => wrong.push(format!(
                "got KMSv2 KeyID of {} bytes, more than {KEY_ID_MAX}",
                self.key_id.len()
            )),
            None => {}
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let why = go::aggregate(&wrong);
        Err(format!("kmsv2 Provider {name} is not healthy, error: {why}"))
    }
}

impl Source {
    /// Whether it can be stored.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let length = self.encrypted.len();
        if length == 0 {
            return Err("failed to validate encrypted DEK source: encrypted DEK source is empty".into());
        }
        if length > SOURCE_MAX {
            return Err(format!(
                "failed to validate encrypted DEK source: encrypted DEK source is {length} bytes, which exceeds the max \
                 size of {SOURCE_MAX}"
            ));
        }
        match key_id_trouble(&self.key_id) {
            Some("empty") => return Err("failed to validate key id: keyID is empty".into()),
            Some(_) => {
                return Err(format!(
                    "failed to validate key id: keyID is {} bytes, which exceeds the max size of {KEY_ID_MAX}",
                    self.key_id.len()
                ));
            }
            None => {}
        }
        self.check_annotations()
            .map_err(|why| format!("failed to validate annotations: {why}"))
    }

    fn check_annotations(&self) -> Result<(), String> {
        for key in self.annotations.keys() {
            if let Some(why) = names::is_dns_subdomain(key).into_iter().next() {
                return Err(format!("annotations: Invalid value: {key:?}: {why}"));
            }
            if key.split('.').count() < DOMAIN_SEGMENTS_MIN {
                return Err(format!(
                    "annotations: Invalid value: {key:?}: should be a domain with at least three segments separated \
                     by dots"
                ));
            }
        }
        let sizes = self
            .annotations
            .iter()
            .map(|(key, value)| key.len() + value.len());
        match sizes.sum::<usize>() {
            all if all > ANNOTATIONS_MAX => Err(format!(
                "total size of annotations is {all}, which exceeds the max size of {ANNOTATIONS_MAX}"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_well_or_it_is_said_why_not() {
        let told = |version: &str, healthz: &str, key_id: &str| Told {
            version: version.into(),
            healthz: healthz.into(),
            key_id: key_id.into(),
        };
        assert_eq!(told("v2", "ok", "1").check("p"), Ok(()));
        assert_eq!(
            told("v2", "no token", "1").check("p").unwrap_err(),
            "kmsv2 Provider p is not healthy, error: got unexpected healthz status: no token"
        );
        assert_eq!(
            told("v1", "ok", "").check("p").unwrap_err(),
            "kmsv2 Provider p is not healthy, error: [expected KMSv2 API version v2, got v1, expected KMSv2 KeyID to be \
             set, got ]"
        );
        assert!(told("v2", "ok", &"x".repeat(1025)).check("p").is_err());
    }

    #[test]
    fn what_a_plugin_makes_is_bounded() {
        let source = Source {
            key_id: "1".into(),
            encrypted: vec![1],
            annotations: BTreeMap::from([("a.example.com".into(), vec![0; 100])]),
        };
        assert_eq!(source.check(), Ok(()));
        let with = |change: fn(&mut Source)| {
            let mut changed = source.clone();
            change(&mut changed);
            changed.check().unwrap_err()
        };
        assert!(with(|s| s.encrypted.clear()).contains("encrypted DEK source is empty"));
        assert!(with(|s| s.encrypted = vec![0; 1025]).contains("is 1025 bytes"));
        assert!(with(|s| s.key_id.clear()).contains("keyID is empty"));
        let short = with(|s| drop(s.annotations.insert("example.com".into(), vec![])));
        assert!(
            short.contains("\"example.com\": should be a domain with at least three"),
            "{short}"
        );
        assert!(with(|s| drop(s.annotations.insert("A.b.c".into(), vec![]))).contains("lowercase RFC 1123"));
        let large = with(|s| drop(s.annotations.insert("b.example.com".into(), vec![0; 40_000])));
        assert!(large.contains("total size of annotations is 40126"), "{large}");
    }
}
