//! Wasm programs that mean no good: each ends alone, and says why.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::support::manifests::command_pod;
use crate::support::{Cluster, assert_has, eventually, sandboxed};

fn pod(name: &str, restart: &str, image: &str) -> String {
    command_pod(name, image, &[]).replace("restartPolicy: Never", &format!("restartPolicy: {restart}"))
}

fn terminated(cluster: &Cluster, pod: &str, field: &str) -> String {
    let path = format!("{{.status.containerStatuses[0].state.terminated.{field}}}");
    cluster.field(&format!("pod/{pod}"), &path).expect("a pod")
}

/// How many files and sockets the node has open.
fn open_files(cluster: &Cluster) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", cluster.pid()))
        .expect("a process")
        .count()
}

/// CPU time of the node's process, in seconds.
fn cpu(cluster: &Cluster) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", cluster.pid())).expect("a process");
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .expect("fields")
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    (fields[11] + fields[12]) as f64 / 100.0
}

/// A well-behaved program still answers, and it is the same process that runs it.
fn unharmed(cluster: &Cluster) {
    let ip = cluster.pod_ip("neighbour");
    eventually("the neighbour's answer", || {
        cluster.curl(&format!("http://{ip}:8080/"))
    });
    let restarts = "{.status.containerStatuses[0].restartCount}";
    assert_eq!(cluster.field("pod/neighbour", restarts).unwrap(), "0");
    assert!(!cluster.log().contains("panicked"), "{}", cluster.log());
}

fn with_neighbour(dir: &std::path::Path) -> Cluster {
    let cluster = Cluster::stocked(
        dir,
        &[
            "--container-log-max-size",
            "1Mi",
            "--container-log-max-files",
            "2",
        ],
    );
    cluster.ok(&["run", "neighbour", "--image=local/hello-http:1"]);
    cluster.pod_ready("neighbour");
    cluster
}

#[test]
fn programs_that_break_the_rules_end_and_say_which() {
    sandboxed(|dir| {
        let cluster = with_neighbour(dir);
        let broken = [
            (
                "recursion",
                "(module (func $f (export \"_start\") call $f call $f))",
                "134",
                "Error",
                "call stack exhausted",
            ),
            (
                "grower",
                "(module (memory 1) (func (export \"_start\") (loop (drop (memory.grow (i32.const 64))) (br 0))))",
                "137",
                "OOMKilled",
                "memory limit of 1024.0 MiB exceeded",
            ),
            (
                "giant",
                "(module (memory 65536) (func (export \"_start\")))",
                "137",
                "OOMKilled",
                "4096.0 MiB more asked for",
            ),
            (
                "start-trap",
                "(module (func $s unreachable) (start $s) (func (export \"_start\")))",
                "134",
                "Error",
                "unreachable",
            ),
        ];
        for (name, text, ..) in broken {
            let image = cluster.import_text(name, text);
            cluster.apply(&pod(name, "Never", &image));
        }
        for (name, _, code, reason, message) in broken {
            assert_eq!(cluster.finished(name), "Failed", "{name}");
            assert_eq!(terminated(&cluster, name, "exitCode"), code, "{name}");
            assert_eq!(terminated(&cluster, name, "reason"), reason, "{name}");
            assert_has(&terminated(&cluster, name, "message"), &[message]);
        }

        let never_run = [
            (
                "import",
                "(module (import \"env\" \"open_the_gates\" (func)) (func (export \"_start\")))".to_owned(),
                &["env::open_the_gates"][..],
            ),
            (
                "table",
                "(module (table 100000000 funcref) (func (export \"_start\")))".to_owned(),
                &["table"],
            ),
            ("types", nested_types(60), &["type size", "exceeds the limit"]),
            (
                "many",
                many_memories(),
                &["exceeds the configured maximum of 100"],
            ),
        ];
        for (name, text, _) in &never_run {
            let image = cluster.import_text(name, text);
            cluster.apply(&pod(name, "Never", &image));
        }
        for (name, _, words) in &never_run {
            cluster.event(name, "Failed", words);
            assert_eq!(cluster.finished(name), "Failed", "{name}");
            assert_eq!(terminated(&cluster, name, "exitCode"), "128", "{name}");
        }
        // As deep as its author likes: it compiles or not, but it comes to an end.
        let deep = format!(
            "(module (func (export \"_start\") {}{}))",
            "block ".repeat(20_000),
            "end ".repeat(20_000)
        );
        let image = cluster.import_text("deep", &deep);
        cluster.apply(&pod("deep", "Never", &image));
        cluster.finished("deep");
        unharmed(&cluster);
    });
}

/// A component whose types double in size with each of `depth` steps.
fn nested_types(depth: usize) -> String {
    let mut text = "(component (type $t0 (tuple u64 u64))\n".to_owned();
    for step in 1..depth {
        let _ = writeln!(text, "(type $t{step} (tuple $t{0} $t{0}))", step - 1);
    }
    text + ")"
}

/// A component of more memories than a component may have.
fn many_memories() -> String {
    let mut text = "(component (core module $m (memory 1))\n".to_owned();
    for _ in 0..150 {
        text.push_str("(core instance (instantiate $m))\n");
    }
    // It must pass for a command, or it would be refused for that.
    text + "(core module $n (func (export \"run\") (result i32) i32.const 0))\n\
        (core instance $i (instantiate $n))\n\
        (func $run (result (result)) (canon lift (core func $i \"run\")))\n\
        (instance $cli (export \"run\" (func $run)))\n\
        (export \"wasi:cli/run@0.2.0\" (instance $cli)))"
}

#[test]
fn programs_that_never_end_can_be_ended() {
    sandboxed(|dir| {
        let cluster = with_neighbour(dir);
        let endless = [
            ("start", "(module (func $s (loop (br 0))) (start $s) (func (export \"_start\")))"),
            ("loop", "(module (func (export \"_start\") (loop (br 0))))"),
            // Prints zeros for ever, without a line's end.
            ("printer", "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func $write (param i32 i32 i32 i32) (result i32)))
                (memory (export \"memory\") 2) (data (i32.const 0) \"\\10\\00\\00\\00\\00\\00\\01\\00\")
                (func (export \"_start\") (loop (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))))"),
        ];
        for (name, text) in endless {
            let image = cluster.import_text(name, text);
            cluster.apply(&pod(name, "Never", &image));
            cluster.until(&format!("pod/{name}"), "{.status.phase}", "Running");
        }
        unharmed(&cluster);
        let uid = cluster.field("pod/printer", "{.metadata.uid}").unwrap();
        let logs = cluster.dir.join("pods").join(uid).join("logs/main");
        eventually("a rotated log", || {
            match std::fs::metadata(logs.join("0.log.1")) {
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        });
        let all: u64 = std::fs::read_dir(&logs)
            .unwrap()
            .flatten()
            .map(|f| f.metadata().map_or(0, |m| m.len()))
            .sum();
        assert!(all < 3 << 20, "{all} bytes of logs");
        for (name, _) in endless {
            cluster.ok(&["delete", "pod", name, "--grace-period=1", "--timeout=90s"]);
        }
        unharmed(&cluster);
    });
}

#[test]
fn a_storm_of_traps_backs_off() {
    sandboxed(|dir| {
        let cluster = with_neighbour(dir);
        let image = cluster.import_text("trap", "(module (func (export \"_start\") unreachable))");
        let names: Vec<String> = (0..20).map(|n| format!("trap-{n}")).collect();
        for name in &names {
            cluster.apply(&pod(name, "Always", &image));
        }
        for name in &names {
            cluster.until(
                &format!("pod/{name}"),
                "{.status.containerStatuses[0].state.waiting.reason}",
                "CrashLoopBackOff",
            );
        }
        // All wait: nothing is left to do, many seconds long.
        let (began, before) = (Instant::now(), cpu(&cluster));
        std::thread::sleep(Duration::from_secs(4));
        let share = (cpu(&cluster) - before) / began.elapsed().as_secs_f64();
        eprintln!("twenty trapping pods cost {share:.3} of a core");
        assert!(share < 0.5, "{share} of a core");

        // A server that traps in each request answers each with an error, and goes on.
        let ip = cluster.pod_ip("neighbour");
        let storm = format!("http://{ip}:8080/panic?[1-500]");
        let out = std::process::Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_code}\\n", &storm])
            .output()
            .expect("curl");
        let codes = String::from_utf8_lossy(&out.stdout).into_owned();
        assert_eq!(
            codes.lines().filter(|code| *code == "500").count(),
            500,
            "{codes}"
        );
        unharmed(&cluster);
    });
}

/// Calls `path_open` on the first preopen; the result is an error number.
const PATH_OPEN: &str = "(import \"wasi_snapshot_preview1\" \"path_open\" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
    (memory (export \"memory\") 1)
    (func $try (param $at i32) (param $length i32) (param $flags i32) (result i32)
      (call $open (i32.const 3) (i32.const 1) (local.get $at) (local.get $length) (local.get $flags) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 1000)))";

#[test]
fn files_are_few_and_stay_in_their_folder() {
    sandboxed(|dir| {
        let cluster = with_neighbour(dir);
        let folder = dir.join("shown");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("plain"), "here").unwrap();
        for (name, target) in [("link", "/etc/passwd"), ("up", ".."), ("proc", "/proc/self/root")] {
            std::os::unix::fs::symlink(target, folder.join(name)).unwrap();
        }
        // The last one is there and must be had, or the others would prove nothing.
        let paths = [
            "../../etc/passwd",
            "/etc/passwd",
            "link",
            "up/data/server-token",
            "proc/etc/passwd",
            "./../shown/plain",
            "plain",
        ];
        let mut code = String::new();
        let mut data = String::new();
        let mut at = 2000;
        for (number, path) in paths.iter().enumerate() {
            let _ = writeln!(data, "(data (i32.const {at}) \"{path}\")");
            let had = format!(
                "(call $try (i32.const {at}) (i32.const {}) (i32.const 0))",
                path.len()
            );
            let wrong = if *path == "plain" {
                had
            } else {
                format!("(i32.eqz {had})")
            };
            let _ = writeln!(
                code,
                "(if {wrong} (then (call $exit (i32.const {}))))",
                number + 1
            );
            at += 100;
        }
        cluster.import_text(
            "paths",
            &format!("(module {PATH_OPEN} {data} (func (export \"_start\") {code}))"),
        );
        // Makes and opens one file again and again, until it is refused.
        cluster.import_text(
            "opener",
            &format!(
                "(module {PATH_OPEN} (data (i32.const 2000) \"many\") (func (export \"_start\") (local $n i32)
                   (loop $again
                     (if (call $try (i32.const 2000) (i32.const 4) (i32.const 1)) (then (call $exit (i32.const 9))))
                     (local.set $n (i32.add (local.get $n) (i32.const 1)))
                     (br_if $again (i32.lt_u (local.get $n) (i32.const 100000))))))"
            ),
        );
        let before = open_files(&cluster);
        for name in ["paths", "opener"] {
            let manifest = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  containers:\n  \
                 - name: main\n    image: local/{name}:1\n    volumeMounts: [{{name: v, mountPath: /v}}]\n  \
                 volumes: [{{name: v, hostPath: {{path: {}}}}}]\n",
                folder.display()
            );
            cluster.apply(&manifest);
        }
        assert_eq!(
            cluster.finished("paths"),
            "Succeeded",
            "path number {} was not as it must be",
            cluster.exit_code("paths")
        );
        // Refused with an error number, or ended by the host: not after 100,000 files.
        assert_eq!(cluster.finished("opener"), "Failed");
        let after = open_files(&cluster);
        assert!(
            after < before + 200,
            "{before} files were open before, {after} are afterwards"
        );
        unharmed(&cluster);
    });
}
