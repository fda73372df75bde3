//! Keys, and what is done with them: AES-GCM, and secretbox (XSalsa20 with Poly1305).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{Aead, KeyInit, Payload};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// Bytes of secretbox's nonce.
const BOX_NONCE_LEN: usize = 24;

/// One key of a provider.
pub struct Key {
    /// What records that were sealed with it say: the provider and the key's name.
    pub label: String,
    cipher: Cipher,
}

enum Cipher {
    Gcm(Box<LessSafeKey>),
    Secretbox(Box<XSalsa20Poly1305>),
}

/// Why something was not sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

impl Key {
    /// A key as configurations carry it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(provider: &str, name: &str, secret: &str) -> Result<Self, String> {
        let bytes = STANDARD
            .decode(secret)
            .map_err(|_| format!("key {name:?}: the secret is not base64"))?;
        let sized =
            |wanted: &str| format!("key {name:?}: the secret has {} bytes, not {wanted}", bytes.len());
        let cipher = match provider {
            "secretbox" => {
                let made = XSalsa20Poly1305::new_from_slice(&bytes).map_err(|_| sized("32"))?;
                Cipher::Secretbox(Box::new(made))
            }
            _ => {
                let algorithm = match bytes.len() {
                    16 => &AES_128_GCM,
                    32 => &AES_256_GCM,
                    _ => return Err(sized("16 or 32")),
                };
                let key = UnboundKey::new(algorithm, &bytes).map_err(|_| sized("16 or 32"))?;
                Cipher::Gcm(Box::new(LessSafeKey::new(key)))
            }
        };
        Ok(Self {
            label: format!("{provider}:{name}"),
            cipher,
        })
    }

    /// Nonce and ciphertext; `place` is where it will be kept, and must be said again to open it.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn seal(&self, text: &[u8], place: &str) -> Result<Vec<u8>, Failed> {
        let random = SystemRandom::new();
        match &self.cipher {
            Cipher::Gcm(key) => {
                let mut nonce = [0; NONCE_LEN];
                random.fill(&mut nonce).map_err(|_| Failed)?;
                let (mut out, mut sealed) = (nonce.to_vec(), text.to_vec());
                let with = Nonce::assume_unique_for_key(nonce);
                key.seal_in_place_append_tag(with, Aad::from(place.as_bytes()), &mut sealed)
                    .map_err(|_| Failed)?;
                out.append(&mut sealed);
                Ok(out)
            }
            Cipher::Secretbox(cipher) => {
                let mut nonce = [0; BOX_NONCE_LEN];
                random.fill(&mut nonce).map_err(|_| Failed)?;
                let mut out = nonce.to_vec();
                // Secretbox knows no further data: the place goes in front of the text.
                let placed = placed(text, place);
                let payload = Payload::from(&placed[..]);
                out.append(&mut cipher.encrypt(&nonce.into(), payload).map_err(|_| Failed)?);
                Ok(out)
            }
        }
    }

    /// What [`Key::seal`] sealed.
    ///
    /// # Errors
    /// When it was sealed with another key, is damaged, or was kept elsewhere.
    pub fn open(&self, sealed: &[u8], place: &str) -> Result<Vec<u8>, Failed> {
        match &self.cipher {
            Cipher::Gcm(key) => {
                let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Failed)?;
                let (nonce, mut text) = (Nonce::assume_unique_for_key(*nonce), sealed.to_vec());
                let opened = key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut text);
                let length = opened.map_err(|_| Failed)?.len();
                text.truncate(length);
                Ok(text)
            }
            Cipher::Secretbox(cipher) => {
                let (nonce, sealed) = sealed.split_first_chunk::<BOX_NONCE_LEN>().ok_or(Failed)?;
                let opened = cipher.decrypt(&(*nonce).into(), sealed).map_err(|_| Failed)?;
                let text = opened
                    .strip_prefix(place.as_bytes())
                    .and_then(|rest| rest.strip_prefix(b"\0"));
                Ok(text.ok_or(Failed)?.to_vec())
            }
        }
    }
}

fn placed(text: &[u8], place: &str) -> Vec<u8> {
    [place.as_bytes(), b"\0", text].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(provider: &str, name: &str, bytes: usize) -> Key {
        Key::read(
            provider,
            name,
            &STANDARD.encode(vec![bytes as u8 ^ name.len() as u8; bytes]),
        )
        .unwrap()
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_at_its_place_only() {
        for (provider, bytes) in [("aesgcm", 16), ("aesgcm", 32), ("secretbox", 32)] {
            let (one, other) = (key(provider, "a", bytes), key(provider, "bb", bytes));
            let sealed = one.seal(b"hunter2", "/core/secrets/a/b").unwrap();
            assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
            assert_eq!(one.open(&sealed, "/core/secrets/a/b").unwrap(), b"hunter2");
            assert_eq!(one.open(&sealed, "/core/secrets/a/c"), Err(Failed));
            assert_eq!(other.open(&sealed, "/core/secrets/a/b"), Err(Failed));
            assert_eq!(one.open(&sealed[..5], "/core/secrets/a/b"), Err(Failed));
            let mut damaged = sealed.clone();
            *damaged.last_mut().unwrap() ^= 1;
            assert_eq!(one.open(&damaged, "/core/secrets/a/b"), Err(Failed));
            assert_ne!(
                one.seal(b"hunter2", "/core/secrets/a/b").unwrap(),
                sealed,
                "never twice the same"
            );
        }
    }

    #[test]
    fn keys_of_the_wrong_size_are_refused() {
        let refused = |provider: &str, secret: &str| Key::read(provider, "k", secret).err().unwrap();
        assert_eq!(
            refused("aesgcm", "AAAA"),
            "key \"k\": the secret has 3 bytes, not 16 or 32"
        );
        assert_eq!(
            refused("secretbox", "AAAA"),
            "key \"k\": the secret has 3 bytes, not 32"
        );
        assert_eq!(refused("aesgcm", "?"), "key \"k\": the secret is not base64");
    }
}
