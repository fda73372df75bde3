//! Everything at once: three servers on hosts of their own, clients that write, read and watch by way of all
//! of them, and faults of every sort in random order. What clients were told is judged as the store's
//! simulator judges it: some order of everything must explain every answer; and every watch must have told
//! of every write once, in order.
//!
//! It goes in rounds: in each every sort of fault comes once, sometimes several at a time. Then everything is
//! mended, all watches catch up, and the round is judged. `CORACLE_CHAOS_SECONDS` is after how long no
//! further round begins (40), `CORACLE_SEED` which faults come when.

mod clients;
mod faults;

use std::time::{Duration, Instant};

use base::{Random, SeededRandom};

use self::clients::Clients;
use self::faults::{Chaos, Fault};
use crate::support::sandboxed;
use crate::support::servers::Servers;

/// After so long no further round begins.
const SECONDS: u64 = 40;
/// Longest time between one fault and the next.
const PAUSE_MS_MAX: u64 = 2500;

fn number(variable: &str, otherwise: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// All sorts of faults in random order.
fn shuffled(random: &SeededRandom) -> Vec<Fault> {
    let mut faults = faults::ALL.to_vec();
    for at in (1..faults.len()).rev() {
        faults.swap(at, random.below(at as u64 + 1) as usize);
    }
    faults
}

#[test]
fn whatever_happens_to_the_servers_clients_see_one_order() {
    sandboxed(|dir| {
        let seed = number("CORACLE_SEED", u64::from(std::process::id()) ^ base_seed());
        let seconds = number("CORACLE_CHAOS_SECONDS", SECONDS);
        eprintln!("CORACLE_SEED={seed}, rounds for {seconds} s");
        let random = SeededRandom::new(seed);
        let mut servers = Servers::start_apart(dir, 3, faults::prepare);
        let mut clients = Clients::start(&servers, seed);
        let mut chaos = Chaos::new(&mut servers, seed);
        let began = Instant::now();
        for round in 1.. {
            for fault in shuffled(&random) {
                chaos.begin(fault);
                chaos.pass(Duration::from_millis(random.below(PAUSE_MS_MAX)));
                clients.none_broken(seed);
            }
            chaos.mend_all();
            clients.judge(round, seed);
            if began.elapsed() > Duration::from_secs(seconds) {
                break;
            }
        }
        clients.end();
        chaos.end();
    });
}

/// Another one for each run that asks for none.
fn base_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_nanos() as u64)
}
