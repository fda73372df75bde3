//! The pod state machine played against a world that a seed decides: effects take their time, fail, or are cut
//! off by the end of the agent; containers end by themselves; shims die; machines start anew; pods change, are
//! evicted and deleted, and the agent hears of it late.
//!
//! Whatever the order, it must hold that no container ever runs twice at a time, that nothing runs without what
//! it stands on, that an end which is final stays so, and, once the faults stop, that the pod becomes what it
//! asks for and leaves nothing behind when it goes. One seed is one history, the same each time:
//! `POD_SEEDS=FROM..TO cargo nextest run -p coracle-agent many_pod_histories` runs as many as wanted.

mod agent;
mod history;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use super::plant::{self, Plant};
use history::{History, Stats};

/// How many histories are run each time.
const SEEDS: u64 = 800;
/// Within so many histories every planted bug must be found.
const BUDGET: u64 = SEEDS;

/// Lives through the history of a seed, with a bug planted or none; the error says what was wrong with it.
fn run(seed: u64, planted: Option<Plant>) -> Result<Stats, String> {
    let told = std::env::var("POD_SEEDS").is_ok_and(|range| range == format!("{seed}..{}", seed + 1));
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    plant::plant(planted);
    let lived = catch_unwind(AssertUnwindSafe(|| History::new(seed, told).live()));
    plant::plant(None);
    set_hook(hook);
    lived.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "it panicked".to_owned())
    })
}

fn run_all(seeds: Range<u64>) -> Stats {
    let mut total = Stats::default();
    for seed in seeds {
        match run(seed, None) {
            Ok(stats) => total.add(&stats),
            Err(error) => panic!(
                "seed {seed}: {error}\nagain, and no other: POD_SEEDS={seed}..{} cargo nextest run -p coracle-agent \
                 many_pod_histories --no-capture",
                seed + 1
            ),
        }
    }
    total
}

#[test]
fn whatever_happens_pods_converge_and_nothing_runs_twice() {
    let total = run_all(0..SEEDS);
    // A simulator in which nothing happens finds nothing.
    assert!(total.starts > 4 * SEEDS && total.ends > 3 * SEEDS, "{total:?}");
    assert!(total.agents > 4 * SEEDS && total.shims > 2 * SEEDS, "{total:?}");
    assert!(
        total.failures > 5 * SEEDS && total.changes > 2 * SEEDS,
        "{total:?}"
    );
    assert!(total.reboots > SEEDS && total.evictions > SEEDS / 16, "{total:?}");
    assert!(
        total.removed > SEEDS / 4 && total.completed > SEEDS / 8 && total.running > SEEDS / 16,
        "{total:?}"
    );
}

#[test]
fn histories_of_pods_can_be_repeated() {
    for seed in 0..20 {
        assert_eq!(run(seed, None), run(seed, None), "seed {seed}");
    }
}

/// Not a test by itself: the histories of the seeds in `POD_SEEDS` (some fifty a second), told step by step when there is only one.
#[test]
fn many_pod_histories() {
    let Ok(range) = std::env::var("POD_SEEDS") else {
        return;
    };
    let (from, to) = range.split_once("..").expect("FROM..TO");
    let seeds: Range<u64> = from.parse().expect("a number")..to.parse().expect("a number");
    println!("{:?}", run_all(seeds));
}

/// Every one of these is found within the budget; how soon is printed.
#[test]
fn bugs_planted_in_pods_are_found() {
    let plants = [
        Plant::ForgetAtOnce,
        Plant::StartEarly,
        Plant::PullAway,
        Plant::VolumesFirst,
        Plant::StopOnce,
        Plant::TrustShim,
        Plant::AnyVerdict,
        Plant::AdoptNothing,
        Plant::CountKept,
        Plant::AdoptKnown,
        Plant::BeginAnew,
    ];
    let found = plants.map(|plant| {
        let mut tries = (0..BUDGET).map(|seed| (seed, run(seed, Some(plant))));
        (
            plant,
            tries.find_map(|(seed, result)| Some((seed, result.err()?))),
        )
    });
    for (plant, by) in found {
        let (seed, error) = by.unwrap_or_else(|| panic!("{plant:?} was not found in {BUDGET} histories"));
        println!("{plant:?}: seed {seed}: {error}");
    }
}
