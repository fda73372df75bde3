//! Several servers: joining, answering for one another, and outliving each other.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::support::cluster::said;
use crate::support::hosts::{Host, Hosts, Place};
use crate::support::tools::coracle;
use crate::support::{Cluster, assert_has, eventually, sandboxed};

/// A cluster of servers on hosts of their own, `first`, `second` and so on.
struct Servers {
    all: Vec<Cluster>,
    hosts: Vec<Arc<Host>>,
    net: Hosts,
}

const NAMES: [&str; 4] = ["first", "second", "third", "fourth"];

impl Servers {
    /// The first server, and nobody else.
    fn begin(dir: &Path) -> Self {
        let net = Hosts::start(dir);
        let host = net.first();
        let first = Cluster::start_on(&host, "server", &["--node-name", "first"]);
        Self {
            all: vec![first],
            hosts: vec![host],
            net,
        }
    }

    /// That many servers, all of them voters.
    fn start(dir: &Path, count: usize) -> Self {
        let mut servers = Self::begin(dir);
        while servers.all.len() < count {
            servers.join(&[]);
        }
        servers
    }

    /// Has another server join by way of the first, and waits until it votes.
    fn join(&mut self, args: &[&str]) {
        let name = NAMES[self.all.len()];
        let host = self.net.add(name, Place::Lan);
        let (url, token) = (self.url(0), self.token());
        let args = [&["--join", &url, "--token-file", &token][..], args].concat();
        let cluster = Cluster::start_on(&host, "server", &args);
        self.all.push(cluster);
        self.hosts.push(host);
        self.until_role(0, name, "voter");
    }

    fn url(&self, at: usize) -> String {
        format!("https://{}:6443", self.hosts[at].ip)
    }

    fn token(&self) -> String {
        self.all[0].dir.join("server-token").display().to_string()
    }

    /// Runs `coracle member` or another verb of the administrator's, as if on that server.
    fn coracle(&self, at: usize, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(coracle());
        command.args(args).arg("--data-dir").arg(&self.all[at].dir);
        said(self.hosts[at].output(&mut command))
    }

    /// The members as a server shows them.
    fn members(&self, at: usize) -> Result<serde_json::Value, String> {
        let text = self.all[at].try_ok(&["get", "--raw", "/apis/coracle.dev/v1/members"])?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    fn until_role(&self, at: usize, name: &str, role: &str) {
        eventually(&format!("{name} is {role}"), || {
            let members = self.members(at)?;
            let mut all = members["items"].as_array().into_iter().flatten();
            match all.any(|member| member["name"] == name && member["role"] == role) {
                true => Ok(()),
                false => Err(members.to_string()),
            }
        });
    }
}

#[test]
fn servers_join_and_answer_for_one_another() {
    sandboxed(|dir| {
        let servers = Servers::start(dir, 3);
        for (at, server) in servers.all.iter().enumerate() {
            server.ok(&["create", "configmap", &format!("by-{at}"), "--from-literal=a=b"]);
        }
        for server in &servers.all {
            let found = server.ok(&["get", "configmaps", "-o", "name"]);
            assert_has(&found, &["configmap/by-0", "configmap/by-1", "configmap/by-2"]);
        }
        // Every server's address leads to the API.
        let path = "{.subsets[*].addresses[*].ip}";
        let ips: Vec<&str> = servers.hosts.iter().map(|host| host.ip.as_str()).collect();
        servers.all[1].until("endpoints/kubernetes", path, &ips.join(" "));
        let slice = "endpointslice/kubernetes";
        servers.all[2].until(slice, "{.endpoints[*].addresses[0]}", &ips.join(" "));
    });
}
