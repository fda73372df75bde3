//! What goes wrong, and how it is mended.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base::{Random, SeededRandom};
use nix::sys::signal::Signal;

use crate::support::hosts::Host;
use crate::support::servers::Servers;
use crate::support::{eventually, maps};

/// Longest time that a fault lasts.
const FAULT_MS_MAX: u64 = 4000;
/// Size of the disk below a server's log: little more than the log takes, so that it is full soon.
const LOG_MEBIBYTES: u64 = 40;
/// How long a server runs on whose log is deleted.
const RUNS_ON: Duration = Duration::from_millis(800);
/// How long a server may take to say who leads, before it counts as one that does not know.
const ANSWER: Duration = Duration::from_secs(2);

/// A sort of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, and a start later.
    Kill,
    /// SIGSTOP, and SIGCONT later.
    Freeze,
    /// It hears none of the others, and none hears it.
    CutOff,
    /// It hears none of the others.
    Deaf,
    /// None of the others hears it.
    Mute,
    /// Many of the packets that it gets are lost.
    Lossy,
    /// The disk below its log is full.
    Fill,
    /// It is to lead.
    HandOver,
    /// All are restarted, one after the other.
    Roll,
    /// It loses all its files, and a new member takes its place.
    Replace,
    /// Its log is deleted while it runs. It goes on, and once killed it starts no more; a new member takes its place.
    Delete,
}

/// All of them.
pub const ALL: [Fault; 11] = [
    Fault::Kill,
    Fault::Freeze,
    Fault::CutOff,
    Fault::Deaf,
    Fault::Mute,
    Fault::Lossy,
    Fault::Fill,
    Fault::HandOver,
    Fault::Roll,
    Fault::Replace,
    Fault::Delete,
];

/// Gives the log of the server on a host a small disk of its own.
pub fn prepare(host: &Host) {
    let script = format!(
        "mkdir -p \"$1/raft\"; echo 1 > \"$1/version\"
         mount -t tmpfs -o size={LOG_MEBIBYTES}m tmpfs \"$1/raft\""
    );
    let data = host.data().display().to_string();
    host.run("sh", &["-ec", &script, "sh", &data])
        .expect("a small disk");
}

/// The servers, and what is wrong with them now.
pub struct Chaos<'a> {
    servers: &'a mut Servers,
    random: SeededRandom,
    runtime: tokio::runtime::Runtime,
    began: Instant,
    /// Who does not run.
    down: BTreeSet<usize>,
    /// Who is not heard by whom.
    cut: BTreeSet<(usize, usize)>,
    /// Who loses packets: of a hundred, so many.
    loss: Vec<(usize, u64)>,
    /// What is to be mended, and when.
    mends: Vec<(Instant, Fault, usize)>,
}

impl<'a> Chaos<'a> {
    /// Nothing is wrong yet.
    pub fn new(servers: &'a mut Servers, seed: u64) -> Self {
        Self {
            servers,
            random: SeededRandom::new(seed ^ 1),
            runtime: tokio::runtime::Runtime::new().expect("a runtime"),
            began: Instant::now(),
            down: BTreeSet::new(),
            cut: BTreeSet::new(),
            loss: Vec::new(),
            mends: Vec::new(),
        }
    }

    /// Lets something go wrong, often with the server that leads.
    pub fn begin(&mut self, fault: Fault) {
        let any = self.random.below(self.servers.all.len() as u64) as usize;
        let at = match self.random.below(2) {
            0 => self.leader().unwrap_or(any),
            _ => any,
        };
        self.say(&format!("{fault:?} {}", self.servers.hosts[at].name));
        let others = (0..self.servers.all.len()).filter(|other| *other != at);
        let (hears, heard): (Vec<_>, Vec<_>) = others.map(|other| ((other, at), (at, other))).unzip();
        match fault {
            Fault::Kill => self.kill(at),
            Fault::Freeze if self.down.contains(&at) => {}
            Fault::Freeze => self.servers.all[at].signal(Signal::SIGSTOP),
            Fault::CutOff => self.cut.extend(hears.into_iter().chain(heard)),
            Fault::Deaf => self.cut.extend(hears),
            Fault::Mute => self.cut.extend(heard),
            Fault::Lossy => self.loss.push((at, 10 + self.random.below(50))),
            Fault::Fill => self.fill(at),
            Fault::HandOver => self.hand_over(at),
            Fault::Roll => self.roll(),
            Fault::Replace => self.replace(at),
            Fault::Delete => self.delete(at),
        }
        self.shape();
        let lasts = Duration::from_millis(500 + self.random.below(FAULT_MS_MAX));
        self.mends.push((Instant::now() + lasts, fault, at));
    }

    /// Lets time pass, and mends what has lasted long enough.
    pub fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
            let now = Instant::now();
            let (due, later) = std::mem::take(&mut self.mends)
                .into_iter()
                .partition::<Vec<_>, _>(|(at, ..)| *at <= now);
            self.mends = later;
            for (_, fault, at) in &due {
                self.mend(*fault, *at);
            }
            if !due.is_empty() {
                self.shape();
            }
        }
    }

    /// Mends everything, and waits until every server serves again.
    pub fn mend_all(&mut self) {
        for (_, fault, at) in std::mem::take(&mut self.mends) {
            self.mend(fault, at);
        }
        self.cut.clear();
        self.loss.clear();
        self.shape();
        let began = Instant::now();
        for at in 0..self.servers.all.len() {
            self.until_serving(at);
        }
        self.say(&format!("all serve again after {:?}", began.elapsed()));
    }

    /// No server may have panicked.
    pub fn end(mut self) {
        self.mend_all();
        for server in &self.servers.all {
            let log = server.log();
            assert!(!log.contains("panicked"), "{log}");
        }
    }

    fn mend(&mut self, fault: Fault, at: usize) {
        let others = (0..self.servers.all.len()).filter(|other| *other != at);
        let (hears, heard): (Vec<_>, Vec<_>) = others.map(|other| ((other, at), (at, other))).unzip();
        match fault {
            Fault::Kill if self.down.remove(&at) => {
                // Without room it could not start, and would say so and end.
                self.empty(at);
                self.servers.all[at].relaunch();
            }
            Fault::Freeze if !self.down.contains(&at) => self.servers.all[at].signal(Signal::SIGCONT),
            Fault::CutOff => self.mend_cuts(hears.into_iter().chain(heard)),
            Fault::Deaf => self.mend_cuts(hears.into_iter()),
            Fault::Mute => self.mend_cuts(heard.into_iter()),
            Fault::Lossy => self.loss.retain(|(lossy, _)| *lossy != at),
            Fault::Fill => self.empty(at),
            Fault::Kill | Fault::Freeze | Fault::HandOver | Fault::Roll | Fault::Replace | Fault::Delete => {}
        }
    }

    fn mend_cuts(&mut self, pairs: impl Iterator<Item = (usize, usize)>) {
        for pair in pairs {
            self.cut.remove(&pair);
        }
    }

    fn kill(&mut self, at: usize) {
        if self.down.insert(at) {
            self.has_not_ended(at);
            self.servers.all[at].kill();
        }
    }

    /// Servers end when they are told to, and not by themselves.
    fn has_not_ended(&mut self, at: usize) {
        if let Some(status) = self.servers.all[at].ended() {
            let (name, log) = (&self.servers.hosts[at].name, self.servers.all[at].log());
            panic!("{name} has ended by itself: {status}\n{log}");
        }
    }

    fn ballast(&self, at: usize) -> String {
        self.servers.hosts[at]
            .data()
            .join("raft/ballast")
            .display()
            .to_string()
    }

    fn fill(&self, at: usize) {
        let to = format!("of={}", self.ballast(at));
        // Ends when there is no space left, which is what is wanted.
        let _ = self.servers.hosts[at].run("dd", &["if=/dev/zero", "bs=64k", "status=none", &to]);
    }

    fn empty(&self, at: usize) {
        let removed = self.servers.hosts[at].run("rm", &["-f", &self.ballast(at)]);
        removed.expect("room");
    }

    fn hand_over(&self, to: usize) {
        let name = &self.servers.hosts[to].name;
        let path = format!("/apis/coracle.dev/v1/members/{name}/lead");
        let api = maps::client(self.servers, to, &[]);
        // Whether it can be done depends on what else is wrong.
        let asked = async { api.raw(http::Method::POST, &path, "{}".into()).await };
        let said = self
            .runtime
            .block_on(async { tokio::time::timeout(ANSWER, asked).await });
        self.say(&format!(
            "{name} leads: {:?}",
            said.map(|said| said.map(|(code, _)| code))
        ));
    }

    fn roll(&mut self) {
        self.mend_all();
        for at in 0..self.servers.all.len() {
            self.servers.all[at].stop();
            self.servers.all[at].relaunch();
            self.until_serving(at);
        }
    }

    fn replace(&mut self, at: usize) {
        self.mend_all();
        self.servers.all[at].kill();
        self.servers.replace(at, (at + 1) % self.servers.all.len());
    }

    fn delete(&mut self, at: usize) {
        self.mend_all();
        let log = self.servers.hosts[at].data().join("raft").display().to_string();
        let deleted = self.servers.hosts[at].run("sh", &["-ec", "rm \"$1\"/*.log", "sh", &log]);
        deleted.expect("a log to delete");
        self.pass(RUNS_ON);
        self.has_not_ended(at);
        self.servers.all[at].kill();
        self.servers.all[at].relaunch();
        let server = &mut self.servers.all[at];
        let ended = eventually("its end", || server.ended().ok_or("it runs".to_owned()));
        let log = server.log();
        let told = log.lines().last().unwrap_or_default();
        assert!(
            ended.code() == Some(1) && told.contains("raft"),
            "{ended}: {told}"
        );
        self.servers.replace(at, (at + 1) % self.servers.all.len());
    }

    /// Makes the hosts drop what they shall not hear.
    fn shape(&self) {
        for (at, host) in self.servers.hosts.iter().enumerate() {
            let from = |other: &usize| &self.servers.hosts[*other].ip;
            let cut = self.cut.iter().filter(|(_, hearer)| *hearer == at);
            let mut rules: Vec<String> = cut
                .map(|(other, _)| format!("ip saddr {} drop", from(other)))
                .collect();
            for (_, percent) in self.loss.iter().filter(|(lossy, _)| *lossy == at) {
                let others = (0..self.servers.all.len()).filter(|other| *other != at);
                rules.extend(others.map(|other| {
                    format!("ip saddr {} numgen random mod 100 < {percent} drop", from(&other))
                }));
            }
            let rules = rules.join("; ");
            let table = format!(
                "table ip chaos {{}}; delete table ip chaos; table ip chaos {{ chain in {{
                 type filter hook input priority 0; {rules}; }}; }}"
            );
            host.run("nft", &[&table]).expect("rules");
        }
    }

    fn until_serving(&mut self, at: usize) {
        self.has_not_ended(at);
        let api = maps::client(self.servers, at, &[]);
        let name = &self.servers.hosts[at].name;
        eventually(&format!("{name} serves"), || {
            let request = maps::request(api::request::Verb::List, "");
            let listed = async { tokio::time::timeout(ANSWER, client::Api::call(&api, request)).await };
            match self.runtime.block_on(listed) {
                Ok(Ok(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// Who leads, as far as anybody can tell.
    fn leader(&self) -> Option<usize> {
        (0..self.servers.all.len())
            .filter(|at| !self.down.contains(at))
            .find_map(|at| {
                let api = maps::client(self.servers, at, &[]);
                let asked = async {
                    api.raw(http::Method::GET, "/apis/coracle.dev/v1/members", "".into())
                        .await
                };
                let answer = async { tokio::time::timeout(ANSWER, asked).await };
                let (_, body) = self.runtime.block_on(answer).ok()?.ok()?;
                let members: serde_json::Value = serde_json::from_slice(&body).ok()?;
                let leader = members["items"]
                    .as_array()?
                    .iter()
                    .find(|member| member["leader"] == true)?;
                self.servers
                    .hosts
                    .iter()
                    .position(|host| leader["name"] == host.name.as_str())
            })
    }

    fn say(&self, what: &str) {
        eprintln!("{:7.2} s: {what}", self.began.elapsed().as_secs_f64());
    }
}
