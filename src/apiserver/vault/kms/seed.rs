//! The seed of the keys that data is sealed with, and how a key is made of it for each piece of data: HKDF with SHA-256
//! extends a seed by 32 random bytes to a key of AES-256-GCM, which is used once. Randomness aside, pure.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk};
use ring::rand::{SecureRandom, SystemRandom};

use crate::vault::keys::Failed;

/// Bytes of a seed.
pub const SEED_LEN: usize = 32;
/// Random bytes that a key is made with.
const INFO_LEN: usize = 32;

/// A seed. It stays in memory: what is stored is what the plugin made of it.
pub struct Seed(Prk);

impl Seed {
    /// A new one, and its bytes for the plugin.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn random() -> Result<(Self, Vec<u8>), Failed> {
        let mut bytes = vec![0; SEED_LEN];
        SystemRandom::new().fill(&mut bytes).map_err(|_| Failed)?;
        Ok((Self::of(&bytes)?, bytes))
    }

    /// One that was known before.
    ///
    /// # Errors
    /// When it is too short for one.
    pub fn of(bytes: &[u8]) -> Result<Self, Failed> {
        match bytes.len() >= SEED_LEN {
            true => Ok(Self(Prk::new_less_safe(HKDF_SHA256, bytes))),
            false => Err(Failed),
        }
    }

    /// Random bytes, nonce and ciphertext; `place` is where it will be kept, and must be said again to open it.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn seal(&self, text: &[u8], place: &str) -> Result<Vec<u8>, Failed> {
        let random = SystemRandom::new();
        let (mut info, mut nonce) = ([0; INFO_LEN], [0; NONCE_LEN]);
        random.fill(&mut info).map_err(|_| Failed)?;
        random.fill(&mut nonce).map_err(|_| Failed)?;
        let mut sealed = text.to_vec();
        let with = Nonce::assume_unique_for_key(nonce);
        self.key(&info)?
            .seal_in_place_append_tag(with, Aad::from(place.as_bytes()), &mut sealed)
            .map_err(|_| Failed)?;
        Ok([&info[..], &nonce[..], &sealed[..]].concat())
    }

    /// What [`Seed::seal`] sealed.
    ///
    /// # Errors
    /// When it was sealed with another seed, is damaged, or was kept elsewhere.
    pub fn open(&self, sealed: &[u8], place: &str) -> Result<Vec<u8>, Failed> {
        let (info, sealed) = sealed.split_first_chunk::<INFO_LEN>().ok_or(Failed)?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Failed)?;
        let (nonce, mut text) = (Nonce::assume_unique_for_key(*nonce), sealed.to_vec());
        let opened = self
            .key(info)?
            .open_in_place(nonce, Aad::from(place.as_bytes()), &mut text);
        let length = opened.map_err(|_| Failed)?.len();
        text.truncate(length);
        Ok(text)
    }

    fn key(&self, info: &[u8; INFO_LEN]) -> Result<LessSafeKey, Failed> {
        let info: [&[u8]; 1] = [info];
        let made = self.0.expand(&info, &AES_256_GCM).map_err(|_| Failed)?;
        Ok(LessSafeKey::new(UnboundKey::from(made)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_seed_at_its_place_only() {
        let (seed, bytes) = Seed::random().unwrap();
        let (other, _) = Seed::random().unwrap();
        let sealed = seed.seal(b"hunter2", "/a").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(seed.open(&sealed, "/a").unwrap(), b"hunter2");
        assert_eq!(Seed::of(&bytes).unwrap().open(&sealed, "/a").unwrap(), b"hunter2");
        assert_eq!(seed.open(&sealed, "/b"), Err(Failed));
        assert_eq!(other.open(&sealed, "/a"), Err(Failed));
        assert_eq!(seed.open(&sealed[..40], "/a"), Err(Failed));
        assert_ne!(
            seed.seal(b"hunter2", "/a").unwrap(),
            sealed,
            "never twice the same"
        );
        assert!(Seed::of(&bytes[1..]).is_err());
    }
}
