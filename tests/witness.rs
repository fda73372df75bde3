//! Two full servers and a witness: whichever is lost, the others go on, and nothing acknowledged is lost.

use std::process::Command;
use std::sync::Arc;

use crate::failover::Clients;
use crate::support::hosts::Host;
use crate::support::said::said;
use crate::support::servers::Servers;
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

/// What a witness may take, with its log as far as others may need it.
const FOLDER_BYTES_MAX: u64 = 24 << 20;
/// Of memory of its own: a build for tests is a large file, which is not what this is about.
const MEMORY_BYTES_MAX: u64 = 32 << 20;

/// What a witness has of keys and certificates: those that a peer needs, and its own.
const KEYS: [&str; 6] = [
    "client-ca.crt",
    "peer-ca.crt",
    "peer-ca.key",
    "serving-ca.crt",
    "serving.crt",
    "serving.key",
];

/// Shows that a witness's folder has nothing by which to pose as anybody else.
fn assert_few_keys(dir: &std::path::Path) {
    let names = |dir: &std::path::Path| {
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .expect("a folder")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&dir.join("pki")), KEYS);
    let tops = names(dir);
    for secret in ["admin.kubeconfig", "server-token", "agent-token"] {
        assert!(!tops.iter().any(|name| name == secret), "{secret} in {tops:?}");
    }
}

/// Runs a verb of the administrator's on a witness.
fn on_witness(host: &Host, witness: &Cluster, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(crate::support::tools::coracle());
    command.args(args).arg("--data-dir").arg(&witness.dir);
    said(host.output(&mut command))
}

/// Asks a witness with the administrator's certificate, or with none.
fn ask(servers: &Servers, host: &Host, path: &str, admin: bool) -> String {
    let (cert, key) = servers.all[0].admin_files();
    let mut curl = Command::new("curl");
    curl.args(["-sk", "--max-time", "10"]);
    if admin {
        curl.arg("--cert").arg(cert).arg("--key").arg(key);
    }
    curl.arg(format!("https://{}:6443{path}", host.ip));
    said(curl.output().expect("curl")).expect("an answer")
}

fn two_and_a_witness(dir: &std::path::Path) -> (Servers, Arc<Host>, Cluster) {
    let servers = Servers::start(dir, 2);
    let (host, witness) = servers.join_witness("witness");
    (servers, host, witness)
}

#[test]
fn a_witness_votes_and_serves_nobody() {
    sandboxed(|dir| {
        let (servers, host, witness) = two_and_a_witness(dir);
        let members = servers.coracle(1, &["member", "list"]).unwrap();
        assert_has(&members, &["first", "second", "witness", "192.0.2.12:6443"]);
        assert_few_keys(&witness.dir);
        let refused = on_witness(&host, &witness, &["member", "list"]).unwrap_err();
        assert_has(&refused, &["run this on a server that is no witness"]);
        // By its own certificate, which the cluster's authority vouches for.
        let strict = Command::new("curl")
            .args(["-s", "--cacert"])
            .arg(witness.dir.join("pki/serving-ca.crt"))
            .arg(format!("https://{}:6443/healthz", host.ip))
            .output();
        assert_eq!(said(strict.expect("curl")).unwrap(), "ok");
        eventually("all three in the table", || {
            let table = servers.coracle(0, &["status"])?;
            has(&table, &["first", "second", "witness"]).and_then(|()| match table.contains("unreachable") {
                true => Err(table),
                false => Ok(()),
            })
        });

        // Nobody is led to it.
        let path = "{.subsets[*].addresses[*].ip}";
        servers.all[1].until("endpoints/kubernetes", path, "192.0.2.10 192.0.2.11");
        assert_has(
            &ask(&servers, &host, "/api/v1/namespaces", true),
            &["is a witness and serves no API", "https://192.0.2.11:6443", "503"],
        );
        assert_eq!(ask(&servers, &host, "/readyz", false), "ok");
        assert_has(&ask(&servers, &host, "/metrics", false), &["Forbidden"]);
        assert_has(&ask(&servers, &host, "/metrics", true), &["coracle_raft_term"]);

        // Nor is it led by it, and there is one.
        let refused = servers.coracle(0, &["member", "transfer-leader", "witness"]);
        assert_has(&refused.unwrap_err(), &["a witness, which never leads"]);
        let other = servers.net.add("other", crate::support::hosts::Place::Lan);
        let args = servers.witness_args("other");
        let mut child = other.launch("server", &args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!child.wait().expect("its end").success());
        let log = std::fs::read_to_string(other.data().with_extension("log")).unwrap();
        assert_has(&log, &["has a witness already, witness"]);
    });
}

#[test]
fn either_server_may_be_lost_under_writers() {
    sandboxed(|dir| {
        let (mut servers, _host, mut witness) = two_and_a_witness(dir);
        let clients = Clients::start(&servers);
        for _ in 0..2 {
            let leader = servers.until_led(0);
            servers.all[leader].kill();
            clients.work.goes_on("the leader was killed");
            servers.all[leader].restart();
            servers.until_level(leader);
            servers.hand_over(1 - leader);
            servers.hand_over(leader);
            servers.all[1 - leader].kill();
            clients.work.goes_on("the other server was killed");
            servers.all[1 - leader].restart();
            servers.until_level(1 - leader);
        }
        witness.kill();
        clients.work.goes_on("the witness was killed");
        witness.restart();

        // All at once.
        witness.kill();
        servers.all.iter_mut().for_each(Cluster::kill);
        servers.all.iter_mut().for_each(Cluster::restart);
        witness.restart();
        clients.work.goes_on("all were restarted");
        clients.end(&servers);
    });
}

/// What one server lacks and the other cannot give, the witness has: it leads for as long as that takes.
#[test]
fn a_witness_hands_over_what_only_it_has() {
    sandboxed(|dir| {
        let (mut servers, host, witness) = two_and_a_witness(dir);
        servers.hand_over(0);
        let clients = Clients::start(&servers);
        servers.all[1].kill();
        clients.work.goes_on("the second server was killed");
        // The first one is gone for as long as the second has not caught up.
        servers.all[0].kill();
        servers.all[1].restart();
        clients
            .work
            .goes_on("the second server got the rest from the witness");
        let members = servers.members(1).unwrap();
        let leads = |member: &&serde_json::Value| member["leader"] == true;
        let leader = members["items"].as_array().into_iter().flatten().find(leads);
        assert_eq!(
            leader.map(|member| &member["name"]),
            Some(&"second".into()),
            "{members}"
        );
        servers.all[0].restart();
        clients.end(&servers);
        drop((witness, host));
    });
}

#[test]
fn a_lost_witness_is_replaced_and_stays_small() {
    sandboxed(|dir| {
        let (mut servers, _host, mut witness) = two_and_a_witness(dir);
        let clients = Clients::start(&servers);
        witness.kill();
        clients.work.goes_on("the witness was lost");
        servers.coracle(0, &["member", "remove", "witness"]).unwrap();
        let (host, another) = servers.join_witness("another");
        let leader = servers.until_led(0);
        servers.all[leader].kill();
        clients.work.goes_on("the leader was killed");
        servers.all[leader].restart();
        clients.end(&servers);

        let (bytes, memory) = (folder_bytes(&another.dir), memory_bytes(another.pid()));
        eprintln!(
            "a witness: {} KiB on the disk, {} KiB of memory",
            bytes >> 10,
            memory >> 10
        );
        assert!(
            bytes < FOLDER_BYTES_MAX && memory < MEMORY_BYTES_MAX,
            "{bytes} {memory}"
        );
        assert!(!another.dir.join("state").exists());
        drop(host);
    });
}

fn folder_bytes(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => folder_bytes(&entry.path()),
            _ => entry.metadata().map_or(0, |found| found.len()),
        })
        .sum()
}

fn memory_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("its size") << 10
}
