//! A cluster of several servers, each on a host of its own.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::cluster::said;
use super::hosts::{Host, Hosts, Place};
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
}

const NAMES: [&str; 4] = ["first", "second", "third", "fourth"];

impl Servers {
    /// The first server, and nobody else.
    fn begin(dir: &Path, verb: &'static str) -> Self {
        let net = Hosts::start(dir);
        let host = net.first();
        let first = Cluster::start_on(&host, verb, &["--node-name", "first"]);
        Self {
            all: vec![first],
            hosts: vec![host],
            net,
            verb,
        }
    }

    /// That many servers, all of them voters.
    pub fn start(dir: &Path, count: usize) -> Self {
        Self::start_as(dir, "server", count)
    }

    /// The same of one role: `server`, or `up` for servers that run pods too.
    pub fn start_as(dir: &Path, verb: &'static str, count: usize) -> Self {
        let mut servers = Self::begin(dir, verb);
        while servers.all.len() < count {
            servers.join(&[]);
        }
        servers
    }

    /// Has another server join by way of the first, and waits until it votes.
    pub fn join(&mut self, args: &[&str]) {
        let name = NAMES[self.all.len()];
        let host = self.net.add(name, Place::Lan);
        let (url, token) = (self.url(0), self.token());
        let args = [&["--join", &url, "--token-file", &token][..], args].concat();
        let cluster = Cluster::start_on(&host, self.verb, &args);
        self.all.push(cluster);
        self.hosts.push(host);
        self.until_role(0, name, "voter");
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
