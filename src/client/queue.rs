//! A queue of keys to look at: each at most once at a time, however often it is added.

mod counts;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

pub use counts::QueueMetrics;
use counts::{Counts, State, Watched};

/// The first wait after a failure.
const FIRST_DELAY: Duration = Duration::from_millis(5);
/// The longest wait after repeated failures.
const LAST_DELAY: Duration = Duration::from_secs(300);

/// The queue's rules, with the time as a parameter.
#[derive(Debug)]
struct Rules<K> {
    ready: VecDeque<K>,
    /// Keys that are in `ready`, or are to go there when their worker is done; and since when.
    dirty: HashMap<K, Instant>,
    /// Keys that a worker has, and since when.
    working: HashMap<K, Instant>,
    later: BTreeMap<(Instant, u64), K>,
    failures: HashMap<K, u32>,
    serial: u64,
    closed: bool,
}

impl<K: Hash + Eq + Clone> Rules<K> {
    fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            dirty: HashMap::new(),
            working: HashMap::new(),
            later: BTreeMap::new(),
            failures: HashMap::new(),
            serial: 0,
            closed: false,
        }
    }

    /// Whether the key was not waiting already.
    fn add(&mut self, key: K, now: Instant) -> bool {
        if self.closed || self.dirty.contains_key(&key) {
            return false;
        }
        self.dirty.insert(key.clone(), now);
        if !self.working.contains_key(&key) {
            self.ready.push_back(key);
        }
        true
    }

    fn add_at(&mut self, key: K, at: Instant) {
        if !self.closed {
            self.serial += 1;
            self.later.insert((at, self.serial), key);
        }
    }

    /// Counts a failure and says how long to wait because of it.
    fn failed(&mut self, key: &K) -> Duration {
        let count = self.failures.entry(key.clone()).or_insert(0);
        let wait = FIRST_DELAY.saturating_mul(1 << (*count).min(20)).min(LAST_DELAY);
        *count = count.saturating_add(1);
        wait
    }

    /// Lets those in whose time has come; how many they are.
    fn let_in(&mut self, now: Instant) -> u64 {
        let mut added = 0;
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            added += u64::from(self.add(key, now));
        }
        added
    }

    /// The next key, and how long it has waited.
    fn take(&mut self, now: Instant) -> Option<(K, Duration)> {
        let key = self.ready.pop_front()?;
        let since = self.dirty.remove(&key).unwrap_or(now);
        self.working.insert(key.clone(), now);
        Some((key, now.saturating_duration_since(since)))
    }

    /// How long the key was worked on.
    fn done(&mut self, key: &K, now: Instant) -> Option<Duration> {
        let since = self.working.remove(key);
        if self.dirty.contains_key(key) {
            self.ready.push_back(key.clone());
        }
        since.map(|since| now.saturating_duration_since(since))
    }

    fn next_due(&self) -> Option<Instant> {
        self.later.keys().next().map(|(at, _)| *at)
    }
}

/// A shared queue of keys. A key that is added while a worker has it comes
/// back once that worker calls [`WorkQueue::done`], so no two workers ever
/// hold the same key and no change goes unseen.
pub struct WorkQueue<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    // A std mutex: nothing awaits while it is held.
    rules: Mutex<Rules<K>>,
    wake: Notify,
    counts: Counts,
}

impl<K: Hash + Eq + Clone> Shared<K> {
    fn rules(&self) -> MutexGuard<'_, Rules<K>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone + Send> Watched for Shared<K> {
    fn state(&self, now: Instant) -> State {
        let rules = self.rules();
        let times = rules
            .working
            .values()
            .map(|since| now.saturating_duration_since(*since));
        State {
            depth: rules.ready.len(),
            unfinished: times.clone().sum(),
            longest: times.max().unwrap_or_default(),
        }
    }
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<K: Hash + Eq + Clone> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl QueueMetrics {
    /// An empty queue, counted under that name.
    pub fn queue<K: Hash + Eq + Clone + Send + 'static>(&self, name: &'static str) -> WorkQueue<K> {
        let made = WorkQueue::counted(self.counts(name));
        let watched: Arc<dyn Watched> = made.shared.clone();
        self.watch(name, &watched);
        made
    }
}

impl<K: Hash + Eq + Clone> WorkQueue<K> {
    /// An empty queue that nobody counts.
    pub fn new() -> Self {
        Self::counted(Counts::default())
    }

    fn counted(counts: Counts) -> Self {
        Self {
            shared: Arc::new(Shared {
                rules: Mutex::new(Rules::new()),
                wake: Notify::new(),
                counts,
            }),
        }
    }

    fn rules(&self) -> MutexGuard<'_, Rules<K>> {
        self.shared.rules()
    }

    /// Adds a key, unless it is waiting already.
    pub fn add(&self, key: K) {
        let added = self.rules().add(key, Instant::now());
        self.shared.counts.added(added.into());
        self.shared.wake.notify_one();
    }

    /// Adds a key after a while.
    pub fn add_after(&self, key: K, wait: Duration) {
        if wait.is_zero() {
            return self.add(key);
        }
        self.rules().add_at(key, Instant::now() + wait);
        self.shared.wake.notify_one();
    }

    /// Adds a key that failed: after 5 ms, doubling with each failure up to 5 minutes,
    /// until [`WorkQueue::forget`]. Returns the wait.
    pub fn add_rate_limited(&self, key: K) -> Duration {
        let wait = self.rules().failed(&key);
        self.shared.counts.failed();
        self.add_after(key, wait);
        wait
    }

    /// Forgets a key's failures.
    pub fn forget(&self, key: &K) {
        self.rules().failures.remove(key);
    }

    /// How often a key failed since it was last forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.rules().failures.get(key).copied().unwrap_or(0)
    }

    /// The next key; `None` once the queue is closed. The caller must hand the
    /// key back with [`WorkQueue::done`]. Safe to cancel.
    pub async fn get(&self) -> Option<K> {
        loop {
            // Made before the look into the queue, so that an add in between wakes us.
            let woken = self.shared.wake.notified();
            let due = {
                let (mut rules, now) = (self.rules(), Instant::now());
                self.shared.counts.added(rules.let_in(now));
                if let Some((key, waited)) = rules.take(now) {
                    self.shared.counts.taken(waited);
                    if !rules.ready.is_empty() || !rules.later.is_empty() {
                        self.shared.wake.notify_one();
                    }
                    return Some(key);
                }
                if rules.closed {
                    // Pass it on to the next waiting worker.
                    self.shared.wake.notify_one();
                    return None;
                }
                rules.next_due()
            };
            match due {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at.into(), woken).await;
                }
                None => woken.await,
            }
        }
    }

    /// Gives a key back.
    pub fn done(&self, key: &K) {
        let worked = self.rules().done(key, Instant::now());
        worked
            .into_iter()
            .for_each(|worked| self.shared.counts.worked(worked));
        self.shared.wake.notify_one();
    }

    /// Keys that are ready to be taken.
    pub fn len(&self) -> usize {
        self.rules().ready.len()
    }

    /// Whether no key is ready to be taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets every waiting and future [`WorkQueue::get`] return `None`, once the queue is empty.
    pub fn close(&self) {
        self.rules().closed = true;
        self.shared.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_queued_once() {
        let now = Instant::now();
        let mut rules = Rules::new();
        let taken = now + Duration::from_secs(2);
        assert!(rules.add("a", now) && rules.add("b", taken));
        assert!(!rules.add("a", now));
        assert_eq!(rules.take(taken), Some(("a", Duration::from_secs(2))));
        assert_eq!(rules.take(taken), Some(("b", Duration::ZERO)));
        assert_eq!(rules.take(taken), None);
    }

    #[test]
    fn a_key_added_while_worked_on_comes_back_afterwards() {
        let now = Instant::now();
        let mut rules = Rules::new();
        let key = Some(("a", Duration::ZERO));
        rules.add("a", now);
        assert_eq!(rules.take(now), key);
        rules.add("a", now);
        assert_eq!(rules.take(now), None);
        assert_eq!(
            rules.done(&"a", now + Duration::from_secs(3)),
            Some(Duration::from_secs(3))
        );
        assert_eq!(rules.take(now), key);
    }

    #[test]
    fn later_keys_wait_and_failures_double() {
        let now = Instant::now();
        let mut rules = Rules::new();
        let later = now + Duration::from_secs(1);
        rules.add_at("a", later);
        assert_eq!((rules.let_in(now), rules.take(now)), (0, None));
        assert_eq!(
            (rules.let_in(later), rules.take(later)),
            (1, Some(("a", Duration::ZERO)))
        );
        assert_eq!(rules.failed(&"a"), Duration::from_millis(5));
        assert_eq!(rules.failed(&"a"), Duration::from_millis(10));
        for _ in 0..40 {
            rules.failed(&"a");
        }
        assert_eq!(rules.failed(&"a"), LAST_DELAY);
    }

    #[tokio::test]
    async fn waiting_workers_are_woken_and_closed() {
        let queue: WorkQueue<u32> = WorkQueue::new();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let mut seen = 0;
                    while let Some(key) = queue.get().await {
                        seen += 1;
                        queue.done(&key);
                    }
                    seen
                })
            })
            .collect();
        for key in 0..20 {
            queue.add_after(key, Duration::from_millis(u64::from(key % 3)));
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
        queue.close();
        let mut total = 0;
        for worker in workers {
            total += worker.await.unwrap();
        }
        assert_eq!(total, 20);
    }
}
