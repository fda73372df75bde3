//! Pods come and go by the hundred and leave nothing behind.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base::{Random, SeededRandom};

use crate::support::instances::instance_ids;
use crate::support::manifests::BUSYBOX;
use crate::support::running::{kill_hard, processes};
use crate::support::{Cluster, eventually, sandboxed};

/// Pods in all; more with `CORACLE_CHURN_PODS`.
const PODS: usize = 175;
/// Rounds of pods under kills; more with `CORACLE_CHURN_ROUNDS`.
const ROUNDS: u64 = 4;
/// Pods of such a round, and kills while they begin, and while they end.
const ROUND: usize = 12;
const KILLS: u64 = 3;
/// Pods that live at the same time.
const WAVE: usize = 25;
/// What the node may grow by from the first hundred pods to the last: events
/// and history of the objects are kept for a while, and they are in memory.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// A number that the environment may set.
fn number(variable: &str, otherwise: u64) -> u64 {
    let set = std::env::var(variable).ok();
    set.map_or(otherwise, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable} is a number"))
    })
}

#[test]
fn hundreds_of_pods_leave_nothing_behind() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        // What is made with the first pods and stays for the next ones.
        wave(&cluster, 0, WAVE);
        let before = everything(&cluster, dir);
        let mut early = None;
        let all = number("CORACLE_CHURN_PODS", PODS as u64) as usize;
        for first in (WAVE..WAVE + all).step_by(WAVE) {
            wave(&cluster, first, WAVE.min(WAVE + all - first));
            if first >= 100 && early.is_none() {
                early = Some(size(&cluster));
            }
        }
        let after = as_before(&cluster, dir, &before);
        // The tables are rid of what only the first wave needed.
        let is_ours = |thing: &&String| !thing.starts_with("nft ");
        let lost: Vec<&String> = before.difference(&after).filter(is_ours).collect();
        assert!(lost.is_empty(), "{lost:#?} went with the pods");
        let (early, late) = (early.expect("more than a hundred pods"), size(&cluster));
        eprintln!(
            "after 100 pods: {} KiB, {} files open; after {}: {} KiB, {} files open",
            early.0 >> 10,
            early.1,
            all + WAVE,
            late.0 >> 10,
            late.1
        );
        assert!(
            late.0 < early.0 + GROWTH_BYTES_MAX,
            "{} bytes, then {}",
            early.0,
            late.0
        );
        assert!(late.1 <= early.1 + 20, "{} files open, then {}", early.1, late.1);
    });
}

/// Waits until nothing is there that was not there before; what is there then.
fn as_before(cluster: &Cluster, dir: &Path, before: &BTreeSet<String>) -> BTreeSet<String> {
    eventually("as much as before", || {
        let now = everything(cluster, dir);
        let new: Vec<&String> = now.difference(before).collect();
        if new.is_empty() {
            Ok(now)
        } else {
            Err(format!("{} things more: {new:#?}", new.len()))
        }
    })
}

#[test]
fn pods_that_come_and_go_under_kills_leave_nothing_behind() {
    sandboxed(|dir| {
        let seed = number("CORACLE_SEED", std::process::id().into());
        eprintln!("CORACLE_SEED={seed}");
        let random = SeededRandom::new(seed);
        let mut cluster = Cluster::stocked(dir, &["--crash-back-off", "1"]);
        wave(&cluster, 0, WAVE);
        let before = everything(&cluster, dir);
        for round in 0..number("CORACLE_CHURN_ROUNDS", ROUNDS) {
            let first = WAVE + round as usize * ROUND;
            cluster.apply(&manifests(first, ROUND));
            kill_some(&mut cluster, &random);
            // Whoever runs once may have been ended by a kill.
            come_up(
                &cluster,
                ROUND,
                &["Running", "Completed", "Error", "ContainerStatusUnknown"],
            );
            cluster.ok(&["delete", "pods,services", "-l", "app=churn", "--wait=false"]);
            kill_some(&mut cluster, &random);
            eventually("pods that go", || {
                match cluster.try_ok(&["get", "pods", "--no-headers", "-o", "name"])? {
                    text if text.trim().is_empty() => Ok(()),
                    text => Err(text),
                }
            });
            cluster.ok(&["delete", "service", "churn", "--ignore-not-found"]);
        }
        as_before(&cluster, dir, &before);
    });
}

/// Ends shims and the node's process, whichever chance has it, a moment after one another.
fn kill_some(cluster: &mut Cluster, random: &SeededRandom) {
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_millis(random.below(1500)));
        let shims = processes(&[" shim ", "/containers/"]);
        match shims.get(random.below(2 * shims.len() as u64 + 1) as usize) {
            Some(shim) => kill_hard(*shim),
            None => {
                cluster.kill();
                cluster.restart();
            }
        }
    }
}

/// Makes so many pods, waits until they have run, and removes them.
fn wave(cluster: &Cluster, first: usize, pods: usize) {
    cluster.apply(&manifests(first, pods));
    come_up(cluster, pods, &["Running", "Completed"]);
    cluster.ok(&[
        "delete",
        "pods,services",
        "-l",
        "app=churn",
        "--wait=true",
        "--timeout=90s",
    ]);
    cluster.ok(&["delete", "service", "churn", "--ignore-not-found"]);
}

/// Waits until so many pods are as they should be.
fn come_up(cluster: &Cluster, pods: usize, well: &[&str]) {
    eventually("a wave of pods", || {
        let text = cluster.try_ok(&["get", "pods", "-l", "app=churn", "--no-headers"])?;
        let is_well = |line: &&str| well.iter().any(|word| line.contains(word));
        let up = text.lines().filter(is_well).count();
        if up == pods {
            Ok(())
        } else {
            Err(format!("{up} of {pods}:\n{text}"))
        }
    });
}

/// So many pods: ordinary containers, Wasm servers and commands that end, one after another; the Service in front of
/// them changes with each.
fn manifests(first: usize, pods: usize) -> String {
    let mut manifests = vec![
        "{apiVersion: v1, kind: Service, metadata: {name: churn}, spec: {selector: {app: churn}, ports: [{port: 80, targetPort: 8080}]}}".to_owned(),
    ];
    for n in first..first + pods {
        let container = match n % 3 {
            0 => format!(
                "{{name: main, image: {BUSYBOX}, command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.2; done']}}"
            ),
            1 => "{name: main, image: 'local/hello-http:1'}".to_owned(),
            _ => format!(
                "{{name: main, image: {BUSYBOX}, command: [sh, -c, 'echo done > /scratch/file'], volumeMounts: [{{name: scratch, mountPath: /scratch}}]}}"
            ),
        };
        let (restart, medium) = if n % 3 == 2 {
            ("Never", "Memory")
        } else {
            ("Always", "")
        };
        manifests.push(format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: churn-{n}, labels: {{app: churn}}}}, spec: {{restartPolicy: {restart}, \
             terminationGracePeriodSeconds: 5, containers: [{container}], volumes: [{{name: scratch, emptyDir: {{medium: '{medium}'}}}}]}}}}"
        ));
    }
    manifests.join("\n---\n")
}

/// Resident memory of the node in bytes, and how much it has open.
fn size(cluster: &Cluster) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid())).expect("a process");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    let open = std::fs::read_dir(format!("/proc/{}/fd", cluster.pid()))
        .expect("a process")
        .count();
    (kib << 10, open)
}

/// Everything that a pod may leave: one line for each thing there is.
fn everything(cluster: &Cluster, dir: &Path) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut add =
        |what: &str, lines: Vec<String>| all.extend(lines.into_iter().map(|line| format!("{what} {line}")));
    add(
        "link",
        lines("ip", &["-o", "link"], |line| {
            line.split(':').nth(1).unwrap_or_default().trim().to_owned()
        }),
    );
    add(
        "address",
        lines("ip", &["-o", "addr"], |line| {
            line.split_whitespace()
                .skip(1)
                .take(3)
                .collect::<Vec<_>>()
                .join(" ")
        }),
    );
    add(
        "route",
        lines("ip", &["route", "show", "table", "all"], str::to_owned),
    );
    add("rule", lines("ip", &["rule"], str::to_owned));
    // Counters and timeouts change by themselves.
    add(
        "nft",
        lines("nft", &["-s", "list", "ruleset"], |line| {
            line.trim()
                .split(" expires ")
                .next()
                .unwrap_or_default()
                .to_owned()
        }),
    );
    add(
        "mount",
        lines("cat", &["/proc/self/mounts"], |line| {
            line.split(' ').take(3).collect::<Vec<_>>().join(" ")
        }),
    );
    add("process", command_lines());
    for id in instance_ids(dir) {
        let roots = sys::cgroup::hierarchies()
            .into_iter()
            .map(|h| h.root.join(format!("coracle-{id}")));
        add(
            "control group",
            roots.flat_map(|root| folders_below(&root)).collect(),
        );
    }
    for folder in [
        "pods",
        "containers",
        "netns",
        "network",
        "images",
        "objects",
        "cwasm",
    ] {
        add("file", files_below(&cluster.dir.join(folder)));
    }
    all
}

fn lines(program: &str, args: &[&str], form: impl Fn(&str) -> String) -> Vec<String> {
    let out = Command::new(program).args(args).output().expect(program);
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .map(form)
        .filter(|line| !line.is_empty())
        .collect()
}

/// Command lines of all processes here, but for those that this look at them has started.
fn command_lines() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let texts = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let shown = texts.map(|text| {
        String::from_utf8_lossy(&text)
            .replace('\0', " ")
            .trim()
            .to_owned()
    });
    shown.filter(|text| !text.is_empty()).collect()
}

fn folders_below(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path().display().to_string());
            found.extend(folders_below(&entry.path()));
        }
    }
    found
}

fn files_below(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        // Unpacked layers are large and do not change.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name() != "layers" {
            found.extend(files_below(&entry.path()));
        }
    }
    found
}
