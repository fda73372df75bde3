//! Several simulated machines, a network between them, clients and an
//! administrator. One seed is one history.

mod batches;
mod clients;
mod machine;
mod network;
mod witness;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::seeds;
use crate::plant::Plant;
use world::{Stats, World};

/// How many steps one history has.
const STEPS: u64 = 1500;
/// The test that lives through as many histories as wanted.
const MANY: &str = "simulator::group::many_histories";
/// How many histories are run each time.
const SEEDS: u64 = 2000;
/// So many histories tell how often a planted bug is found.
const SAMPLE: u64 = 100;
/// Within so many histories every planted bug must be found.
const BUDGET: u64 = 1000;

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

#[test]
fn groups_lose_nothing_and_agree() {
    let total = seeds::run_all(MANY, 0..SEEDS, |seed| run(seed, None));
    // A simulator in which nothing happens finds nothing.
    assert!(
        total.acknowledged > 60 * SEEDS && total.reads > 60 * SEEDS,
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
    assert!(
        total.batches > 10 * SEEDS && total.looked > 10 * SEEDS && total.expired > SEEDS,
        "{total:?}"
    );
    assert!(
        total.flipped > SEEDS / 6 && total.damaged > SEEDS / 8,
        "{total:?}"
    );
    assert!(total.rotten > SEEDS / 12 && total.named > SEEDS / 30, "{total:?}");
}

#[test]
fn group_histories_can_be_repeated() {
    for seed in 0..5 {
        assert_eq!(run(seed, None), run(seed, None), "seed {seed}");
    }
}

/// Not a test by itself: the histories of the seeds in `SEEDS`.
#[test]
fn many_histories() {
    if let Some(asked) = seeds::asked() {
        seeds::run_all(MANY, asked, |seed| run(seed, None));
    }
}

/// Looks for planted bugs, and prints how often each is found. One that the first histories do not find is
/// looked for in more.
fn look_for(plants: &[Plant], run: Run) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let finds = |seed: &u64, plant: Plant| run(*seed, Some(plant)).is_err();
    let mut missing = vec![];
    for plant in plants {
        let count = (0..SAMPLE).filter(|seed| finds(seed, *plant)).count();
        let later = || (SAMPLE..BUDGET).find(|seed| finds(seed, *plant));
        match (count, if count == 0 { later() } else { None }) {
            (0, None) => missing.push(plant),
            (0, Some(seed)) => println!("{plant:?}: by history {seed}"),
            _ => println!("{plant:?}: by {count} of {SAMPLE} histories"),
        }
    }
    std::panic::set_hook(hook);
    assert!(
        missing.is_empty(),
        "not found within {BUDGET} histories: {missing:?}"
    );
}

/// Every one of these is found within the budget.
#[test]
fn planted_bugs_are_found() {
    let plants = [
        Plant::AcknowledgeUnsynced,
        Plant::SyncAgain,
        Plant::VoteUnsynced,
        Plant::LeadUnsynced,
        Plant::ReadUnasked,
        Plant::ReadUnapplied,
        Plant::ForgetMembers,
        Plant::LoseEvents,
        Plant::KeepLog,
        Plant::RetryAtOnce,
        Plant::AnyTerm,
        Plant::BatchAppend,
        Plant::ForgetTerm,
        Plant::ApplyTwice,
        Plant::TearCommits,
        Plant::ExpireWritten,
        Plant::SweepTooFar,
        Plant::TrustBytes,
        Plant::CutDamage,
        Plant::EndAtDamage,
    ];
    look_for(&plants, run);
}
