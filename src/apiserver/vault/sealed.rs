//! Sealed records: a text that says with which key the true one can be read. Pure, randomness of the seal aside.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::{Entry, Record, StoreError};

use super::configuration::{Configuration, Sealer};
use super::kms::verdict::Source;
use super::kms::{Kms, Writes};

/// How every sealed text begins; the revision follows. Objects begin with their `apiVersion`.
const HEAD: &[u8] = b"{\"sealed\":\"v1\",\"revision\":\"";

#[derive(Deserialize)]
struct Sealed<'a> {
    by: &'a str,
    data: &'a str,
    /// The seed that a plugin encrypted, if it is one's.
    seed: Option<Seed>,
}

/// A [`Source`] as it is stored.
#[derive(Serialize, Deserialize)]
struct Seed {
    key: String,
    encrypted: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl Seed {
    fn of(source: &Source) -> Self {
        let annotations = source.annotations.iter();
        Self {
            key: source.key_id.clone(),
            encrypted: STANDARD.encode(&source.encrypted),
            annotations: annotations
                .map(|(key, value)| (key.clone(), STANDARD.encode(value)))
                .collect(),
        }
    }

    fn source(&self) -> Option<Source> {
        let decode = |text: &String| STANDARD.decode(text).ok();
        let annotations = self.annotations.iter();
        let annotations = annotations.map(|(key, value)| Some((key.clone(), decode(value)?)));
        Some(Source {
            key_id: self.key.clone(),
            encrypted: decode(&self.encrypted)?,
            annotations: annotations.collect::<Option<_>>()?,
        })
    }
}

/// Puts a sealed text in a record's place. Where the machine has no randomness to seal with, the process ends: going on
/// would mean to write plain text.
///
/// # Errors
/// When a plugin has no key to write with.
pub fn seal(record: &mut Record, key: &str, sealer: &Sealer) -> Result<(), StoreError> {
    // The place of the revision goes along, in front.
    let plain = [&record.revision_at.to_be_bytes()[..], &record.text].concat();
    let (sealed, seed) = match sealer {
        Sealer::Key(with) => (with.seal(&plain, key), String::new()),
        Sealer::Kms(kms) => {
            let writes: Writes = kms.writes().map_err(|why| refused(key, why))?;
            let seed = serde_json::json!(Seed::of(&writes.source));
            (kms.seal(&writes, &plain, key), format!(",\"seed\":{seed}"))
        }
    };
    let Ok(sealed) = sealed else {
        tracing::error!(key, "an object could not be encrypted");
        std::process::abort();
    };
    let (by, data) = (serde_json::Value::from(sealer.label()), STANDARD.encode(sealed));
    let tail = format!("\",\"by\":{by}{seed},\"data\":\"{data}\"}}");
    record.text = [HEAD, tail.as_bytes()].concat().into();
    record.revision_at = HEAD.len() as u32;
    Ok(())
}

/// What is said of an entry that cannot be read, or written.
pub fn refused(key: &str, reason: String) -> StoreError {
    StoreError::Format {
        what: key.to_owned(),
        reason,
    }
}

/// Whether an entry's text is sealed.
pub fn is_sealed(entry: &Entry) -> bool {
    entry.text.starts_with(HEAD)
}

fn read(entry: &Entry) -> Option<Sealed<'_>> {
    serde_json::from_slice(&entry.text).ok()
}

/// Whether an entry is sealed otherwise than it would be now.
pub fn is_stale(entry: &Entry, configuration: &Configuration) -> bool {
    let wanted = configuration.sealer(&entry.key);
    let has = is_sealed(entry).then(|| read(entry)).flatten();
    if wanted.map(Sealer::label) != has.as_ref().map(|sealed| sealed.by) {
        return true;
    }
    let seed = has.and_then(|sealed| sealed.seed);
    matches!((wanted, seed), (Some(Sealer::Kms(kms)), Some(seed)) if kms.is_stale(&seed.key))
}

/// The plugin and the seed that an entry was sealed with, if it was sealed so.
pub fn seed<'c>(entry: &Entry, configuration: &'c Configuration) -> Option<(&'c Arc<Kms>, Source)> {
    if !is_sealed(entry) {
        return None;
    }
    let sealed = read(entry)?;
    match configuration.opener(&entry.key, sealed.by)? {
        Sealer::Kms(kms) => Some((kms, sealed.seed?.source()?)),
        Sealer::Key(_) => None,
    }
}

/// An entry as it was before it was sealed; one that never was, as it is.
///
/// # Errors
/// When no key fits.
pub fn open(entry: &Arc<Entry>, configuration: &Configuration) -> Result<Arc<Entry>, StoreError> {
    if !is_sealed(entry) {
        return Ok(entry.clone());
    }
    let refused = |reason: String| refused(&entry.key, reason);
    let damaged = || refused("it is encrypted, and damaged".to_owned());
    let sealed = read(entry).ok_or_else(damaged)?;
    let opener = configuration.opener(&entry.key, sealed.by).ok_or_else(|| {
        refused(format!(
            "it is encrypted with {}, which encryption-provider-config does not name (any more): name it there again",
            sealed.by
        ))
    })?;
    let data = STANDARD.decode(sealed.data).map_err(|_| damaged())?;
    let unfit = |_| {
        refused(format!(
            "{} does not fit: the secret of that key is another one now",
            sealed.by
        ))
    };
    let opened = match opener {
        Sealer::Key(key) => key.open(&data, &entry.key),
        Sealer::Kms(kms) => {
            let source = sealed.seed.as_ref().and_then(Seed::source).ok_or_else(damaged)?;
            let unknown = || refused(format!("its seed has not been decrypted by {} yet", sealed.by));
            kms.open(&source, &data, &entry.key).ok_or_else(unknown)?
        }
    };
    let plain = opened.map_err(unfit)?;
    let (at, text) = plain.split_first_chunk::<4>().ok_or_else(damaged)?;
    let revision_at = u32::from_be_bytes(*at);
    let (head, tail) = text.split_at_checked(revision_at as usize).ok_or_else(damaged)?;
    let text: Bytes = [head, entry.revision.to_string().as_bytes(), tail]
        .concat()
        .into();
    Ok(Arc::new(Entry {
        text,
        revision_at,
        ..Entry::clone(entry)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::kms::testing::unplugged;

    const FILE: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers: [{secretbox: {keys: [{name: a, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}]}}]
";

    fn entry(record: &Record) -> Arc<Entry> {
        let mut text = record.text.to_vec();
        let at = record.revision_at as usize;
        text.splice(at..at, *b"42");
        Arc::new(Entry {
            key: "/core/secrets/a/b".into(),
            revision: 42,
            created: 7,
            header: record.header.clone(),
            text: text.into(),
            revision_at: record.revision_at,
            expires_ms: None,
        })
    }

    #[test]
    fn a_sealed_record_comes_back_with_its_revision() {
        let configuration = Configuration::parse(FILE, &unplugged).unwrap();
        let plain = Record {
            text: Bytes::from_static(b"{\"a\":\"\",\"b\":\"hunter2\"}"),
            revision_at: 6,
            ..Record::default()
        };
        let mut sealed = plain.clone();
        let key = "/core/secrets/a/b";
        seal(&mut sealed, key, configuration.sealer(key).unwrap()).unwrap();
        assert!(!sealed.text.windows(7).any(|part| part == b"hunter2"));
        let kept = entry(&sealed);
        assert!(is_sealed(&kept) && !is_stale(&kept, &configuration));
        let opened = open(&kept, &configuration).unwrap();
        assert_eq!(opened, entry(&plain));
        assert_eq!(&opened.text[..], b"{\"a\":\"42\",\"b\":\"hunter2\"}");
        // Plain text is read as it is, and worth being written again.
        assert_eq!(open(&entry(&plain), &configuration).unwrap(), entry(&plain));
        assert!(is_stale(&entry(&plain), &configuration));
        let lost = open(&kept, &Configuration::default()).unwrap_err().to_string();
        assert!(
            lost.contains("encrypted with secretbox:a") && lost.contains("name it there again"),
            "{lost}"
        );
    }
}
