//! A cluster of several servers, each on a host of its own.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::hosts::{Host, Hosts, Place};
use super::said::said;
use super::tools::coracle;
use super::{Cluster, eventually};

/// A cluster of servers on hosts of their own, `first`, `second` and so on.
pub struct Servers {
    /// The servers, the first one in the sandbox.
    pub all: Vec<Cluster>,
    /// Their hosts.
    pub hosts: Vec<Arc<Host>>,
    /// What connects them.
    pub net: Hosts,
    /// `server`, or `up` for servers that run pods too.
    verb: &'static str,
    prepare: Prepare,
}

/// What a host needs before its server starts in an empty folder.
type Prepare = fn(&Host);

const NAMES: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];

impl Servers {
    /// The first server, and nobody else.
    fn begin(net: Hosts, host: Arc<Host>, verb: &'static str, prepare: Prepare) -> Self {
        prepare(&host);
        let first = Cluster::start_on(&host, verb, &["--node-name", "first"]);
        Self {
            all: vec![first],
            hosts: vec![host],
            net,
            verb,
            prepare,
        }
    }

    /// That many servers, all of them voters.
    pub fn start(dir: &Path, count: usize) -> Self {
        Self::start_as(dir, "server", count)
    }

    /// The same of one role: `server`, or `up` for servers that run pods too.
    pub fn start_as(dir: &Path, verb: &'static str, count: usize) -> Self {
        let net = Hosts::start(dir);
        let host = net.first();
        Self::begin(net, host, verb, |_| ()).filled(count)
    }

    /// The same with none of them in the sandbox, which is left to their clients: whatever is done to the
    /// servers' network is not done to theirs. `prepare` comes before a server starts in an empty folder.
    pub fn start_apart(dir: &Path, count: usize, prepare: Prepare) -> Self {
        let net = Hosts::start(dir);
        let host = net.add(NAMES[0], Place::Lan);
        Self::begin(net, host, "server", prepare).filled(count)
    }

    /// Servers in folders that are there already. All are started at once, since none can go on alone.
    pub fn resume(net: Hosts, hosts: Vec<Arc<Host>>) -> Self {
        let verb = "server";
        let all = std::thread::scope(|scope| {
            let start = |host: &Arc<Host>| {
                let host = host.clone();
                scope.spawn(move || Cluster::start_on(&host, verb, &["--node-name", &host.name]))
            };
            let started: Vec<_> = hosts.iter().map(start).collect();
            let joined = started.into_iter().map(|server| server.join().expect("a server"));
            joined.collect()
        });
        Self {
            all,
            hosts,
            net,
            verb,
            prepare: |_| (),
        }
    }

    fn filled(mut self, count: usize) -> Self {
        while self.all.len() < count {
            self.join(&[]);
        }
        self
    }

    /// Has another server join by way of the first, and waits until it votes.
    pub fn join(&mut self, args: &[&str]) {
        let name = self.join_unheeded(args);
        self.until_role(0, name, "voter");
    }

    /// Has another server join by way of the first; its name.
    pub fn join_unheeded(&mut self, args: &[&str]) -> &'static str {
        let name = NAMES[self.all.len()];
        let host = self.net.add(name, Place::Lan);
        (self.prepare)(&host);
        let joining = self.joining(name, 0);
        let all: Vec<&str> = joining
            .iter()
            .map(String::as_str)
            .chain(args.iter().copied())
            .collect();
        let cluster = Cluster::start_on(&host, self.verb, &all);
        self.all.push(cluster);
        self.hosts.push(host);
        name
    }

    /// The arguments with which a server of that name joins by way of another.
    fn joining(&self, name: &str, via: usize) -> Vec<String> {
        let token = self.all[via].dir.join("server-token").display().to_string();
        let args = [
            "--node-name",
            name,
            "--join",
            &self.url(via),
            "--token-file",
            &token,
        ];
        args.map(str::to_owned).to_vec()
    }

    /// The arguments with which a witness of that name joins by way of the first server.
    pub fn witness_args(&self, name: &str) -> Vec<String> {
        let mut args = self.joining(name, 0);
        args.push("--witness".to_owned());
        args
    }

    /// Has a witness join by way of the first, and waits until it votes. It is none of `all`: it serves nobody.
    pub fn join_witness(&self, name: &str) -> (Arc<Host>, Cluster) {
        let host = self.net.add(name, Place::Lan);
        let args = self.witness_args(name);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let witness = Cluster::start_on(&host, "server", &args);
        self.until_role(0, name, "witness");
        (host, witness)
    }

    /// Waits until a server has all that the leader has.
    pub fn until_level(&self, at: usize) {
        let name = &self.hosts[at].name;
        eventually(&format!("{name} has everything"), || {
            let members = self.members(self.leader(at)?)?;
            let mut all = members["items"].as_array().into_iter().flatten();
            match all
                .any(|member| member["name"] == **name && member["lag"].as_u64().is_some_and(|lag| lag < 100))
            {
                true => Ok(()),
                false => Err(members.to_string()),
            }
        });
    }

    /// Replaces a server that has ended: it is removed, its folder emptied, and a new one of its name joins,
    /// both by way of another server.
    pub fn replace(&mut self, at: usize, via: usize) {
        let host = self.hosts[at].clone();
        eventually(&format!("{} is removed", host.name), || {
            self.coracle(via, &["member", "remove", &host.name])
        });
        self.rejoin(at, via);
    }

    /// Has a server that has ended join anew by way of another, with an empty folder.
    pub fn rejoin(&mut self, at: usize, via: usize) {
        self.empty(at);
        let args = self.joining(&self.hosts[at].name, via);
        self.all[at].restart_with(&args);
        self.until_role(via, &self.hosts[at].name, "voter");
    }

    /// Has a server that has ended and is removed begin to join by way of another, and waits for nothing.
    pub fn relaunch_joining(&mut self, at: usize, via: usize) {
        let args = self.joining(&self.hosts[at].name, via);
        self.all[at].relaunch_with(&args);
    }

    /// Waits until a server is a member, in whatever role.
    pub fn until_listed(&self, at: usize, name: &str) {
        eventually(&format!("{name} is a member"), || {
            let members = self.members(at)?;
            let mut all = members["items"].as_array().into_iter().flatten();
            match all.any(|member| member["name"] == name) {
                true => Ok(()),
                false => Err(members.to_string()),
            }
        });
    }

    /// Empties the folder of a server that has ended.
    pub fn empty(&self, at: usize) {
        let host = &self.hosts[at];
        let script = "cd \"$1\"; if mountpoint -q raft; then umount raft; fi; find . -mindepth 1 -delete";
        let data = host.data().display().to_string();
        host.run("sh", &["-ec", script, "sh", &data])
            .expect("an empty folder");
        (self.prepare)(host);
    }

    /// The URL of a server.
    pub fn url(&self, at: usize) -> String {
        format!("https://{}:6443", self.hosts[at].ip)
    }

    /// The file with which servers join.
    pub fn token(&self) -> String {
        self.all[0].dir.join("server-token").display().to_string()
    }

    /// Runs `coracle member` or another verb of the administrator's, as if on that server.
    pub fn coracle(&self, at: usize, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(coracle());
        command.args(args).arg("--data-dir").arg(&self.all[at].dir);
        said(self.hosts[at].output(&mut command))
    }

    /// The members as a server shows them.
    pub fn members(&self, at: usize) -> Result<serde_json::Value, String> {
        let text = self.all[at].try_ok(&["get", "--raw", "/apis/coracle.dev/v1/members"])?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// Waits until a server is shown in that role.
    pub fn until_role(&self, at: usize, name: &str, role: &str) {
        eventually(&format!("{name} is {role}"), || {
            let members = self.members(at)?;
            let mut all = members["items"].as_array().into_iter().flatten();
            match all.any(|member| member["name"] == name && member["role"] == role) {
                true => Ok(()),
                false => Err(members.to_string()),
            }
        });
    }

    /// Which server leads, as `at` sees it.
    pub fn leader(&self, at: usize) -> Result<usize, String> {
        let members = self.members(at)?;
        let mut all = members["items"].as_array().into_iter().flatten();
        let leader = all.find(|member| member["leader"] == true);
        let name = leader
            .and_then(|member| member["name"].as_str())
            .unwrap_or_default();
        let found = self.hosts.iter().position(|host| host.name == name);
        found.ok_or_else(|| format!("nobody leads: {members}"))
    }

    /// Waits until somebody leads, as `at` sees it.
    pub fn until_led(&self, at: usize) -> usize {
        eventually("a leader", || self.leader(at))
    }

    /// Hands leadership to a server.
    pub fn hand_over(&self, to: usize) {
        let name = self.hosts[to].name.clone();
        eventually(&format!("{name} leads"), || {
            self.coracle(to, &["member", "transfer-leader", &name])
        });
    }
}
