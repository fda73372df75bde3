//! A plugin made by hand, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base::SystemClock;

use super::Kms;
use super::remote::Remote;
use super::series::Series;
use super::verdict::{Source, Told};
use crate::vault::kms::ToldKms;

/// What a plugin does.
#[derive(Default)]
pub struct Script {
    /// What it says of itself; nothing when it is away.
    pub told: Mutex<Option<Told>>,
    /// Keys that it has no more.
    pub lost: Mutex<BTreeSet<String>>,
    /// How often it decrypted.
    pub decrypted: AtomicUsize,
}

impl Script {
    /// From now on it encrypts with this key; with none it is away.
    pub fn key(&self, key_id: Option<&str>) {
        *self.told.lock().unwrap() = key_id.map(|key_id| Told {
            version: "v2".into(),
            healthz: "ok".into(),
            key_id: key_id.into(),
        });
    }

    fn there(&self) -> Result<Told, String> {
        self.told
            .lock()
            .unwrap()
            .clone()
            .ok_or_else(|| "nobody there".to_owned())
    }
}

fn turned(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ 0x5a).collect()
}

/// A plugin that follows a script.
pub struct Scripted(pub Arc<Script>);

#[async_trait]
impl Remote for Scripted {
    async fn status(&self) -> Result<Told, String> {
        self.0.there()
    }

    async fn encrypt(&self, seed: Vec<u8>) -> Result<Source, String> {
        Ok(Source {
            key_id: self.0.there()?.key_id,
            encrypted: turned(&seed),
            annotations: BTreeMap::from([("a.example.com".into(), vec![7])]),
        })
    }

    async fn decrypt(&self, source: &Source) -> Result<Vec<u8>, String> {
        self.0.there()?;
        if self.0.lost.lock().unwrap().contains(&source.key_id) || source.annotations.len() != 1 {
            return Err("no such key".into());
        }
        self.0.decrypted.fetch_add(1, Ordering::SeqCst);
        Ok(turned(&source.encrypted))
    }
}

/// A plugin that nobody plays.
pub fn unplugged(told: &ToldKms) -> Result<Arc<Kms>, String> {
    let remote = Box::new(Scripted(Arc::default()));
    Ok(Arc::new(Kms::new(
        told.clone(),
        remote,
        Series::default(),
        Arc::new(SystemClock::new()),
    )))
}
