//! The world of a history: machines, network, clients, faults and time.

use std::collections::BTreeMap;

use base::{Random, SeededRandom};
use tokio::sync::oneshot;

use super::clients::{Clients, Part};
use super::machine::{Machine, Outcomes};
use super::network::{Cargo, Flight, Freight, Network};
use crate::core::{Turn, addressed};
use crate::error::StoreError;
use crate::parcel::Parcel;
use crate::plant::{Plant, Plants};
use crate::shipment::Arrival;
use crate::status::Leadership;
use crate::watch::Watch;
use duel::Duel;
pub use stats::Stats;

mod asking;
mod decay;
mod duel;
mod faults;
mod judging;
mod looking;
mod loss;
mod rot;
mod stats;
mod writing;

/// At most so many machines ever.
const MACHINES_MAX: usize = 8;
const KEYS: [&str; 3] = ["/g/a/x", "/g/a/y", "/g/b/z"];
const PREFIXES: [&str; 3] = ["", "/g/a/", "/g/b/z"];
/// A step that never comes.
const NEVER: u64 = 1 << 60;

/// What somebody waits for, and at which machine.
enum Waiting {
    Write(usize, Vec<Part>, Outcomes),
    Read(Reading, oneshot::Receiver<Result<(), StoreError>>),
    Change(Outcomes),
}

/// A read on its way.
struct Reading {
    at: usize,
    /// Of the process that was asked: one that is started again knows nothing of it.
    origin: u64,
    number: usize,
    key: &'static str,
}

/// A watch that follows its prefix from machine to machine.
struct Follower {
    /// Where its connection leads, if it has one.
    at: Option<usize>,
    watch: Watch,
    prefix: &'static str,
    last: u64,
}

/// See the module.
pub struct World {
    random: SeededRandom,
    plants: Plants,
    machines: Vec<Machine>,
    network: Network,
    clients: Clients,
    waiting: Vec<Waiting>,
    followers: Vec<Follower>,
    now: u64,
    /// Two members that shall stand in the same term.
    duel: Option<Duel>,
    /// Who was seen to lead in each term.
    leaders: BTreeMap<u64, u64>,
    values: u64,
    /// Somebody was told that a change of the members is done, a short while before this step.
    promised: u64,
    cluster: u64,
    term: u64,
    /// The group has a witness, and loses machines for good.
    witnessed: bool,
    stats: Stats,
}

fn text(error: StoreError) -> String {
    error.to_string()
}

impl World {
    /// One machine that is a group of its own, which two more will join, and others later.
    pub fn new(seed: u64, plant: Option<Plant>) -> Result<World, String> {
        let mut world = World::alone(seed, plant)?;
        for _ in 0..2 {
            world.grow()?;
        }
        Ok(world)
    }

    /// One machine that is a group of its own.
    fn alone(seed: u64, plant: Option<Plant>) -> Result<World, String> {
        let random = SeededRandom::new(seed);
        let plants = Plants::one(plant);
        let founder = Machine::new(&random, None, false, plants).map_err(text)?;
        let process = founder.process.as_ref().ok_or("no process")?;
        let cluster = process.core.status().cluster;
        let mut network = Network::default();
        network.change_weather(&random);
        Ok(World {
            plants,
            machines: vec![founder],
            network,
            clients: Clients::default(),
            waiting: vec![],
            followers: vec![],
            now: 0,
            duel: None,
            leaders: BTreeMap::new(),
            values: 0,
            promised: 0,
            cluster,
            term: 0,
            witnessed: false,
            stats: Stats::default(),
            random,
        })
    }

    /// Lets something happen, then the consequences.
    pub fn step(&mut self) -> Result<(), String> {
        match self.random.below(1000) {
            0..250 => self.write(),
            250..380 => self.read(),
            380..480 => self.follow()?,
            480..519 => self.upkeep(),
            519 => self.trip_one(),
            520..540 => self.compact(),
            540..543 => self.crash_one(),
            543..545 => self.burn_one(),
            545..548 => self.trouble_one(),
            548..570 => self.boot_one()?,
            570..574 => self.cut_one(),
            574..590 => self.network.heal_some(&self.random),
            590..620 if self.witnessed => self.administrate_witnessed()?,
            590..620 => self.administrate()?,
            // With a witness machines are lost instead, which needs the others well.
            620..624 if !self.witnessed => self.duel()?,
            624..627 => self.hang_up_one(),
            627..640 if self.witnessed => self.decay_one()?,
            640..700 if self.witnessed => self.lose_one(),
            700..702 => self.jump_one(),
            702..720 => self.look_back()?,
            720..735 if !self.witnessed => self.decay_one()?,
            735..745 => self.rot_one()?,
            745..755 => self.replace_damaged(),
            _ => {}
        }
        self.pass()
    }

    /// One step of time: what arrives, ticks, disks, work, answers.
    fn pass(&mut self) -> Result<(), String> {
        self.now += 1;
        for flight in self.network.arrivals(self.now) {
            self.land(flight)?;
        }
        for (from, to) in std::mem::take(&mut self.network.lost) {
            if let Some(at) = self.find(from)
                && let Some(process) = &mut self.machines[at].process
            {
                process.core.snapshot_sent(to, false);
            }
        }
        for at in 0..self.machines.len() {
            self.turn_machine(at)?;
        }
        self.hear()
    }

    fn turn_machine(&mut self, at: usize) -> Result<(), String> {
        if let Some((_, vote)) = self.machines[at].hangs.filter(|(until, _)| *until <= self.now) {
            return self.lose_vote(at, vote);
        }
        // One that has just elected itself, too, which it does not tell yet.
        if self.machines[at].stumbles > 0
            && (self.leads(at).leader.is_some() || !self.status(at).health.is_empty())
        {
            self.stumble(at)?;
        }
        let tick = self.random.below(3) == 0;
        let now_ms = self.now_ms(at);
        let Some(process) = &mut self.machines[at].process else {
            return Ok(());
        };
        if tick {
            process.core.tick();
        }
        if self.random.below(3) == 0 {
            process.core.tell_commit();
        }
        if self.random.below(40) == 0 {
            let monotonic = std::time::Duration::from_millis(self.now * 20);
            process.core.chores(now_ms, monotonic).map_err(text)?;
        }
        let messages = process.write_due(self.now);
        process.mend().map_err(text)?;
        self.stats.suspended += u64::from(process.core.suspended().is_some());
        self.send_raft(at, messages);
        if self.machines[at].disk.dead() {
            self.crash(at);
        }
        self.pump(at)
    }

    /// Turns a core until it is idle.
    fn pump(&mut self, at: usize) -> Result<(), String> {
        while let Some(process) = &mut self.machines[at].process {
            let Some(turn) = process.turn().map_err(text)? else {
                break;
            };
            self.take_turn(at, turn)?;
        }
        self.watch_leadership(at)?;
        self.watch_master(at)
    }

    fn take_turn(&mut self, at: usize, turn: Turn) -> Result<(), String> {
        let id = self.machines[at].id;
        for (to, parcel) in turn.parcels {
            if let Parcel::Forward { calls, .. } = &parcel {
                self.stats.forwarded += calls.len() as u64;
            }
            self.network
                .send(&self.random, self.now, id, to, Freight::Parcel(parcel));
        }
        for shipment in turn.shipments {
            let to = shipment.message.to;
            match Cargo::pack(shipment) {
                Ok(cargo) => {
                    let freight = Freight::Snapshot(Box::new(cargo));
                    self.network.send(&self.random, self.now, id, to, freight);
                }
                Err(error) => {
                    self.complain(at, error)?;
                    self.network.lost.push((id, to));
                }
            }
        }
        let Some(job) = turn.job else { return Ok(()) };
        let vote = job.hard.as_ref().map_or(0, |hard| hard.vote);
        if vote != 0 && job.must_sync && self.random.below(self.vote_odds(at, vote)) == 0 {
            if self.is_wanted(at, vote) || self.random.below(2) == 0 {
                return self.lose_vote(at, vote);
            }
            self.hang(at, vote);
        }
        let late = match self.machines[at].hangs {
            Some(_) => NEVER,
            None => self.random.below(self.machines[at].disk_steps),
        };
        let Some(process) = &mut self.machines[at].process else {
            return Ok(());
        };
        if process.jobs.is_empty() && (!job.must_sync || late == 0) {
            let messages = process.write(vec![job], self.now);
            self.send_raft(at, messages);
            if self.machines[at].disk.dead() {
                self.crash(at);
            }
        } else {
            process.jobs.push_back((job, self.now + late));
        }
        Ok(())
    }

    fn send_raft(&mut self, at: usize, messages: Vec<::raft::eraftpb::Message>) {
        let id = self.machines[at].id;
        for (to, parcel) in messages.into_iter().map(addressed) {
            self.network
                .send(&self.random, self.now, id, to, Freight::Parcel(parcel));
        }
    }

    fn land(&mut self, flight: Flight) -> Result<(), String> {
        let Some(at) = self
            .find(flight.to)
            .filter(|at| self.machines[*at].process.is_some())
        else {
            if let Freight::Snapshot(_) = flight.freight {
                self.network.lost.push((flight.from, flight.to));
            }
            return Ok(());
        };
        match flight.freight {
            Freight::Parcel(parcel) => self.land_parcel(at, flight.from, parcel)?,
            Freight::Snapshot(cargo) => self.land_snapshot(at, flight.from, *cargo)?,
        }
        // Sometimes several arrive before the core gets to work.
        if self.random.below(3) == 0 {
            self.pump(at)
        } else {
            Ok(())
        }
    }

    fn land_parcel(&mut self, at: usize, from: u64, parcel: Parcel) -> Result<(), String> {
        let Some(process) = &mut self.machines[at].process else {
            return Ok(());
        };
        match process.core.receive(from, parcel) {
            Ok(_) => Ok(()),
            Err(StoreError::Removed) => {
                self.crash(at);
                self.machines[at].gone = true;
                Ok(())
            }
            Err(error) => Err(text(error)),
        }
    }

    fn land_snapshot(&mut self, at: usize, from: u64, cargo: Cargo) -> Result<(), String> {
        let Some(process) = &mut self.machines[at].process else {
            return Ok(());
        };
        let meta = cargo.meta();
        let mut import = process.state.import().map_err(text)?;
        for portion in cargo.portions {
            import.add(portion, meta.compacted).map_err(text)?;
        }
        let install = import.finish().map_err(text)?;
        let message = cargo.message;
        let to = message.to;
        let arrived = process
            .core
            .arrive(Arrival {
                message,
                meta,
                install,
            })
            .is_ok();
        self.stats.snapshots += u64::from(arrived);
        self.pump(at)?;
        if let Some(sender) = self.find(from)
            && let Some(process) = &mut self.machines[sender].process
        {
            process.core.snapshot_sent(to, arrived);
        }
        Ok(())
    }

    /// What a machine's wall clock says.
    fn now_ms(&self, at: usize) -> u64 {
        self.now * 20 + self.machines[at].skew_ms
    }

    fn running(&self) -> Option<usize> {
        self.any(|machine| machine.process.is_some())
    }

    /// A machine that runs and has clients.
    fn serving(&self) -> Option<usize> {
        self.any(|machine| machine.process.is_some() && !machine.witness)
    }

    fn any(&self, fits: impl Fn(&Machine) -> bool) -> Option<usize> {
        let fit: Vec<usize> = (0..self.machines.len())
            .filter(|at| fits(&self.machines[*at]))
            .collect();
        fit.get(self.random.below(fit.len() as u64) as usize).copied()
    }

    fn find(&self, id: u64) -> Option<usize> {
        self.machines.iter().position(|machine| machine.id == id)
    }

    fn status(&self, at: usize) -> crate::status::Status {
        self.machines[at]
            .process
            .as_ref()
            .map(|process| process.core.status())
            .unwrap_or_default()
    }

    /// The machine that leads in the latest term, if one does.
    fn leader(&self) -> Option<usize> {
        let leads = |at: &usize| self.leads(*at).leads;
        (0..self.machines.len())
            .filter(leads)
            .max_by_key(|at| self.leads(*at).term)
    }

    /// Who leads, as a machine knows it.
    fn leads(&self, at: usize) -> Leadership {
        let process = self.machines[at].process.as_ref();
        process.map(|process| process.core.leads()).unwrap_or_default()
    }
}
