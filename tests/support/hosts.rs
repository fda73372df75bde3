//! Several hosts in one scenario.
//!
//! ```text
//!  first host (the sandbox)   further hosts       hosts elsewhere      hosts behind NAT
//!      192.0.2.10             192.0.2.11 …        198.51.100.11 …      172.31.0.11 …
//!          │ lan0                 │ lan0               │ lan0                │ lan0
//!  ┌───────┴──────────────────────┴───────┐   ┌────────┴────────┐   ┌────────┴───────┐
//!  │ bridge lan, 192.0.2.1                │   │ far, .100.1     │   │ behind, .0.1   │
//!  └──────────────────────────────────────┘   └─────────────────┘   └────────────────┘
//!       the switch: forwards between lan and far, masquerades what comes from
//!       behind, lets nobody in there
//! ```
//!
//! Declare [`Hosts`] before the clusters, so that it is dropped after them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use super::leftovers;
use super::machine::Machine;
use super::said::said;
use super::sandbox::NODE_IP;
use super::{program, tools};

/// Where a host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On one layer 2 with the first host.
    Lan,
    /// In another subnet, which a router connects.
    Far,
    /// Behind a router that masquerades; nobody outside can begin a connection to it.
    BehindNat,
}

impl Place {
    /// The bridge on the switch and the first three bytes of its subnet, whose gateway is `.1`.
    fn segment(self) -> (&'static str, &'static str) {
        match self {
            Place::Lan => ("lan", "192.0.2"),
            Place::Far => ("far", "198.51.100"),
            Place::BehindNat => ("behind", "172.31.0"),
        }
    }
}

/// The hosts of a scenario and what connects them.
pub struct Hosts {
    dir: PathBuf,
    switch: Arc<Machine>,
    last: AtomicU8,
    first: Arc<Host>,
}

/// One host.
pub struct Host {
    /// Its host name; a node takes it for its own name.
    pub name: String,
    /// Its address.
    pub ip: String,
    place: Place,
    dir: PathBuf,
    switch: Arc<Machine>,
    /// The host's end of its link, as the switch knows it.
    port: String,
    /// `None` while it is off, and always for the first host, which is the sandbox itself.
    machine: Mutex<Option<Machine>>,
    is_sandbox: bool,
    /// By how many days its wall clock is off.
    days_off: AtomicI32,
}

impl Hosts {
    /// Makes the switch and connects the sandbox, the first host, to it. `dir` is the scenario's folder.
    pub fn start(dir: &Path) -> Self {
        let switch = Arc::new(Machine::start("switch", dir));
        for place in [Place::Lan, Place::Far, Place::BehindNat] {
            let (bridge, net) = place.segment();
            switch.script(&format!(
                "ip link add {bridge} type bridge forward_delay 0
                 ip addr add {net}.1/24 dev {bridge}
                 ip link set {bridge} up"
            ));
        }
        switch.script(
            "echo 1 > /proc/sys/net/ipv4/ip_forward
             nft 'table ip router {
                 chain out { type nat hook postrouting priority srcnat;
                     ip saddr 172.31.0.0/24 oifname != behind masquerade; }
                 chain in { type filter hook forward priority filter;
                     oifname behind iifname != behind ct state new,invalid drop; }
             }'",
        );
        let first = Arc::new(Host {
            name: "first".to_owned(),
            ip: NODE_IP.to_owned(),
            place: Place::Lan,
            dir: dir.to_owned(),
            switch: switch.clone(),
            port: "lan1".to_owned(),
            machine: Mutex::new(None),
            is_sandbox: true,
            days_off: AtomicI32::new(0),
        });
        let holder = switch.holder().to_string();
        run("ip", &["link", "set", "lan1", "netns", &holder]);
        switch.script("ip link set lan1 master lan up");
        Self {
            dir: dir.to_owned(),
            switch,
            last: AtomicU8::new(10),
            first,
        }
    }

    /// The sandbox itself, where [`super::Cluster::start`] runs its process.
    pub fn first(&self) -> Arc<Host> {
        self.first.clone()
    }

    /// Adds a host and switches it on.
    pub fn add(&self, name: &str, place: Place) -> Arc<Host> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let host = Host {
            name: name.to_owned(),
            ip: format!("{}.{number}", place.segment().1),
            place,
            dir: self.dir.clone(),
            switch: self.switch.clone(),
            port: format!("port{number}"),
            machine: Mutex::new(None),
            is_sandbox: false,
            days_off: AtomicI32::new(0),
        };
        host.power_on();
        Arc::new(host)
    }
}

impl Host {
    /// The folder in which a node of this host keeps its data.
    pub fn data(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// Pulls its cable at the switch: the host keeps its link, and nothing comes through.
    pub fn cut(&self) {
        self.switch
            .script(&format!("ip link set {} nomaster down", self.port));
    }

    /// Puts the cable back.
    pub fn mend(&self) {
        let bridge = self.place.segment().0;
        self.switch
            .script(&format!("ip link set {} master {bridge} up", self.port));
    }

    /// Ends every process at once and with them everything in the host's kernel; files stay.
    pub fn power_off(&self) {
        assert!(!self.is_sandbox, "the first host ends with the scenario");
        *self.lock() = None;
        // At once, and not whenever the kernel has cleaned up the namespace.
        let _ = self.switch.run("ip", &["link", "del", &self.port]);
    }

    /// Switches it on again: a host with its old name and address on which nothing runs yet.
    pub fn power_on(&self) {
        let machine = Machine::start(&self.name, &self.dir);
        let (bridge, net) = self.place.segment();
        let (port, ip, holder) = (&self.port, &self.ip, machine.holder());
        // Made in the host and handed over, since a process id means something to the sandbox alone.
        run(
            "ip",
            &[
                "link",
                "add",
                port,
                "type",
                "veth",
                "peer",
                "name",
                "lan0",
                "netns",
                &holder.to_string(),
            ],
        );
        run(
            "ip",
            &["link", "set", port, "netns", &self.switch.holder().to_string()],
        );
        self.switch
            .script(&format!("ip link set {port} master {bridge} up"));
        machine.script(&format!(
            "ip addr add {ip}/24 dev lan0
             ip link set lan0 up
             ip route add default via {net}.1"
        ));
        *self.lock() = Some(machine);
    }

    /// Runs `act` on this host; programs that it starts run there.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        match self.lock().as_ref() {
            Some(machine) => machine.inside(act),
            None => {
                assert!(self.is_sandbox, "{} is off", self.name);
                act()
            }
        }
    }

    /// Sets its wall clock, for the programs that are started from now on and ask the C library for the time.
    pub fn set_clock(&self, days_off: i32) {
        self.days_off.store(days_off, Ordering::Relaxed);
    }

    /// The same, also for those programs that run already, if it was set so before they were started.
    pub fn turn_clock(&self, days_off: i32) {
        std::fs::write(self.clock_file(), format!("{days_off:+}d\n")).expect("a clock");
        self.set_clock(days_off);
    }

    /// What the programs look at whose clock is turned while they run.
    fn clock_file(&self) -> PathBuf {
        self.dir.join(format!("{}.clock", self.name))
    }

    /// Whether its wall clock shows what it is.
    pub fn is_on_time(&self) -> bool {
        self.days_off.load(Ordering::Relaxed) == 0
    }

    /// Has a command see this host's clock.
    pub fn timed<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        if self.clock_file().exists() {
            return command
                .env("LD_PRELOAD", tools::faketime())
                .env("FAKETIME_TIMESTAMP_FILE", self.clock_file())
                .env("FAKETIME_CACHE_DURATION", "1")
                .env("DONT_FAKE_MONOTONIC", "1");
        }
        match self.days_off.load(Ordering::Relaxed) {
            0 => command,
            days => command
                .env("LD_PRELOAD", tools::faketime())
                .env("FAKETIME", format!("{days:+}d"))
                .env("DONT_FAKE_MONOTONIC", "1"),
        }
    }

    /// Runs a command here to its end.
    pub fn output(&self, command: &mut Command) -> Output {
        let command = self.timed(command);
        self.inside(|| command.output().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    /// Runs a program here to its end; its standard output, or what it said on standard error.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String, String> {
        said(self.output(Command::new(program).args(args)))
    }

    /// Starts a process of one role here without waiting for anything; it logs to a file beside its data.
    pub fn launch(&self, verb: &str, args: &[&str]) -> std::process::Child {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        self.spawn(&mut program::command(verb, &self.data(), &args))
    }

    /// Starts a command here.
    pub fn spawn(&self, command: &mut Command) -> std::process::Child {
        let command = self.timed(command);
        self.inside(|| command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    /// Whether this is the sandbox itself.
    pub fn is_sandbox(&self) -> bool {
        self.is_sandbox
    }

    /// Fails if a node left something in this host's kernel: call it after `coracle down`.
    pub fn assert_clean(&self) {
        let found = self.inside(|| leftovers::of_host(&self.data()));
        assert!(
            found.is_empty(),
            "left behind on {}:\n{}",
            self.name,
            found.join("\n")
        );
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Machine>> {
        self.machine
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {args:?}");
}
