//! Clients that mean harm: slow, huge, deep, endless and rude ones. The server bounds what each can take, says so
//! where it can, and serves the others meanwhile.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Cluster, eventually, sandboxed};
use Counted::{Answered, GivenUp, Served};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// What the process may take at most while it is attacked, MiB. It is not optimised, and begins with a tenth of it.
const MEMORY_MAX: u64 = 700;

/// One attack, what the server must have done about it, and where its metrics say so.
type Attack = (&'static str, fn(&Value) -> bool, Counted);

/// Where metrics count what an attack comes to.
#[derive(Clone, Copy)]
enum Counted {
    /// Among what is given up, with that reason.
    GivenUp(&'static str),
    /// Among requests, by the code that the attacker was told.
    Answered,
    /// Nowhere: everything is answered.
    Served,
}

impl Counted {
    /// What begins the series, and what else is in it.
    fn series(self, said: &Value) -> Option<(String, String)> {
        match self {
            Counted::GivenUp(reason) => Some((
                "coracle_given_up_total{".to_owned(),
                format!("reason=\"{reason}\""),
            )),
            Counted::Answered => Some((
                "apiserver_request_total{".to_owned(),
                format!("code=\"{}\"", said["code"]),
            )),
            Counted::Served => None,
        }
    }
}

/// The sum of the series that begin and contain that, in the text of `/metrics`.
fn sum(metrics: &str, (name, label): &(String, String)) -> u64 {
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(label));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// How many bytes of memory the process has had at most since it was last asked.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .expect("VmHWM");
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("a number");
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("clear_refs");
    kib / 1024
}

/// Attacks, and asks the server for ordinary things until the attack is over.
fn attacked(cluster: &Cluster, name: &str) -> Value {
    let (certificate, key) = cluster.admin_files();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile_clients/attacker.py");
    let mut attacker = Command::new("python3")
        .arg(script)
        .args([name, &cluster.port.to_string()])
        .arg(certificate)
        .arg(key)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    while attacker.try_wait().expect("the attacker").is_none() {
        let read = cluster.call(
            &crate::support::rest::As::Admin,
            "GET",
            &format!("{MAPS}/target"),
            "",
            "",
        );
        assert_eq!(read.code, 200, "during {name}: {}", read.body);
        std::thread::sleep(Duration::from_millis(100));
    }
    let out = attacker.wait_with_output().expect("the attacker");
    let said: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    let memory = peak(cluster.pid());
    println!("{name}: {said}, at most {memory} MiB");
    assert!(memory < MEMORY_MAX, "{name} made the server take {memory} MiB");
    said
}

fn withstands(cluster: &Cluster, attacks: &[Attack]) {
    let map = |name: &str, data: Value| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}).to_string()
    };
    assert_eq!(cluster.post(MAPS, &map("target", json!({}))).code, 201);
    for place in 0..5 {
        let large = map(&format!("large-{place}"), json!({"a": "x".repeat(900_000)}));
        assert_eq!(cluster.post(MAPS, &large).code, 201);
    }
    peak(cluster.pid());
    let metrics = || cluster.ok(&["get", "--raw", "/metrics"]);
    for (name, withstood, counted) in attacks {
        let before = metrics();
        let said = attacked(cluster, name);
        assert!(withstood(&said), "{name}: {said}");
        if let Some(series) = counted.series(&said) {
            eventually(&format!("{name} to be counted as {series:?}"), || {
                let (before, after) = (sum(&before, &series), sum(&metrics(), &series));
                if after > before {
                    Ok(())
                } else {
                    Err(format!("{after}"))
                }
            });
        }
    }
    let log = cluster.log();
    assert!(!log.contains("panicked"), "{log}");
}

fn refused(said: &Value) -> bool {
    said["code"]
        .as_u64()
        .is_some_and(|code| (400..500).contains(&code))
}

#[test]
fn slow_clients_are_given_up() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        let attacks: [Attack; 5] = [
            ("silent", |said| said["closed"] == true, GivenUp("handshake")),
            ("mute", |said| said["closed"] == true, GivenUp("silent")),
            ("slow_headers", |said| said["closed"] == true, GivenUp("header")),
            ("slow_body", |said| said["code"] == 504, GivenUp("timeout")),
            ("unread", |said| said["done"] == true, GivenUp("room")),
        ];
        withstands(&cluster, &attacks);
    });
}

#[test]
fn huge_and_deep_requests_are_refused() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        let attacks: [Attack; 9] = [
            (
                "huge_header",
                |said| said["code"] == 431 || said["code"] == 0,
                GivenUp("header_size"),
            ),
            (
                "huge_url",
                |said| said["code"] == 414 || said["code"] == 431 || said["code"] == 0,
                GivenUp("header_size"),
            ),
            ("huge_body", |said| said["bounded"] == true, GivenUp("body_size")),
            ("deep_json", refused, Answered),
            ("deep_yaml", refused, Answered),
            ("yaml_bomb", refused, Answered),
            ("gzip_bomb", refused, Answered),
            ("patch_bomb", refused, Answered),
            ("patch_flood", refused, Answered),
        ];
        withstands(&cluster, &attacks);
    });
}

#[test]
fn rude_connections_are_closed() {
    sandboxed(|dir| {
        // One user has half of the watches, which is fewer than the attacker wants.
        let cluster = Cluster::start(dir, &["--max-watches", "8000"]);
        // That it was told why may be lost with the connection.
        let ended: fn(&Value) -> bool = |said| said["bounded"] == true && said["over"] == true;
        let done: fn(&Value) -> bool = |said| said["done"] == true;
        let attacks: [Attack; 6] = [
            ("rapid_reset", ended, GivenUp("protocol")),
            ("continuation_flood", ended, GivenUp("protocol")),
            ("ping_flood", done, Served),
            ("closed_window", done, GivenUp("room")),
            ("watch_hoard", done, GivenUp("watches")),
            // Whoever gets in and then says nothing is closed like those who say nothing at all.
            ("hoard", |said| said["refused"] == true, GivenUp("handshake")),
        ];
        withstands(&cluster, &attacks);
    });
}
