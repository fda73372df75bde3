//! What a pod may use, and that its neighbours do not notice when it wants more.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::instances::instance_ids;
use crate::support::latency::{prepare, probe};
use crate::support::manifests::{BUSYBOX, busybox_pod};
use crate::support::{Cluster, assert_has, eventually, sandboxed};

/// A pod of one container with limits, and a command where it is an OCI image's.
fn limited(name: &str, image: &str, restart: &str, what: &str, limits: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: {restart}\n  \
         terminationGracePeriodSeconds: 0\n  containers:\n  - name: main\n    image: {image}\n    {what}\n    \
         resources: {{limits: {limits}}}\n"
    )
}

fn shell(script: &str) -> String {
    format!("command: [sh, -c, {script:?}]")
}

/// A field of the state in which a pod's only container ended.
fn ended(cluster: &Cluster, pod: &str, field: &str) -> String {
    let path = format!("{{.status.containerStatuses[0].state.terminated.{field}}}");
    cluster.field(&format!("pod/{pod}"), &path).expect("a pod")
}

/// The control group of a pod, by its path below every hierarchy.
fn group(cluster: &Cluster, dir: &Path, pod: &str) -> String {
    let uid = cluster
        .field(&format!("pod/{pod}"), "{.metadata.uid}")
        .expect("a pod");
    format!("/coracle-{}/pod{uid}", instance_ids(dir)[0])
}

#[test]
fn out_of_memory_ends_the_whole_container_and_is_told() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &["--crash-back-off", "1"]);
        cluster.import_text("grower", "(module (memory 1) (func (export \"_start\") (loop (drop (memory.grow (i32.const 16))) (br 0))))");
        cluster.import_text("large", "(module (memory 1000) (func (export \"_start\")))");
        cluster.import_text(
            "table",
            "(module (table 190000 funcref) (memory 1) (func (export \"_start\")))",
        );
        let small = "{memory: 32Mi}";
        let greedy = [
            // The main process itself, and a child of it: the container ends all the same.
            ("main", BUSYBOX, shell("exec tail -c 200m /dev/zero"), small),
            (
                "child",
                BUSYBOX,
                shell("tail -c 200m /dev/zero | cat >/dev/null; sleep 1000"),
                small,
            ),
            (
                "alloc",
                "local/hello-cli:1",
                "args: [--alloc, \"64\"]".to_owned(),
                small,
            ),
            ("grower", "local/grower:1", String::new(), small),
            ("large", "local/large:1", String::new(), small),
            ("table", "local/table:1", String::new(), "{memory: 1Mi}"),
        ];
        for (name, image, what, limits) in &greedy {
            cluster.apply(&limited(name, image, "Never", what, limits));
        }
        for (name, ..) in &greedy {
            assert_eq!(cluster.finished(name), "Failed", "{name}");
            assert_eq!(ended(&cluster, name, "reason"), "OOMKilled", "{name}");
            assert_eq!(ended(&cluster, name, "exitCode"), "137", "{name}");
            assert_has(&cluster.ok(&["get", "pod", name]), &["OOMKilled"]);
        }
        // Restarted as often as its policy wants, with pauses, and each end is told.
        cluster.apply(&limited(
            "again",
            BUSYBOX,
            "Always",
            &shell("exec tail -c 200m /dev/zero"),
            small,
        ));
        cluster.event("again", "BackOff", &["Back-off restarting failed container main"]);
        let last = "{.status.containerStatuses[0].lastState.terminated.reason}";
        cluster.until("pod/again", last, "OOMKilled");
    });
}

/// CPU time of the node's guest threads, in seconds.
fn guest_cpu(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    // Nanoseconds on a processor. The ticks of `stat` are samples, taken at the
    // very moments at which a guest that slept for its limit is woken.
    let nanoseconds: u64 = tasks
        .flatten()
        .filter(|task| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "wasm-guest")
        })
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|stat| stat.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    nanoseconds as f64 / 1e9
}

/// Measures a share of a core over windows of some seconds: none may exceed what
/// is allowed by a tenth, and one must come as near from below (a machine that is
/// busy with other scenarios may be unable to give it all at any one time).
fn holds(what: &str, allowed: f64, mut used_seconds: impl FnMut() -> f64) {
    let mut shares = Vec::new();
    // Its start, of which nothing is owed yet, is not counted.
    std::thread::sleep(Duration::from_secs(5));
    for _ in 0..12 {
        let (began, before) = (Instant::now(), used_seconds());
        std::thread::sleep(Duration::from_secs(10));
        let share = (used_seconds() - before) / began.elapsed().as_secs_f64();
        shares.push(share);
        assert!(
            share <= allowed * 1.1,
            "{what}: {shares:.3?} of a core, {allowed} are allowed"
        );
        if share >= allowed * 0.9 {
            eprintln!("{what}: {share:.3} of a core where {allowed} are allowed");
            return;
        }
    }
    panic!("{what}: never near the {allowed} cores that are allowed: {shares:.3?}");
}

#[test]
fn cpu_limits_hold() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.import_text("endless", "(module (func (export \"_start\") (loop (br 0))))");
        cluster.apply(&limited(
            "oci",
            BUSYBOX,
            "Never",
            &shell("while :; do :; done"),
            "{cpu: 100m}",
        ));
        cluster.until("pod/oci", "{.status.phase}", "Running");
        let path = group(&cluster, dir, "oci");
        holds("an OCI container", 0.1, || {
            sys::cgroup::usage(&path).cpu_ns as f64 / 1e9
        });
        cluster.ok(&["delete", "pod", "oci"]);
        // Two guests, each with its own limit.
        for name in ["wasm-1", "wasm-2"] {
            cluster.apply(&limited(name, "local/endless:1", "Never", "", "{cpu: 50m}"));
            cluster.until(&format!("pod/{name}"), "{.status.phase}", "Running");
        }
        holds("two Wasm containers", 0.1, || guest_cpu(cluster.pid()));
    });
}

#[test]
fn the_node_comes_first_and_pods_weigh_what_they_asked_for() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(
            dir,
            &[
                "--pod-pids-limit",
                "50",
                "--eviction-hard",
                "memory.available<70Mi,nodefs.available<1%",
            ],
        );
        let of =
            |pid: u32, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("a process");
        // Lowering a score takes CAP_SYS_RESOURCE, which not every test machine grants.
        let may = sys::process::set_oom_score(-999).is_ok();
        let (node, guaranteed) = if may { ("-999", "-997") } else { ("0", "0") };
        eprintln!("OOM scores may be lowered here: {may}");
        assert_eq!(of(cluster.pid(), "oom_score_adj").trim(), node);
        let files = of(cluster.pid(), "limits");
        let open = files
            .lines()
            .find(|line| line.starts_with("Max open files"))
            .expect("a limit");
        let most: u64 = open
            .split_whitespace()
            .nth(3)
            .and_then(|n| n.parse().ok())
            .expect("a number");
        assert!(most >= 20_000, "{open}");

        let script =
            shell("cat /proc/self/oom_score_adj; cut -d' ' -f19 /proc/self/stat; ulimit -n; sleep 1000");
        let asked = "{cpu: 500m, memory: 64Mi}";
        cluster.apply(&limited("guaranteed", BUSYBOX, "Never", &script, asked));
        cluster.apply(&limited("best-effort", BUSYBOX, "Never", &script, "{}"));
        for (pod, score, shares) in [
            ("guaranteed", format!("{guaranteed}\n0\n1024"), "512"),
            ("best-effort", "1000\n0\n1024".to_owned(), "2"),
        ] {
            cluster.logged(pod, None, &[&score]);
            let group = group(&cluster, dir, pod);
            for hierarchy in sys::cgroup::hierarchies() {
                let read = |file: &str| std::fs::read_to_string(hierarchy.root.join(&group[1..]).join(file));
                let has = |name: &str| hierarchy.controllers.iter().any(|c| c == name);
                if has("cpu") {
                    assert_eq!(read("cpu.shares").unwrap().trim(), shares, "{pod}");
                }
                if has("pids") {
                    assert_eq!(read("pids.max").unwrap().trim(), "50", "{pod}");
                }
                if hierarchy.controllers.is_empty() && read("pids.max").is_ok() {
                    holds_in_version_2(&read, pod);
                }
                if has("memory") && pod == "guaranteed" {
                    assert_eq!(
                        read("memory.limit_in_bytes").unwrap().trim(),
                        (64 << 20).to_string()
                    );
                }
            }
        }
        // What must be left when eviction begins is not for pods to ask for.
        let amount = |field: &str| -> u64 {
            let text = cluster.ok(&[
                "get",
                "nodes",
                "-o",
                &format!("jsonpath={{.items[0].status.{field}}}"),
            ]);
            let (number, unit) = text.split_at(text.find(char::is_alphabetic).unwrap_or(text.len()));
            let number: u64 = number.parse().unwrap_or(0);
            if unit == "Mi" { number << 10 } else { number }
        };
        // Nor are the pages that the machine keeps for who asks for such.
        let kept = amount("capacity.hugepages-2Mi");
        assert_eq!(
            amount("capacity.memory") - amount("allocatable.memory"),
            (70 << 10) + kept
        );
        let storage = amount("capacity.ephemeral-storage");
        assert_eq!(amount("allocatable.ephemeral-storage"), storage - storage / 100);
    });
}

/// What a pod's group and those of its containers hold where all controllers are of version 2.
fn holds_in_version_2(read: &dyn Fn(&str) -> std::io::Result<String>, pod: &str) {
    let (weight, cpu, memory) = match pod {
        "guaranteed" => ("59", "50000 100000", "67108864"),
        _ => ("1", "max 100000", "max"),
    };
    for (file, content) in [
        ("cpu.weight", weight),
        ("cpu.max", cpu),
        ("memory.max", memory),
        ("pids.max", "50"),
    ] {
        assert_eq!(read(file).unwrap().trim(), content, "{pod}: {file}");
    }
}

/// The pods beside the bombs, one of each sort, answer on port 8080.
struct Neighbours(Vec<String>);

impl Neighbours {
    fn start(cluster: &Cluster) -> Self {
        let web = "mkdir -p /www && echo alive > /www/index.html && exec httpd -f -p 8080 -h /www";
        let request = "{cpu: 100m, memory: 32Mi}";
        cluster.apply(&limited("neighbour-oci", BUSYBOX, "Always", &shell(web), request));
        cluster.apply(&limited(
            "neighbour-wasm",
            "local/hello-http:1",
            "Always",
            "",
            request,
        ));
        let names = ["neighbour-oci", "neighbour-wasm"];
        names.iter().for_each(|name| cluster.pod_ready(name));
        Self(names.map(|name| cluster.pod_ip(name)).to_vec())
    }

    fn answer(&self, cluster: &Cluster) {
        for ip in &self.0 {
            eventually("a neighbour's answer", || {
                cluster.curl(&format!("http://{ip}:8080/"))
            });
        }
        for name in ["neighbour-oci", "neighbour-wasm"] {
            let restarts = cluster.field(
                &format!("pod/{name}"),
                "{.status.containerStatuses[0].restartCount}",
            );
            assert_eq!(restarts.unwrap(), "0", "{name}");
        }
    }
}

/// How long the API is watched under each bomb.
const UNDER_FIRE: Duration = Duration::from_secs(6);

#[test]
fn bombs_disturb_no_neighbour() {
    sandboxed(|dir| {
        let arguments = [
            "--pod-pids-limit",
            "500",
            "--container-log-max-size",
            "1Mi",
            "--container-log-max-files",
            "3",
            "--crash-back-off",
            "1",
        ];
        let cluster = Cluster::stocked(dir, &arguments);
        cluster.import_text("endless", "(module (func (export \"_start\") (loop (br 0))))");
        let neighbours = Neighbours::start(&cluster);
        prepare(&cluster);
        probe(&cluster, "nothing", UNDER_FIRE);
        let under = |what: &str, pods: &[&str]| {
            probe(&cluster, what, UNDER_FIRE);
            neighbours.answer(&cluster);
            for pod in pods {
                cluster.ok(&["delete", "pod", pod, "--timeout=90s"]);
            }
        };

        // (busybox' shell forks for every background list.)
        cluster.apply(&busybox_pod(
            "forks",
            "Always",
            "bomb() { bomb & bomb & }; while :; do bomb; done 2>/dev/null",
        ));
        let path = group(&cluster, dir, "forks");
        eventually("the fork bomb's limit", || match sys::cgroup::usage(&path).pids {
            450..=500 => Ok(()),
            other => Err(format!("{other} processes")),
        });
        under("a fork bomb", &["forks"]);
        assert!(sys::cgroup::processes(&path).is_empty());

        cluster.apply(&limited(
            "memory",
            BUSYBOX,
            "Always",
            &shell("exec tail -c 1g /dev/zero"),
            "{memory: 64Mi}",
        ));
        under("a memory bomb", &["memory"]);

        let loops = ["loop-1", "loop-2", "loop-3", "loop-4"];
        for name in loops {
            cluster.apply(&limited(name, "local/endless:1", "Always", "", "{}"));
            cluster.until(&format!("pod/{name}"), "{.status.phase}", "Running");
        }
        under("four endless Wasm loops", &loops);

        cluster.apply(&busybox_pod(
            "logs",
            "Always",
            "exec yes a line that goes on and on and on",
        ));
        cluster.logged("logs", None, &["on and on"]);
        under("a log bomb", &[]);
        let uid = cluster.field("pod/logs", "{.metadata.uid}").unwrap();
        logs_are_bounded(&cluster.dir.join("pods").join(uid).join("logs/main"));
        cluster.ok(&["delete", "pod", "logs", "--timeout=90s"]);

        cluster.apply(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: filler}\nspec:\n  containers:\n  - name: main\n    \
             image: local/busybox:1\n    command: [sh, -c, \"while :; do dd if=/dev/zero of=/scratch/$((n=n+1)) bs=1M count=8 2>/dev/null; sleep 0.2; done\"]\n    \
             volumeMounts: [{name: scratch, mountPath: /scratch}]\n  volumes: [{name: scratch, emptyDir: {sizeLimit: 20Mi}}]\n",
        );
        probe(&cluster, "a disk filler", UNDER_FIRE);
        assert_eq!(cluster.finished("filler"), "Failed");
        let told = "{.status.reason}: {.status.message}";
        let told = cluster.field("pod/filler", told).unwrap();
        assert_eq!(
            told,
            "Evicted: Usage of EmptyDir volume \"scratch\" exceeds the limit \"20Mi\". "
        );
        cluster.event(
            "filler",
            "Evicted",
            &["Usage of EmptyDir volume \"scratch\" exceeds the limit \"20Mi\"."],
        );
        let target = "{.status.conditions[?(@.type==\"DisruptionTarget\")].reason}";
        assert_eq!(
            cluster.field("pod/filler", target).unwrap(),
            "TerminationByKubelet"
        );
        neighbours.answer(&cluster);
    });
}

/// Three files of a mebibyte each, and one piece of output more.
fn logs_are_bounded(folder: &Path) {
    let files = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("logs").flatten();
        entries.map(|entry| entry.path()).collect()
    };
    eventually("a rotated log", || {
        if files().len() == 3 {
            Ok(())
        } else {
            Err(format!("{:?}", files()))
        }
    });
    for _ in 0..20 {
        let found = files();
        assert!(found.len() <= 3, "{found:?}");
        for file in found {
            // One may be rotated away while it is looked at.
            let bytes = std::fs::metadata(&file).map_or(0, |m| m.len());
            assert!(
                bytes < (1 << 20) + (256 << 10),
                "{}: {bytes} bytes",
                file.display()
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
