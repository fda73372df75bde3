//! Groups of two full members and a witness, of which one after the other is lost for good. One seed is one
//! history.

use super::world::{Stats, World};
use super::{live, look_for};
use crate::plant::Plant;
use crate::simulator::seeds::{self, Tally};

/// The test that lives through as many histories as wanted.
const MANY: &str = "simulator::group::witness::witness_histories";
/// How many histories are run each time.
const SEEDS: u64 = 1000;
/// Of so many changes of leadership at most one brings the witness up though a full voter could have led.
const SELDOM: u64 = 40;

fn run(seed: u64, plant: Option<Plant>) -> Result<Stats, String> {
    live(|| World::witnessed(seed, plant))
}

#[test]
fn two_members_and_a_witness_lose_nothing_and_agree() {
    let total = seeds::run_all(MANY, 0..SEEDS, |seed| run(seed, None));
    // A simulator in which nothing happens finds nothing.
    assert!(
        total.acknowledged > 60 * SEEDS && total.reads > 40 * SEEDS,
        "{total:?}"
    );
    assert!(total.lost > SEEDS / 2 && total.crashes > 5 * SEEDS, "{total:?}");
    assert!(total.witnessed > SEEDS / 4, "{total:?}");
    assert!(
        total.flipped > SEEDS / 40 && total.damaged > SEEDS / 50,
        "{total:?}"
    );
    assert!(total.needless * SELDOM < total.leaders, "{total:?}");
}

#[test]
fn histories_with_a_witness_can_be_repeated() {
    for seed in 0..5 {
        assert_eq!(run(seed, None), run(seed, None), "seed {seed}");
    }
}

/// Not a test by itself: the histories of the seeds in `SEEDS`.
#[test]
fn witness_histories() {
    if let Some(asked) = seeds::asked() {
        seeds::run_all(MANY, asked, |seed| run(seed, None));
    }
}

#[test]
fn planted_bugs_of_a_witness_are_found() {
    let plants = [
        Plant::WitnessForgets,
        Plant::WitnessHoldsForSome,
        Plant::WitnessStays,
        Plant::CountEarly,
        Plant::AnyLife,
    ];
    look_for(&plants, run);
}

/// It harms nobody but costs time: no single history can tell, all of them together do.
#[test]
fn a_witness_that_stands_like_others_is_noticed() {
    let mut total = Stats::default();
    for seed in 0..SEEDS / 5 {
        match run(seed, Some(Plant::WitnessStands)) {
            Ok(stats) => total.add(&stats),
            Err(error) => panic!("it does harm in the history of seed {seed}: {error}"),
        }
    }
    assert!(total.needless * SELDOM >= total.leaders, "{total:?}");
}
