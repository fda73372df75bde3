//! Runs many histories, one for each seed, counts what they cost, and says how to repeat one that failed.

use std::fmt::Debug;
use std::ops::Range;
use std::time::Duration;

/// What happened in histories.
pub trait Tally: Default + Debug {
    /// Counts what happened in another one, too.
    fn add(&mut self, other: &Self);
}

/// Lives through the histories of all seeds. `test` is the full name of the one that takes seeds from `SEEDS`.
pub fn run_all<T: Tally>(test: &str, seeds: Range<u64>, run: impl Fn(u64) -> Result<T, String>) -> T {
    let (mut total, count) = (T::default(), seeds.end - seeds.start);
    let began = computed();
    for seed in seeds {
        match run(seed) {
            Ok(tally) => total.add(&tally),
            Err(error) => panic!(
                "seed {seed}: {error}\nthe same again:\n    SEEDS={seed}..{} cargo nextest run -p coracle-store -E 'test(={test})' \
                 --no-capture",
                seed + 1
            ),
        }
    }
    let took = (computed() - began).as_secs_f64();
    println!("{count} histories in {took:.1} CPU-seconds: {total:?}");
    total
}

/// The seeds that somebody asks for by `SEEDS=FROM..TO`.
pub fn asked() -> Option<Range<u64>> {
    let range = std::env::var("SEEDS").ok()?;
    let (from, to) = range.split_once("..").expect("FROM..TO");
    Some(from.parse().expect("a number")..to.parse().expect("a number"))
}

/// How long this thread has computed, as the kernel counts it.
fn computed() -> Duration {
    let counted = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = counted.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}
