//! The world of a history: machines, network, clients, faults and time.

use base::{Random, SeededRandom};
use tokio::sync::oneshot;

use super::clients::{Clients, Wish};
use super::machine::{Machine, Outcomes};
use super::network::{Cargo, Flight, Freight, Network};
use crate::command::Body;
use crate::core::{Arrival, Turn, addressed};
use crate::error::StoreError;
use crate::membership::{Change, Peer};
use crate::parcel::Parcel;
use crate::plant::{Plant, Plants};
use crate::types::{Expect, ListQuery, Op, Record};
use crate::watch::Watch;

/// At most so many machines ever.
const MACHINES_MAX: usize = 8;
const KEYS: [&str; 3] = ["/g/a/x", "/g/a/y", "/g/b/z"];
const PREFIXES: [&str; 3] = ["", "/g/a/", "/g/b/z"];
/// Steps in which everything must have come to rest, once nothing fails any more.
const REST_STEPS: u64 = 3000;

/// What happened, to see that enough did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub acknowledged: u64,
    pub reads: u64,
    pub crashes: u64,
    pub leaders: u64,
    pub snapshots: u64,
    pub changes: u64,
    pub forwarded: u64,
    pub followed: u64,
}

impl Stats {
    pub fn add(&mut self, other: &Stats) {
        self.acknowledged += other.acknowledged;
        self.reads += other.reads;
        self.crashes += other.crashes;
        self.leaders += other.leaders;
        self.snapshots += other.snapshots;
        self.changes += other.changes;
        self.forwarded += other.forwarded;
        self.followed += other.followed;
    }
}

/// What somebody waits for, and at which machine.
enum Waiting {
    Write(usize, usize, Outcomes),
    Read(
        usize,
        usize,
        &'static str,
        oneshot::Receiver<Result<(), StoreError>>,
    ),
    Change(usize, Outcomes),
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
    values: u64,
    cluster: u64,
    term: u64,
    stats: Stats,
}

fn sorted(members: &::raft::eraftpb::ConfState) -> [Vec<u64>; 2] {
    [&members.voters, &members.learners].map(|ids| {
        let mut ids = ids.clone();
        ids.sort_unstable();
        ids
    })
}

fn text(error: StoreError) -> String {
    error.to_string()
}

impl World {
    /// One machine that is a group of its own, which three more will join.
    pub fn new(seed: u64, plant: Option<Plant>) -> Result<World, String> {
        let random = SeededRandom::new(seed);
        let plants = Plants::one(plant);
        let founder = Machine::new(&random, None, plants).map_err(text)?;
        let process = founder.process.as_ref().ok_or("no process")?;
        let cluster = process.core.status().cluster;
        let mut network = Network::default();
        network.change_weather(&random);
        let mut world = World {
            plants,
            machines: vec![founder],
            network,
            clients: Clients::default(),
            waiting: vec![],
            followers: vec![],
            now: 0,
            values: 0,
            cluster,
            term: 0,
            stats: Stats::default(),
            random,
        };
        for _ in 0..2 {
            world.grow()?;
        }
        Ok(world)
    }

    /// Lets something happen, then the consequences.
    pub fn step(&mut self) -> Result<(), String> {
        match self.random.below(1000) {
            0..250 => self.write(),
            250..380 => self.read(),
            380..480 => self.follow()?,
            480..520 => self.upkeep(),
            520..540 => self.compact(),
            540..543 => self.crash_one(),
            543..545 => self.burn_one(),
            545..570 => self.boot_one()?,
            570..574 => self.cut_one(),
            574..590 => self.network.heal_some(&self.random),
            590..620 => self.administrate()?,
            _ => {}
        }
        self.pass()
    }

    /// Mends everything, lets all come to rest and compares the whole.
    pub fn finish(mut self) -> Result<Stats, String> {
        self.network.heal();
        for _ in 0..REST_STEPS {
            for at in 0..self.machines.len() {
                self.start(at)?;
            }
            self.pass()?;
            if self.now % 64 == 0 && self.at_rest() {
                break;
            }
        }
        let members = self.leader().map(|at| self.status(at).members);
        let members = members.ok_or("there is no leader, though nothing fails any more")?;
        let voters = members.voters.clone();
        let left = self.clients.entries();
        for machine in self
            .machines
            .iter()
            .filter(|machine| voters.contains(&machine.id))
        {
            let process = machine.process.as_ref().ok_or("a voter has stopped")?;
            let position = process.cache.position();
            if position.revision != self.clients.revision() {
                let (here, all) = (position.revision, self.clients.revision());
                return Err(format!("member {:x} is at {here} and not at {all}", machine.id));
            }
            if process.cache.list(&ListQuery::default()).entries != left {
                return Err(format!(
                    "the cache of {:x} differs from what the events make",
                    machine.id
                ));
            }
            // Raft keeps them in no order.
            if sorted(&process.core.status().members) != sorted(&members) {
                return Err(format!("{:x} thinks that others are in the group", machine.id));
            }
            if process.state.load().ok() != Some(left.clone()) {
                return Err(format!(
                    "the state of {:x} differs from what the events make",
                    machine.id
                ));
            }
        }
        if self
            .waiting
            .iter()
            .any(|w| matches!(w, Waiting::Write(at, ..) if voters.contains(&self.machines[*at].id)))
        {
            return Err("a write is never answered".into());
        }
        self.follow_all()?;
        self.clients.check()?;
        Ok(self.stats)
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
        let tick = self.random.below(3) == 0;
        let now_ms = self.now * 20 + self.machines[at].skew_ms;
        let Some(process) = &mut self.machines[at].process else {
            return Ok(());
        };
        if tick {
            process.core.tick();
        }
        if self.random.below(40) == 0 {
            let monotonic = std::time::Duration::from_millis(self.now * 20);
            process.core.chores(now_ms, monotonic).map_err(text)?;
        }
        match process.write_due(self.now) {
            Ok(messages) => self.send_raft(at, messages),
            Err(_) => self.crash(at),
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
            let cargo = Box::new(Cargo::pack(shipment));
            let to = cargo.message.to;
            self.network
                .send(&self.random, self.now, id, to, Freight::Snapshot(cargo));
        }
        let Some(job) = turn.job else { return Ok(()) };
        // The moment between a vote and its sync is short, so it is looked for.
        if job.hard.as_ref().is_some_and(|hard| hard.vote != 0) && job.must_sync && self.random.below(12) == 0
        {
            self.crash(at);
            return if self.random.below(3) > 0 {
                self.start(at)
            } else {
                Ok(())
            };
        }
        let steps = self.machines[at].disk_steps;
        let late = self.random.below(steps);
        let Some(process) = &mut self.machines[at].process else {
            return Ok(());
        };
        if process.jobs.is_empty() && (!job.must_sync || late == 0) {
            match process.write(vec![job]) {
                Ok(messages) => self.send_raft(at, messages),
                Err(_) => self.crash(at),
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

    /// Takes in the events that a machine shows.
    fn watch_master(&mut self, at: usize) -> Result<(), String> {
        let machine = &mut self.machines[at];
        let Some(process) = &mut machine.process else {
            return Ok(());
        };
        while let Some(event) = process.master.try_next() {
            match event {
                Ok(event) if event.revision != machine.seen + 1 => {
                    return Err(format!(
                        "member {:x} shows {} after {}",
                        machine.id, event.revision, machine.seen
                    ));
                }
                Ok(event) => {
                    self.clients
                        .see(&event, self.now)
                        .map_err(|error| format!("member {:x}: {error}", machine.id))?;
                    machine.seen = event.revision;
                }
                // A snapshot has jumped over what is compacted.
                Err(StoreError::Compacted { oldest }) if oldest > machine.seen => {
                    machine.seen = oldest;
                    process.master =
                        Watch::new(process.cache.clone(), process.old.clone(), "", oldest).map_err(text)?;
                }
                Err(error) => return Err(format!("the watch of {:x} failed: {error}", machine.id)),
            }
        }
        let (progress, revision) = (process.master.progress(), process.cache.position().revision);
        if progress < revision || machine.seen < revision {
            return Err(format!(
                "the watch of {:x} has {} of {revision} events",
                machine.id, machine.seen
            ));
        }
        Ok(())
    }

    /// Hears answers.
    fn hear(&mut self) -> Result<(), String> {
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting {
                Waiting::Write(at, number, mut outcome) => match outcome.try_recv() {
                    Ok(answer) => {
                        self.stats.acknowledged += u64::from(self.clients.wrote(number, answer, self.now)?)
                    }
                    Err(oneshot::error::TryRecvError::Closed) => {}
                    Err(_) => self.waiting.push(Waiting::Write(at, number, outcome)),
                },
                Waiting::Read(at, number, key, mut cleared) => match cleared.try_recv() {
                    Ok(Ok(())) => self.read_now(at, number, key),
                    Ok(Err(_)) | Err(oneshot::error::TryRecvError::Closed) => {}
                    Err(_) => self.waiting.push(Waiting::Read(at, number, key, cleared)),
                },
                Waiting::Change(at, mut outcome) => match outcome.try_recv() {
                    Ok(answer) => self.stats.changes += u64::from(answer.is_ok()),
                    Err(oneshot::error::TryRecvError::Closed) => {}
                    Err(_) => self.waiting.push(Waiting::Change(at, outcome)),
                },
            }
        }
        if let Some(leader) = self.leader() {
            let term = self.status(leader).leadership.term;
            self.stats.leaders += u64::from(term > self.term);
            self.term = self.term.max(term);
        }
        Ok(())
    }

    fn read_now(&mut self, at: usize, number: usize, key: &'static str) {
        use crate::apply::View;
        if let Some(process) = &self.machines[at].process {
            let entry = process.cache.entry(key);
            self.clients.read(number, entry.as_deref(), self.now);
            self.stats.reads += 1;
        }
    }

    fn write(&mut self) {
        let Some(at) = self.running() else { return };
        let key = KEYS[self.random.below(3) as usize];
        self.values += 1;
        let latest = self.clients.latest(key).cloned();
        let (wish, expect) = match (self.random.below(8), &latest) {
            (0, _) => (Wish::Delete, Expect::Any),
            (1, _) => (Wish::Create(self.values), Expect::Absent),
            (2..5, Some(entry)) => {
                let wish = Wish::Swap(super::clients::value(entry), self.values);
                (wish, Expect::Revision(entry.revision))
            }
            _ => (Wish::Put(self.values), Expect::Any),
        };
        let number = self.clients.ask(key, wish, self.now);
        let op = match wish {
            Wish::Delete => Op::Delete {
                key: key.into(),
                expect,
            },
            _ => self.put(key, expect),
        };
        let now_ms = self.now * 20 + self.machines[at].skew_ms;
        if let Some(process) = &mut self.machines[at].process {
            let outcome = process.call(Body::Batch(vec![op]), now_ms);
            self.waiting.push(Waiting::Write(at, number, outcome));
        }
    }

    fn put(&self, key: &str, expect: Expect) -> Op {
        let filler = "x".repeat(self.random.below(200) as usize);
        let record = Record {
            text: format!("{{\"\",{},{filler}}}", self.values).into(),
            revision_at: 2,
            ..Record::default()
        };
        let key = key.into();
        Op::Put { key, record, expect }
    }

    fn read(&mut self) {
        let Some(at) = self.running() else { return };
        let key = KEYS[self.random.below(3) as usize];
        let number = self.clients.ask(key, Wish::Get, self.now);
        let (clearance, cleared) = oneshot::channel();
        if let Some(process) = &mut self.machines[at].process {
            process.core.read(clearance);
            self.waiting.push(Waiting::Read(at, number, key, cleared));
        }
    }

    /// Opens, polls and moves watches.
    fn follow(&mut self) -> Result<(), String> {
        let Some(at) = self.running() else { return Ok(()) };
        for follower in 0..self.followers.len() {
            self.poll(follower, at)?;
        }
        if self.followers.len() < 4
            && let Some(process) = &self.machines[at].process
        {
            let (oldest, latest) = (
                process.cache.position().compacted,
                process.cache.position().revision,
            );
            let last = oldest + self.random.below(latest - oldest + 3);
            let prefix = PREFIXES[self.random.below(3) as usize];
            let watch = Watch::new(process.cache.clone(), process.old.clone(), prefix, last).map_err(text)?;
            self.followers.push(Follower {
                at: Some(at),
                watch,
                prefix,
                last,
            });
        }
        Ok(())
    }

    fn poll(&mut self, which: usize, elsewhere: usize) -> Result<(), String> {
        let moved = self.random.below(6) == 0 || self.followers[which].at.is_none();
        let follower = &mut self.followers[which];
        if moved && let Some(process) = &self.machines[elsewhere].process {
            match Watch::new(
                process.cache.clone(),
                process.old.clone(),
                follower.prefix,
                follower.last,
            ) {
                Ok(watch) => (follower.watch, follower.at) = (watch, Some(elsewhere)),
                Err(StoreError::Compacted { oldest }) => {
                    follower.last = oldest;
                    return Ok(());
                }
                Err(error) => return Err(text(error)),
            }
        }
        for _ in 0..self.random.below(20) {
            match follower.watch.try_next() {
                Some(Ok(event)) => {
                    let expected = self
                        .clients
                        .next_event(follower.prefix, follower.last, event.revision);
                    if expected != Some(&event) {
                        return Err(format!(
                            "a watch got event {} after {}",
                            event.revision, follower.last
                        ));
                    }
                    follower.last = event.revision;
                    self.stats.followed += 1;
                }
                Some(Err(StoreError::Compacted { oldest })) => {
                    (follower.last, follower.at) = (follower.last.max(oldest), None);
                    break;
                }
                Some(Err(error)) => return Err(format!("a watch failed: {error}")),
                None => {
                    let until = follower.watch.progress();
                    return match self.clients.next_event(follower.prefix, follower.last, until) {
                        None => Ok(()),
                        Some(missed) => {
                            Err(format!("a watch missed event {} before {until}", missed.revision))
                        }
                    };
                }
            }
        }
        Ok(())
    }

    fn follow_all(&mut self) -> Result<(), String> {
        for _ in 0..40 {
            self.follow()?;
        }
        Ok(())
    }

    fn upkeep(&mut self) {
        if let Some(at) = self.running() {
            self.machines[at].upkeep();
        }
    }

    fn compact(&mut self) {
        let Some(at) = self.running() else { return };
        let revision = self.random.below(self.clients.revision() + 1);
        if let Some(process) = &mut self.machines[at].process {
            drop(process.call(Body::Compact(revision), 0));
        }
    }

    fn crash_one(&mut self) {
        if let Some(at) = self.running() {
            self.crash(at);
        }
    }

    fn burn_one(&mut self) {
        if let Some(at) = self.running() {
            self.machines[at].disk.light_fuse(self.random.below(6));
        }
    }

    fn crash(&mut self, at: usize) {
        self.stats.crashes += 1;
        // Connections end with the process.
        let connected = self
            .followers
            .iter_mut()
            .filter(|follower| follower.at == Some(at));
        connected.for_each(|follower| follower.at = None);
        self.network.break_off(self.machines[at].id);
        self.machines[at].crash(&self.random);
    }

    fn boot_one(&mut self) -> Result<(), String> {
        self.start(self.random.below(self.machines.len() as u64) as usize)
    }

    fn start(&mut self, at: usize) -> Result<(), String> {
        let machine = &mut self.machines[at];
        if machine.process.is_some() || machine.gone {
            return Ok(());
        }
        let booted = machine.boot(&self.random);
        booted.map_err(|error| format!("member {:x} cannot open: {error}", machine.id))
    }

    fn cut_one(&mut self) {
        let a = self.machines[self.random.below(self.machines.len() as u64) as usize].id;
        let one_way = self.random.below(2) == 0;
        for b in self.machines.iter().map(|machine| machine.id).filter(|b| *b != a) {
            if self.random.below(3) > 0 {
                self.network.cut(a, b);
                if !one_way {
                    self.network.cut(b, a);
                }
            }
        }
    }

    /// The administrator changes the group, most often towards three to five voters.
    fn administrate(&mut self) -> Result<(), String> {
        let Some(at) = self.leader().or_else(|| self.running()) else {
            return Ok(());
        };
        let members = self.status(at).members;
        let pick =
            |ids: &[u64], random: &SeededRandom| ids.get(random.below(ids.len() as u64) as usize).copied();
        let change = match self.random.below(10) {
            0..4 => pick(&members.learners, &self.random).map(Change::Promote),
            4..6 => self.joiner(&members).map(Change::Add),
            6 => pick(&members.voters, &self.random).map(Change::Lead),
            7 if members.voters.len() > 2 => pick(&members.voters, &self.random).map(Change::Remove),
            8 if self.machines.len() < MACHINES_MAX && members.voters.len() < 5 => return self.grow(),
            _ => None,
        };
        // Sometimes by way of another server.
        let at = if self.random.below(3) == 0 {
            self.running().unwrap_or(at)
        } else {
            at
        };
        if let (Some(change), Some(process)) = (change, &mut self.machines[at].process) {
            let outcome = process.call(Body::Member(change), 0);
            self.waiting.push(Waiting::Change(at, outcome));
        }
        Ok(())
    }

    /// A machine that is in no group yet.
    fn joiner(&self, members: &::raft::eraftpb::ConfState) -> Option<Peer> {
        let known = crate::membership::everybody(members);
        let machine = self
            .machines
            .iter()
            .find(|machine| !machine.gone && !known.contains(&machine.id))?;
        Some(Peer {
            id: machine.id,
            name: format!("m{:x}", machine.id),
            address: format!("{:x}:6443", machine.id),
        })
    }

    fn grow(&mut self) -> Result<(), String> {
        let machine = Machine::new(&self.random, Some(self.cluster), self.plants).map_err(text)?;
        self.machines.push(machine);
        Ok(())
    }

    fn running(&self) -> Option<usize> {
        let running: Vec<usize> = (0..self.machines.len())
            .filter(|at| self.machines[*at].process.is_some())
            .collect();
        running
            .get(self.random.below(running.len() as u64) as usize)
            .copied()
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
        let leads = |at: &usize| self.status(*at).leadership.leads;
        (0..self.machines.len())
            .filter(leads)
            .max_by_key(|at| self.status(*at).leadership.term)
    }

    /// Whether all voters have everything and nobody waits.
    fn at_rest(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let status = self.status(leader);
        let voters = self
            .machines
            .iter()
            .filter(|machine| status.members.voters.contains(&machine.id));
        let there = |machine: &Machine| {
            machine
                .process
                .as_ref()
                .is_some_and(|p| p.core.status().applied >= status.last_index)
        };
        self.waiting.is_empty() && status.members.voters_outgoing.is_empty() && voters.into_iter().all(there)
    }
}
