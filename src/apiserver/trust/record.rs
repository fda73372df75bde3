//! The document of the cluster's secrets as the store keeps it: sealed, so that nobody learns it from the store's log,
//! files or messages alone. A witness has all of these.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use store::{Expect, Op, Record};

use crate::pki::Trust;
use crate::vault::Key;

/// Under which key the document is. No group of resources has such a name.
pub(super) const KEY: &str = "/.trust/record";
/// Below which prefix each server says, by its id, which generation it has taken up.
pub(super) const TAKEN: &str = "/.trust/taken/";

const HEAD: &str = "{\"resourceVersion\":\"";
const VERSION: u32 = 1;

#[derive(Deserialize)]
struct Sealed {
    version: u32,
    sealed: String,
}

fn key(seal: &str) -> Result<Key, String> {
    Key::read("aesgcm", "trust", seal)
}

fn put(key: &str, tail: &str, expect: Expect) -> Op {
    Op::Put {
        key: key.to_owned(),
        record: Record {
            text: format!("{HEAD}\",{tail}}}").into(),
            revision_at: HEAD.len() as u32,
            ..Record::default()
        },
        expect,
    }
}

/// Writes the document.
///
/// # Errors
/// When it cannot be sealed.
pub(super) fn write(trust: &Trust, expect: Expect) -> Result<Op, String> {
    let sealed = key(&trust.seal)?.seal(trust.text().as_bytes(), KEY);
    let sealed = STANDARD.encode(sealed.map_err(|_| "it cannot be sealed")?);
    let tail = format!("\"version\":{VERSION},\"sealed\":\"{sealed}\"");
    Ok(put(KEY, &tail, expect))
}

/// The document that a text of the store holds.
///
/// # Errors
/// When it was sealed with another key, or makes no sense.
pub(super) fn read(text: &[u8], seal: &str) -> Result<Trust, String> {
    let record: Sealed = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if record.version > VERSION {
        return Err("the cluster's keys were written by a newer version: upgrade this server".to_owned());
    }
    let sealed = STANDARD
        .decode(&record.sealed)
        .map_err(|error| error.to_string())?;
    let opened = key(seal)?.open(&sealed, KEY);
    Trust::parse(&opened.map_err(|_| "this server's keys are not those that the cluster's are sealed with")?)
}

/// Says that a server has taken up a generation.
pub(super) fn taken(member: u64, generation: u64) -> Op {
    let key = format!("{TAKEN}{member:x}");
    put(&key, &format!("\"generation\":{generation}"), Expect::Any)
}

/// Who has taken up which generation, as an entry of the store says it.
pub(super) fn read_taken(key: &str, text: &[u8]) -> Option<(u64, u64)> {
    #[derive(Deserialize)]
    struct Taken {
        generation: u64,
    }
    let member = u64::from_str_radix(key.strip_prefix(TAKEN)?, 16).ok()?;
    let taken: Taken = serde_json::from_slice(text).ok()?;
    Some((member, taken.generation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServerConfig;
    use crate::pki::{Pki, Secret};

    fn text(op: Op) -> Vec<u8> {
        match op {
            Op::Put { record, .. } => record.text.to_vec(),
            Op::Delete { .. } => panic!("a deletion"),
        }
    }

    #[test]
    fn the_store_learns_no_key() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = |dir: &tempfile::TempDir| {
            Pki::open(&ServerConfig::new(dir.path()), 6443, jiff::Timestamp::now()).unwrap()
        };
        let (ours, theirs) = (open(&dir).now(), open(&other).now());
        let written = text(write(&ours.trust, Expect::Any).unwrap());
        let plain = String::from_utf8(written.clone()).unwrap();
        for secret in Secret::ALL {
            let key = &ours.trust.active(secret).unwrap().key;
            assert!(!plain.contains(key.trim()), "{}", secret.name());
        }
        assert!(read(&written, &ours.trust.seal).unwrap() == ours.trust);
        assert!(
            read(&written, &theirs.trust.seal)
                .err()
                .unwrap()
                .contains("sealed with")
        );
        let newer = plain.replacen("\"version\":1", "\"version\":2", 1);
        assert!(
            read(newer.as_bytes(), &ours.trust.seal)
                .err()
                .unwrap()
                .contains("newer")
        );
    }

    #[test]
    fn servers_say_what_they_have_taken_up() {
        let Op::Put { key, record, .. } = taken(0xab, 7) else {
            panic!()
        };
        assert_eq!(read_taken(&key, &record.text), Some((0xab, 7)));
        assert_eq!(read_taken(KEY, &record.text), None);
    }
}
