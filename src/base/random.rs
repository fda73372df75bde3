//! Randomness as a parameter: from the system in production, from a seed in tests.

use std::cell::RefCell;
use std::sync::Mutex;

/// Letters and digits from which Kubernetes makes generated name suffixes: no
/// vowels and no look-alikes, so that no words come out
/// (k8s.io/apimachinery `util/rand`).
const SAFE_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A source of random bytes and of the names made from them. Share it as `Arc<dyn Random>`.
pub trait Random: Send + Sync + 'static {
    /// Fills the slice with random bytes.
    fn fill(&self, bytes: &mut [u8]);

    /// A uniformly distributed number.
    fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number below `bound`, 0 when `bound` is 0. The bias is below `bound / 2^64`.
    fn below(&self, bound: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    /// `digits` lower-case hexadecimal digits.
    fn hex(&self, digits: usize) -> String {
        let mut bytes = vec![0; digits.div_ceil(2)];
        self.fill(&mut bytes);
        let mut text: String = bytes.into_iter().flat_map(hex_digits).collect();
        text.truncate(digits);
        text
    }

    /// `length` characters of Kubernetes' safe alphabet, as in generated pod names.
    fn suffix(&self, length: usize) -> String {
        (0..length)
            .map(|_| SAFE_ALPHABET[self.below(SAFE_ALPHABET.len() as u64) as usize] as char)
            .collect()
    }

    /// A version 4 UUID (RFC 9562) in its canonical lower-case text.
    fn uuid(&self) -> String {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let mut text = String::with_capacity(36);
        for (at, byte) in bytes.into_iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.extend(hex_digits(byte));
        }
        text
    }
}

/// The two lower-case digits of a byte.
fn hex_digits(byte: u8) -> [char; 2] {
    [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0'))
}

/// Shuffles a slice (Fisher–Yates).
pub fn shuffle<T>(random: &dyn Random, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        items.swap(i, random.below(i as u64 + 1) as usize);
    }
}

/// The operating system's generator; fit for keys and tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    /// # Panics
    /// When the kernel has no random source at all: nothing secret can be made then.
    fn fill(&self, bytes: &mut [u8]) {
        STOCK.with_borrow_mut(|stock| stock.hand_out(bytes));
    }
}

thread_local! {
    static STOCK: RefCell<Stock> = const { RefCell::new(Stock { bytes: [0; STOCK_BYTES], left: 0 }) };
}

/// Asking the system costs about the same for a few bytes and for many, and every request takes an identifier.
const STOCK_BYTES: usize = 512;

/// The system's bytes, fetched ahead. Each is handed out once, and not kept.
struct Stock {
    bytes: [u8; STOCK_BYTES],
    left: usize,
}

impl Stock {
    fn hand_out(&mut self, to: &mut [u8]) {
        let fetch = |bytes: &mut [u8]| getrandom::fill(bytes).expect("the operating system's random source");
        if to.len() > STOCK_BYTES / 8 {
            return fetch(to);
        }
        if self.left < to.len() {
            fetch(&mut self.bytes);
            self.left = STOCK_BYTES;
        }
        let from = &mut self.bytes[self.left - to.len()..self.left];
        to.copy_from_slice(from);
        from.fill(0);
        self.left -= to.len();
    }
}

/// A reproducible generator (SplitMix64). Never for anything secret.
#[derive(Debug)]
pub struct SeededRandom {
    // A std mutex: nothing awaits while holding it.
    state: Mutex<u64>,
}

impl SeededRandom {
    /// The same seed gives the same sequence, on every machine and in every release.
    pub fn new(seed: u64) -> Self {
        SeededRandom {
            state: Mutex::new(seed),
        }
    }

    /// Does some damage to bytes: changes, removes, repeats or cuts off. For tests of what reads them.
    pub fn damage(&self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.below(3) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len() as u64) as usize;
            let length = (1 + self.below(8)).min((bytes.len() - at) as u64) as usize;
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..at + length)),
                2 => {
                    let again = bytes[at..at + length].to_vec();
                    bytes.splice(at..at, again);
                }
                // Where a number is, one that is as large as can be.
                3 => bytes[at..at + length].fill(0xff),
                _ => bytes[at] ^= 1 << self.below(8),
            }
        }
    }

    /// One of some things, if there is any.
    pub fn one_of<'t, T>(&self, things: &'t [T]) -> Option<&'t T> {
        things.get(self.below(things.len() as u64) as usize)
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.number().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    fn number(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_sequence() {
        let (a, b) = (SeededRandom::new(7), SeededRandom::new(7));
        assert_eq!(a.hex(33), b.hex(33));
        assert_eq!(a.suffix(5), b.suffix(5));
        assert_ne!(a.number(), SeededRandom::new(8).number());
    }

    #[test]
    fn texts_have_their_shapes() {
        let random = SystemRandom;
        assert_eq!(random.hex(7).len(), 7);
        assert!(random.suffix(100).bytes().all(|c| SAFE_ALPHABET.contains(&c)));
        let uuid = random.uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&uuid.as_bytes()[19]));
    }

    #[test]
    fn the_systems_bytes_never_repeat() {
        let mut seen = std::collections::HashSet::new();
        for length in (16..STOCK_BYTES).chain(std::iter::repeat_n(16, 1000)) {
            let mut bytes = vec![0; length];
            SystemRandom.fill(&mut bytes);
            assert!(
                bytes
                    .windows(16)
                    .all(|window| window.iter().any(|byte| *byte != 0))
            );
            assert!(seen.insert(bytes));
        }
    }

    #[test]
    fn below_covers_its_range() {
        let random = SeededRandom::new(1);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[random.below(10) as usize] = true;
        }
        assert!(seen.iter().all(|s| *s));
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        shuffle(&SeededRandom::new(3), &mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
