//! What an instance uses and may use: memory, CPU time, requests.
//!
//! One [`Account`] belongs to an instance, however many stores it has: a
//! `wasi:http` program has one for each request it is answering.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use wasmtime::ResourceLimiter;

/// Address space kept for each linear memory. With all of what 32 bits can
/// address, plus guards, compiled code needs no bounds checks.
pub(crate) const MEMORY_BYTES_MAX: usize = 4 << 30;

/// Elements a table may have: enough for the function tables of large programs.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 200_000;

/// Bytes counted for one table element: a pointer.
const TABLE_ELEMENT_BYTES: usize = 8;

/// How much unused CPU time may be saved up for a burst, in wall time. The same
/// as the period of the kernel's CPU bandwidth control.
const BURST: Duration = Duration::from_millis(100);

/// Counters of a running or ended instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time spent in the guest and in host calls on its behalf, in nanoseconds.
    pub cpu_ns: u64,
    /// Linear memory and tables held at this moment, in bytes.
    pub memory_bytes: u64,
    /// The most that `memory_bytes` has been.
    pub memory_bytes_peak: u64,
    /// HTTP requests answered (only for `wasi:http` programs).
    pub requests: u64,
    /// Those of them that programs of the same pod have handed over in memory.
    pub requests_inside: u64,
}

/// Counters and limits of one instance.
pub(crate) struct Account {
    memory_bytes_max: AtomicU64,
    memory_bytes: AtomicU64,
    memory_bytes_peak: AtomicU64,
    /// The most that one store has held: what the next one will probably need.
    store_bytes: AtomicU64,
    cpu_ns: AtomicU64,
    requests: AtomicU64,
    requests_inside: AtomicU64,
    throttle: Mutex<Option<Throttle>>,
    freed: Notify,
}

/// A guest asked for more memory than it may have.
#[derive(Debug, thiserror::Error)]
#[error("memory limit of {limit} exceeded: {used} in use, {wanted} more asked for")]
pub(crate) struct OutOfMemory {
    limit: Bytes,
    used: Bytes,
    wanted: Bytes,
}

/// A number of bytes, shown in mebibytes.
#[derive(Debug)]
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{} MiB", self.0 >> 20, ((self.0 % (1 << 20)) * 10) >> 20)
    }
}

impl Account {
    pub(crate) fn new(memory_bytes_max: u64, cpu_millis_max: Option<u32>) -> Account {
        Account {
            memory_bytes_max: AtomicU64::new(memory_bytes_max),
            memory_bytes: AtomicU64::new(0),
            memory_bytes_peak: AtomicU64::new(0),
            store_bytes: AtomicU64::new(0),
            cpu_ns: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            requests_inside: AtomicU64::new(0),
            throttle: Mutex::new(cpu_millis_max.map(|millis| Throttle::new(millis, Instant::now()))),
            freed: Notify::new(),
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.load(Relaxed),
            memory_bytes: self.memory_bytes.load(Relaxed),
            memory_bytes_peak: self.memory_bytes_peak.load(Relaxed),
            requests: self.requests.load(Relaxed),
            requests_inside: self.requests_inside.load(Relaxed),
        }
    }

    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// Counts a request that a neighbour hands over, besides [`Account::count_request`].
    pub(crate) fn count_neighbour(&self) {
        self.requests_inside.fetch_add(1, Relaxed);
    }

    /// Books CPU time.
    pub(crate) fn charge(&self, used: Duration) {
        self.cpu_ns.fetch_add(used.as_nanos() as u64, Relaxed);
        if let Some(throttle) = self.throttle().as_mut() {
            throttle.charge(used);
        }
    }

    fn throttle(&self) -> MutexGuard<'_, Option<Throttle>> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the limits of a running instance; `None` leaves one as it is.
    /// What is held beyond a lower memory limit stays: it is the next growth that fails.
    pub(crate) fn limit(&self, memory_bytes_max: Option<u64>, cpu_millis_max: Option<u32>) {
        if let Some(bytes) = memory_bytes_max {
            self.memory_bytes_max.store(bytes, Relaxed);
            self.freed.notify_waiters();
        }
        if let Some(millis) = cpu_millis_max {
            *self.throttle() = Some(Throttle::new(millis, Instant::now()));
        }
    }

    /// How long the guest must pause to get back within its CPU limit.
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.throttle().as_mut()?.pause(Instant::now())
    }

    /// Waits until a further store probably fits in beside those that exist,
    /// so that many requests at once queue up instead of running out of memory.
    /// With no other store around there is nothing to wait for.
    pub(crate) async fn room(&self) {
        loop {
            // Made before looking, so that a release in between is not missed.
            let freed = self.freed.notified();
            let used = self.memory_bytes.load(Relaxed);
            let next = self.store_bytes.load(Relaxed);
            if used == 0 || used.saturating_add(next) <= self.memory_bytes_max.load(Relaxed) {
                return;
            }
            freed.await;
        }
    }

    /// Books memory of this process's that is not in a store, until what is returned is dropped.
    pub(crate) fn hold(self: &Arc<Self>, bytes: u64) -> Result<Held, OutOfMemory> {
        self.take(bytes)?;
        Ok(Held {
            account: self.clone(),
            bytes,
        })
    }

    fn take(&self, bytes: u64) -> Result<(), OutOfMemory> {
        let most = self.memory_bytes_max.load(Relaxed);
        let grant = self.memory_bytes.fetch_update(Relaxed, Relaxed, |used| {
            used.checked_add(bytes).filter(|total| *total <= most)
        });
        match grant {
            Ok(before) => {
                self.memory_bytes_peak.fetch_max(before + bytes, Relaxed);
                Ok(())
            }
            Err(used) => Err(OutOfMemory {
                limit: Bytes(most),
                used: Bytes(used),
                wanted: Bytes(bytes),
            }),
        }
    }

    fn give_back(&self, bytes: u64) {
        self.memory_bytes.fetch_sub(bytes, Relaxed);
        self.freed.notify_waiters();
    }
}

/// Memory that an instance answers for besides its stores'.
pub(crate) struct Held {
    account: Arc<Account>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.give_back(self.bytes);
    }
}

/// Keeps one store within its instance's memory limit.
pub(crate) struct Limiter {
    account: Arc<Account>,
    held: u64,
}

impl Limiter {
    pub(crate) fn new(account: Arc<Account>) -> Limiter {
        Limiter { account, held: 0 }
    }

    fn grow(&mut self, bytes: usize) -> wasmtime::Result<bool> {
        // An error here ends the guest. A plain refusal would reach it as a
        // failed `memory.grow`, which most programs turn into a puzzling abort.
        self.account.take(bytes as u64)?;
        self.held += bytes as u64;
        self.account.store_bytes.fetch_max(self.held, Relaxed);
        Ok(true)
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.account.give_back(self.held);
    }
}

// Growth that fails after it was granted stays booked. Giving it back in
// `memory_grow_failed` would be a hole: that is also called for requests which
// were never put to the limiter (beyond 4 GiB, say), so a guest could have every
// grant taken off the books. It cannot fail but for want of kernel memory.
impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, now: usize, wanted: usize, most: Option<usize>) -> wasmtime::Result<bool> {
        if wanted > most.unwrap_or(MEMORY_BYTES_MAX).min(MEMORY_BYTES_MAX) {
            return Ok(false);
        }
        self.grow(wanted.saturating_sub(now))
    }

    fn table_growing(&mut self, now: usize, wanted: usize, most: Option<usize>) -> wasmtime::Result<bool> {
        if wanted > most.unwrap_or(TABLE_ELEMENTS_MAX).min(TABLE_ELEMENTS_MAX) {
            return Ok(false);
        }
        self.grow(wanted.saturating_sub(now).saturating_mul(TABLE_ELEMENT_BYTES))
    }
}

/// A token bucket of CPU time: fills at the quota's rate, holds little, and may
/// be overdrawn; the guest then pauses until it is full enough again.
struct Throttle {
    millis: u32,
    /// CPU time that may still be used, in nanoseconds; negative when overdrawn.
    credit_ns: i64,
    filled: Instant,
}

impl Throttle {
    fn new(millis: u32, now: Instant) -> Throttle {
        // A quota of nothing would never let a guest go on.
        let millis = millis.max(1);
        Throttle {
            millis,
            credit_ns: Throttle::most_ns(millis),
            filled: now,
        }
    }

    fn most_ns(millis: u32) -> i64 {
        BURST.as_nanos() as i64 * i64::from(millis) / 1000
    }

    fn charge(&mut self, used: Duration) {
        self.credit_ns = self.credit_ns.saturating_sub(used.as_nanos() as i64);
    }

    fn pause(&mut self, now: Instant) -> Option<Duration> {
        let elapsed_ns = now.saturating_duration_since(self.filled).as_nanos() as i128;
        let earned_ns = (elapsed_ns * i128::from(self.millis) / 1000).min(i128::from(i64::MAX / 2)) as i64;
        self.credit_ns = self
            .credit_ns
            .saturating_add(earned_ns)
            .min(Throttle::most_ns(self.millis));
        self.filled = now;
        let owed_ns = u64::try_from(-self.credit_ns).ok().filter(|owed| *owed > 0)?;
        Some(Duration::from_nanos(
            owed_ns.saturating_mul(1000) / u64::from(self.millis),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shared_by_the_stores_of_an_instance() {
        let account = Arc::new(Account::new(10 << 20, None));
        let (mut one, mut two) = (Limiter::new(account.clone()), Limiter::new(account.clone()));
        assert!(one.memory_growing(0, 6 << 20, None).unwrap());
        let error = two.memory_growing(0, 5 << 20, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "memory limit of 10.0 MiB exceeded: 6.0 MiB in use, 5.0 MiB more asked for"
        );
        drop(one);
        assert!(two.memory_growing(0, 5 << 20, None).unwrap());
        assert_eq!(account.usage().memory_bytes_peak, 6 << 20);
        drop(two);
        assert_eq!(account.usage().memory_bytes, 0);
    }

    #[test]
    fn what_is_held_besides_stores_counts_as_well() {
        let account = Arc::new(Account::new(10, None));
        let held = account.hold(8).unwrap();
        assert!(account.hold(3).is_err());
        drop(held);
        assert!(account.hold(3).is_ok());
    }

    #[test]
    fn limits_change_while_a_guest_runs() {
        let account = Arc::new(Account::new(10 << 20, None));
        let mut limiter = Limiter::new(account.clone());
        assert!(limiter.memory_growing(0, 8 << 20, None).unwrap());
        account.limit(Some(20 << 20), Some(500));
        assert!(limiter.memory_growing(8 << 20, 16 << 20, None).unwrap());
        account.charge(Duration::from_secs(1));
        assert!(account.pause().is_some());
        account.limit(Some(4 << 20), None);
        assert!(limiter.memory_growing(16 << 20, 17 << 20, None).is_err());
        assert_eq!(account.usage().memory_bytes, 16 << 20);
    }

    #[test]
    fn a_program_s_own_maximum_is_a_plain_refusal() {
        let mut limiter = Limiter::new(Arc::new(Account::new(u64::MAX, None)));
        assert!(!limiter.memory_growing(0, 2 << 16, Some(1 << 16)).unwrap());
        assert_eq!(limiter.account.usage().memory_bytes, 0);
    }

    #[test]
    fn quota_lets_a_guest_run_its_share() {
        let start = Instant::now();
        let mut throttle = Throttle::new(250, start);
        assert_eq!(throttle.pause(start), None);
        // 25 ms are saved up; 75 ms of use leave a debt of 50 ms, paid in 200.
        throttle.charge(Duration::from_millis(75));
        assert_eq!(throttle.pause(start), Some(Duration::from_millis(200)));
        assert_eq!(throttle.pause(start + Duration::from_millis(200)), None);
    }

    #[test]
    fn idling_saves_up_one_burst_at_most() {
        let start = Instant::now();
        let mut throttle = Throttle::new(500, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!(throttle.pause(later), None);
        throttle.charge(Duration::from_millis(60));
        assert_eq!(throttle.pause(later), Some(Duration::from_millis(20)));
    }
}
