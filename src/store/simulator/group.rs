//! Several simulated machines, a network between them, clients and an
//! administrator. One seed is one history; `GROUP_SEEDS=FROM..TO cargo nextest
//! run -p coracle-store many_histories` runs as many as wanted.

mod clients;
mod machine;
mod network;
mod witness;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::plant::Plant;
use world::{Stats, World};

/// How many steps one history has.
const STEPS: u64 = 1500;
/// How many histories are run each time.
const SEEDS: u64 = 120;
/// Within so many histories every planted bug must be found.
const BUDGET: u64 = 120;

/// Runs the history of a seed, with a mistake planted or none; the error says what was wrong with it.
type Run = fn(u64, Option<Plant>) -> Result<Stats, String>;

fn run(seed: u64, plant: Option<Plant>) -> Result<Stats, String> {
    live(|| World::new(seed, plant))
}

/// Lives through the history of a world.
fn live(begin: impl FnOnce() -> Result<World, String>) -> Result<Stats, String> {
    let history = AssertUnwindSafe(|| {
        let mut world = begin()?;
        for _ in 0..STEPS {
            world.step()?;
        }
        world.finish()
    });
    catch_unwind(history).unwrap_or_else(|_| Err("panicked".to_owned()))
}

fn run_all(seeds: std::ops::Range<u64>, run: Run) -> Stats {
    let mut total = Stats::default();
    for seed in seeds {
        match run(seed, None) {
            Ok(stats) => total.add(&stats),
            Err(error) => panic!(
                "seed {seed}: {error}\nagain, and no other: the same test with its variable set to {seed}..{}",
                seed + 1
            ),
        }
    }
    total
}

#[test]
fn groups_lose_nothing_and_agree() {
    let total = run_all(0..SEEDS, run);
    // A simulator in which nothing happens finds nothing.
    assert!(
        total.acknowledged > 80 * SEEDS && total.reads > 60 * SEEDS,
        "{total:?}"
    );
    assert!(
        total.crashes > 5 * SEEDS && total.leaders > 3 * SEEDS,
        "{total:?}"
    );
    assert!(
        total.snapshots > 3 * SEEDS && total.changes > 4 * SEEDS,
        "{total:?}"
    );
    assert!(total.suspended > 20 * SEEDS, "{total:?}");
    assert!(
        total.followed > 200 * SEEDS && total.forwarded > 100 * SEEDS,
        "{total:?}"
    );
}

#[test]
fn group_histories_can_be_repeated() {
    for seed in 0..5 {
        assert_eq!(run(seed, None), run(seed, None), "seed {seed}");
    }
}

/// The seeds that somebody asks for, `FROM..TO`.
fn seeds(variable: &str) -> Option<std::ops::Range<u64>> {
    let range = std::env::var(variable).ok()?;
    let (from, to) = range.split_once("..").expect("FROM..TO");
    Some(from.parse().expect("a number")..to.parse().expect("a number"))
}

/// Not a test by itself: the histories of the seeds in `GROUP_SEEDS`.
#[test]
fn many_histories() {
    if let Some(seeds) = seeds("GROUP_SEEDS") {
        println!("{:?}", run_all(seeds, run));
    }
}

fn found_after(plant: Plant, run: Run) -> Option<u64> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..BUDGET).find(|seed| run(*seed, Some(plant)).is_err());
    std::panic::set_hook(hook);
    found
}

/// Every one of these is found within the budget; how soon is printed.
#[test]
fn planted_bugs_are_found() {
    let plants = [
        Plant::AcknowledgeUnsynced,
        Plant::SyncAgain,
        Plant::VoteUnsynced,
        Plant::ReadUnasked,
        Plant::ReadUnapplied,
        Plant::ForgetMembers,
        Plant::LoseEvents,
        Plant::KeepLog,
        Plant::RetryAtOnce,
        Plant::AnyTerm,
        Plant::AnyLife,
        Plant::BatchAppend,
        Plant::ForgetTerm,
        Plant::ApplyTwice,
    ];
    let found: Vec<_> = plants
        .into_iter()
        .map(|plant| (plant, found_after(plant, run)))
        .collect();
    for (plant, seed) in &found {
        println!(
            "{plant:?}: {}",
            seed.map_or("not found".into(), |seed| format!("by history {seed}"))
        );
    }
    assert!(found.iter().all(|(_, seed)| seed.is_some()), "{found:?}");
}
