//! Keys that are kept elsewhere: KMS v2. A plugin beside this server encrypts a seed, of which the keys for all data
//! are made (`seed.rs`); the encrypted seed is stored with the data, and the seed stays in memory.
//!
//! ```text
//! Status, every minute ─▶ another key_id? ─▶ a new seed ─ Encrypt ─▶ State: what is written from now on
//! an entry ─▶ its seed known? ─ no ─ Decrypt ─▶ cache: what is read from now on
//! ```
//!
//! A plugin that goes away stops what is written three minutes later, and nothing that is read with a seed that was
//! known before.

pub mod remote;
mod seed;
pub mod series;
mod told;
pub mod verdict;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::Clock;

use super::keys::Failed;
use remote::Remote;
use seed::Seed;
use series::Series;
pub use told::ToldKms;
use verdict::{Source, Told, key_id_trouble};

/// How often a plugin that is well is asked how it is.
const WELL_EVERY: Duration = Duration::from_secs(60);
/// And one that is not.
const UNWELL_EVERY: Duration = Duration::from_secs(10);
/// How long is written with a seed whose plugin says nothing.
const WRITES_FOR: Duration = Duration::from_secs(180);
/// How many seeds are kept; with more, all but the one that is written with are forgotten.
const SEEDS_MAX: usize = 10_000;

/// A plugin, and what is known of its keys.
pub struct Kms {
    /// How the configuration tells of it.
    pub told: ToldKms,
    /// What records that were sealed with it say.
    pub label: String,
    remote: Box<dyn Remote>,
    series: Series,
    clock: Arc<dyn Clock>,
    // A std lock: nothing awaits while it is held.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    writes: Option<Writes>,
    seeds: HashMap<Source, Arc<Seed>>,
    /// What was wrong when it was asked last.
    trouble: Option<String>,
    asked: Option<Duration>,
}

/// What is written with.
#[derive(Clone)]
pub struct Writes {
    /// How the seed is stored.
    pub source: Arc<Source>,
    seed: Arc<Seed>,
    until: Duration,
}

impl Kms {
    /// A plugin that has not been asked yet.
    pub fn new(told: ToldKms, remote: Box<dyn Remote>, series: Series, clock: Arc<dyn Clock>) -> Self {
        Self {
            label: format!("kms:{}", told.name),
            told,
            remote,
            series,
            clock,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is time to ask how it is.
    pub fn is_due(&self) -> bool {
        let (now, known) = (self.clock.monotonic(), self.known());
        let every = if known.trouble.is_some() {
            UNWELL_EVERY
        } else {
            WELL_EVERY
        };
        known.asked.is_none_or(|asked| now.saturating_sub(asked) >= every)
    }

    /// Has it asked soon, whatever it said last.
    pub fn look_soon(&self) {
        self.known().asked = None;
    }

    /// Whether it is well.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn health(&self) -> Result<(), String> {
        let known = self.known();
        match (&known.trouble, &known.writes) {
            (Some(why), _) => Err(why.clone()),
            (None, None) => Err(format!(
                "kmsv2 Provider {} has not been asked yet",
                self.told.name
            )),
            (None, Some(_)) => Ok(()),
        }
    }

    /// Asks how it is, and for a new seed's encryption if its key is another one.
    pub async fn look(&self) {
        let found = self.find_out().await;
        let now = self.clock.monotonic();
        let mut known = self.known();
        known.asked = Some(now);
        let trouble = found.err();
        if let Some(why) = trouble.as_ref().filter(|_| known.trouble != trouble) {
            tracing::error!(
                plugin = self.told.name,
                why,
                "the KMS plugin does not do what it should"
            );
        }
        known.trouble = trouble;
    }

    async fn find_out(&self) -> Result<(), String> {
        let failed = |why: String| {
            format!(
                "failed to perform status section of the healthz check for KMS Provider {}, error: {why}",
                self.told.name
            )
        };
        let told = self.remote.status().await.map_err(failed)?;
        self.series
            .told(&self.told.name, &told.key_id, key_id_trouble(&told.key_id));
        told.check(&self.told.name)?;
        if self.goes_on(&told) {
            return Ok(());
        }
        let writes = self.renew(&told).await?;
        tracing::info!(
            plugin = self.told.name,
            "objects are sealed with another key of the KMS plugin now"
        );
        let mut known = self.known();
        keep(&mut known, (*writes.source).clone(), writes.seed.clone());
        self.series.cached(&self.told.name, known.seeds.len());
        known.writes = Some(writes);
        Ok(())
    }

    /// Writes on with the seed that there is, if the plugin's key is still the same.
    fn goes_on(&self, told: &Told) -> bool {
        let until = self.clock.monotonic() + WRITES_FOR;
        let mut known = self.known();
        let same = known
            .writes
            .as_mut()
            .filter(|writes| writes.source.key_id == told.key_id);
        same.map(|writes| writes.until = until).is_some()
    }

    async fn renew(&self, told: &Told) -> Result<Writes, String> {
        let (seed, bytes) = Seed::random().map_err(|Failed| "the machine has no randomness to give")?;
        let encrypted = self.remote.encrypt(bytes).await;
        let source = encrypted.map_err(|why| format!("failed to encrypt DEK, error: {why}"))?;
        source.check()?;
        if source.key_id != told.key_id {
            return Err(format!(
                "failed to rotate DEK: the plugin {} says that its key is {:?}, and encrypts with {:?}",
                self.told.name, told.key_id, source.key_id
            ));
        }
        Ok(Writes {
            source: Arc::new(source),
            seed: Arc::new(seed),
            until: self.clock.monotonic() + WRITES_FOR,
        })
    }

    /// What is to be written with now.
    ///
    /// # Errors
    /// When there is nothing, or not any more.
    pub fn writes(&self) -> Result<Writes, String> {
        let known = self.known();
        let Some(writes) = &known.writes else {
            let why = known.trouble.as_deref().unwrap_or("it has not been asked yet");
            return Err(format!(
                "the KMS plugin {} has encrypted no key yet: {why}",
                self.told.name
            ));
        };
        if self.clock.monotonic() > writes.until {
            let why = known.trouble.as_deref().unwrap_or("it was not asked");
            return Err(format!(
                "encryptedDEKSource of the KMS plugin {} expired {} s after it was last well: {why}",
                self.told.name,
                WRITES_FOR.as_secs()
            ));
        }
        Ok(writes.clone())
    }

    /// Whether what was sealed with that key of the plugin would be sealed with another one now.
    pub fn is_stale(&self, key_id: &str) -> bool {
        let known = self.known();
        known
            .writes
            .as_ref()
            .is_some_and(|writes| writes.source.key_id != key_id)
    }

    /// Seals a text.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn seal(&self, writes: &Writes, text: &[u8], place: &str) -> Result<Vec<u8>, Failed> {
        self.series.used(&self.told.name, &writes.source.key_id, true);
        writes.seed.seal(text, place)
    }

    /// Whether a seed is in memory.
    pub fn knows(&self, source: &Source) -> bool {
        self.known().seeds.contains_key(source)
    }

    /// Opens what was sealed; `None` when its seed is not in memory, see [`Kms::learn`].
    pub fn open(&self, source: &Source, sealed: &[u8], place: &str) -> Option<Result<Vec<u8>, Failed>> {
        let seed = self.known().seeds.get(source).cloned()?;
        self.series.used(&self.told.name, &source.key_id, false);
        Some(seed.open(sealed, place))
    }

    /// Has a seed decrypted.
    ///
    /// # Errors
    /// In Kubernetes' words.
    pub async fn learn(&self, source: &Source) -> Result<(), String> {
        if self.knows(source) {
            return Ok(());
        }
        let decrypted = self.remote.decrypt(source).await;
        let bytes = decrypted.map_err(|why| format!("failed to decrypt DEK, error: {why}"))?;
        let seed = Seed::of(&bytes).map_err(|Failed| "the KMS plugin gave something that is no seed")?;
        let mut known = self.known();
        keep(&mut known, source.clone(), Arc::new(seed));
        self.series.cached(&self.told.name, known.seeds.len());
        Ok(())
    }
}

/// Keeps a seed, and not more than are worth it.
fn keep(known: &mut Known, source: Source, seed: Arc<Seed>) {
    if known.seeds.len() >= SEEDS_MAX {
        known.seeds.clear();
        if let Some(writes) = &known.writes {
            known.seeds.insert((*writes.source).clone(), writes.seed.clone());
        }
    }
    known.seeds.insert(source, seed);
}

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
