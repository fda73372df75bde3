//! What is written: objects of 1 KiB, over some keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Where the revision goes in a value: etcd does not care.
pub const REVISION_AT: u32 = 20;

/// What all keys begin with.
pub const PREFIX: &str = "/core/pods/default/";

const VALUE_BYTES: usize = 1024;
/// A prime: no pattern of keys meets the same value again.
const VALUES: u64 = 1009;

/// The key of this number.
pub fn key(number: u64) -> Bytes {
    format!("{PREFIX}pod-{number:08}").into()
}

/// One of the numbers below `keys`, in an order of no use to anybody.
pub fn scattered(number: u64, keys: u64) -> u64 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % keys.max(1)
}

/// Values, made before anybody looks at the clock.
#[derive(Clone)]
pub struct Values(Arc<(Vec<Bytes>, AtomicUsize)>);

impl Values {
    /// Different ones, some.
    pub fn new() -> Self {
        let values = (0..VALUES).map(value).collect();
        Values(Arc::new((values, AtomicUsize::new(0))))
    }

    /// One after the other: a key hardly ever gets what it has, which would be no write.
    pub fn next(&self) -> Bytes {
        let (values, at) = &*self.0;
        values[at.fetch_add(1, Ordering::Relaxed) % values.len()].clone()
    }
}

/// A text of 1 KiB that no disk compresses well.
fn value(number: u64) -> Bytes {
    let mut text = String::with_capacity(VALUE_BYTES + 16);
    text.push_str("{\"resourceVersion\":\"\",\"data\":\"");
    let mut state = number;
    while text.len() < VALUE_BYTES - 2 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{:016x}", state ^ (state >> 29)));
    }
    text.truncate(VALUE_BYTES - 2);
    text.push_str("\"}");
    text.into()
}
