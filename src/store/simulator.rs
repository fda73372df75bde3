//! A seeded simulator: the production core, log and watches over a disk and a
//! state that crash, with clients whose every answer is held against what the
//! store shows later. One seed is one history.

pub mod disk;
mod group;
mod history;
pub mod memory;
mod seeds;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use self::disk::SimDisk;
use crate::cache::Cache;
use crate::log::Log;
use crate::plant::{Plant, Plants};
use crate::state::State;
use crate::upkeep::recycle;
use world::{Stats, World};

/// How many steps one history has.
const STEPS: usize = 250;
/// The test that lives through as many histories as wanted.
const MANY: &str = "simulator::many_histories";

/// Runs one history; the error says what was wrong with it.
fn run(seed: u64, plant: Option<Plant>) -> Result<Stats, String> {
    let history = AssertUnwindSafe(|| {
        let mut world = World::new(seed, plant)?;
        for _ in 0..STEPS {
            world.step()?;
        }
        world.finish()
    });
    catch_unwind(history).unwrap_or_else(|_| Err("panicked".to_owned()))
}

/// Flushing, recycling, spares and sweeping, as the upkeep thread does them.
fn tidy(state: &dyn State, cache: &Cache, log: &Mutex<Log>, disk: &SimDisk, plants: Plants) {
    if let Ok(applied) = state.flush() {
        let _ = recycle(log, disk, applied);
    }
    let compacted = cache.position().compacted + u64::from(plants.has(Plant::SweepTooFar));
    // What is damaged stays.
    let _ = state.sweep(compacted);
    let mut log = log.lock().expect("the log");
    if log.wants_spare()
        && let Ok(spare) = log.spare_maker().make()
    {
        let _ = log.reuse(spare);
    }
}

#[test]
fn nothing_acknowledged_is_ever_lost() {
    let total = seeds::run_all(MANY, 0..400, |seed| run(seed, None));
    // A simulator in which nothing happens finds nothing.
    assert!(total.acknowledged > 10_000 && total.refused > 2_000, "{total:?}");
    assert!(total.crashes > 1_000 && total.compactions > 200, "{total:?}");
    assert!(total.expired > 200 && total.reads > 5_000, "{total:?}");
    assert!(total.suspended > 400 && total.uncertain > 100, "{total:?}");
}

/// Not a test by itself: the histories of the seeds in `SEEDS`.
#[test]
fn many_histories() {
    if let Some(asked) = seeds::asked() {
        seeds::run_all(MANY, asked, |seed| run(seed, None));
    }
}

#[test]
fn histories_can_be_repeated() {
    for seed in 0..10 {
        assert_eq!(run(seed, None), run(seed, None));
    }
}

fn found_in_100(plant: Plant) -> usize {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..100).filter(|seed| run(*seed, Some(plant)).is_err()).count();
    std::panic::set_hook(hook);
    found
}

/// Plants the classic bug, an answer before the sync, and expects to be told.
#[test]
fn answering_before_the_sync_is_found() {
    let found = found_in_100(Plant::AcknowledgeUnsynced);
    assert!(found > 50, "found in only {found} of 100 histories");
}

/// The other classic: a sync fails, is tried again and believed.
#[test]
fn believing_the_second_sync_is_found() {
    let found = found_in_100(Plant::SyncAgain);
    assert!(found > 5, "found in only {found} of 100 histories");
}
