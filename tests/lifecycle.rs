//! The life of a pod, by kubectl against the real node and on both runtimes: what runs in which order, what is asked
//! before it counts as ready, what happens at its end.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::manifests::{BUSYBOX, IDLE};
use crate::support::{Cluster, assert_has, eventually, has, sandboxed, slowness};

const CLI: &str = "local/hello-cli:1";
const HTTP: &str = "local/hello-http:1";

/// A pod: what its spec says before its containers, the containers, and a folder of the machine as the volume `out`.
fn pod(name: &str, spec: &str, containers: &[String], out: &Path) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  {spec}\n  \
         containers:\n{}  volumes: [{{name: out, hostPath: {{path: {}}}}}]\n---\n",
        list(containers),
        out.display()
    )
}

fn list(containers: &[String]) -> String {
    containers
        .iter()
        .map(|container| format!("  - {container}\n"))
        .collect()
}

const OUT: &str = "volumeMounts: [{name: out, mountPath: /out}]";

/// A busybox container that runs a script.
fn shell(name: &str, script: &str, more: &str) -> String {
    format!("{{name: {name}, image: \"{BUSYBOX}\", command: [sh, -c, {script:?}], {OUT}{more}}}")
}

/// A Wasm command.
fn guest(name: &str, args: &[&str], more: &str) -> String {
    format!("{{name: {name}, image: \"{CLI}\", args: {args:?}, {OUT}{more}}}")
}

/// A Wasm server.
fn server(name: &str, more: &str) -> String {
    format!("{{name: {name}, image: \"{HTTP}\", {OUT}{more}}}")
}

fn folder(dir: &Path, name: &str) -> std::path::PathBuf {
    let folder = dir.join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

/// How long it took to delete a pod.
fn deleted(cluster: &Cluster, pod: &str) -> Duration {
    let began = Instant::now();
    cluster.ok(&["delete", "pod", pod, "--timeout=60s"]);
    began.elapsed()
}

fn restarts(cluster: &Cluster, pod: &str) -> String {
    let path = "{.status.containerStatuses[0].restartCount}";
    cluster.field(&format!("pod/{pod}"), path).expect("a pod")
}

/// How the containers of a pod ended, seen by somebody who watches its deletion.
fn last_seen(cluster: &Cluster, pod: &str) -> String {
    let format = "jsonpath={.status.containerStatuses[*].state.terminated.exitCode}{\"\\n\"}";
    let mut watch = cluster
        .kubectl(&["get", "pod", pod, "-w", "-o", format])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("kubectl");
    deleted(cluster, pod);
    watch.kill().expect("kill");
    let out = watch.wait_with_output().expect("its output");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn what_comes_first_ends_before_the_next_and_sidecars_stay() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &["--crash-back-off", "1"]);
        let (plain, wasm) = (folder(dir, "plain"), folder(dir, "wasm"));
        let always = ", restartPolicy: Always";
        let note = |what: &str| format!("echo {what} >> /out/order");
        // The sidecar counts as started when its probe says so; until then the next one waits.
        let side = "echo side >> /out/order; sleep 1; touch /out/up; trap 'echo side ends >> /out/order; exit 0' TERM; \
                    while :; do sleep 0.1; done";
        let started = ", startupProbe: {exec: {command: [cat, /out/up]}, periodSeconds: 1}";
        let init = list(&[
            shell("first", &note("first"), ""),
            shell("side", side, &format!("{always}{started}")),
            shell("second", &format!("test -e /out/up && {}", note("second")), ""),
        ]);
        let main = shell("main", &format!("sleep 1; {}", note("main")), "");
        let spec = format!("restartPolicy: Never\n  initContainers:\n{}", init.trim_end());
        cluster.apply(&pod("plain", &spec, &[main], &plain));
        // The same of guests: what the first has left, the main one reads while the sidecar serves.
        let init = list(&[
            guest("first", &["--write", "/out/note", "left behind"], ""),
            server(
                "side",
                &format!("{always}, startupProbe: {{httpGet: {{path: /ready, port: 8080}}}}"),
            ),
        ]);
        let spec = format!("restartPolicy: Never\n  initContainers:\n{}", init.trim_end());
        cluster.apply(&pod(
            "wasm",
            &spec,
            &[guest("main", &["--read", "/out/note"], "")],
            &wasm,
        ));
        // One that fails, for good.
        let fails = list(&[guest("first", &["--exit", "3"], "")]);
        let spec = format!("restartPolicy: Never\n  initContainers:\n{}", fails.trim_end());
        cluster.apply(&pod("fails", &spec, &[guest("main", &["never"], "")], &wasm));

        assert_eq!(cluster.finished("plain"), "Succeeded");
        assert_eq!(
            read(&plain.join("order")),
            "first\nside\nsecond\nmain\nside ends\n"
        );
        assert_eq!(cluster.finished("wasm"), "Succeeded");
        assert_has(&cluster.ok(&["logs", "wasm", "-c", "main"]), &["left behind"]);
        assert_eq!(cluster.finished("fails"), "Failed");
        assert_has(&cluster.ok(&["get", "pod", "fails"]), &["Init:Error"]);
        let began = "{.status.containerStatuses[0].state.waiting.reason}";
        assert_eq!(cluster.field("pod/fails", began).unwrap(), "PodInitializing");
    });
}

#[test]
fn hooks_run_and_graces_hold() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let out = folder(dir, "out");
        // What TERM does not end is killed when its time is over.
        cluster.apply(&pod(
            "stubborn",
            "terminationGracePeriodSeconds: 2",
            &[shell("main", "trap '' TERM; while :; do sleep 0.2; done", "")],
            &out,
        ));
        let before = "trap 'echo term >> /out/ended; exit 0' TERM; while :; do sleep 0.1; done";
        let hook =
            ", lifecycle: {preStop: {exec: {command: [sh, -c, \"echo hook >> /out/ended; sleep 1\"]}}}";
        cluster.apply(&pod(
            "hooked",
            "terminationGracePeriodSeconds: 20",
            &[shell("main", before, hook)],
            &out,
        ));
        let fails = ", lifecycle: {preStop: {exec: {command: [sh, -c, \"exit 9\"]}}}";
        cluster.apply(&pod(
            "unhooked",
            "restartPolicy: Always",
            &[shell("main", IDLE, fails)],
            &out,
        ));
        let sleeps = ", lifecycle: {preStop: {sleep: {seconds: 2}}}";
        cluster.apply(&pod(
            "slow",
            "restartPolicy: Always",
            &[shell("main", IDLE, sleeps)],
            &out,
        ));
        cluster.apply(&pod(
            "slow-guest",
            "restartPolicy: Always",
            &[server("main", sleeps)],
            &out,
        ));
        let ask = |text: &str| {
            format!("{{httpGet: {{port: 8080, path: \"/write?path=/out/asked-{text}&text={text}\"}}}}")
        };
        let asks = format!(
            ", lifecycle: {{postStart: {}, preStop: {}}}",
            ask("start"),
            ask("stop")
        );
        cluster.apply(&pod(
            "asked",
            "restartPolicy: Always",
            &[server("main", &asks)],
            &out,
        ));
        let own = ", lifecycle: {preStop: {exec: {command: [main, --write, /out/own, bye]}}}";
        let sleeper = guest("main", &["--sleep", "100000000"], own);
        cluster.apply(&pod("own", "restartPolicy: Always", &[sleeper], &out));
        cluster.apply(&pod(
            "graceless",
            "terminationGracePeriodSeconds: 0",
            &[shell("main", "trap '' TERM; while :; do sleep 0.2; done", "")],
            &out,
        ));
        for name in [
            "stubborn",
            "hooked",
            "unhooked",
            "slow",
            "slow-guest",
            "asked",
            "own",
            "graceless",
        ] {
            cluster.pod_ready(name);
        }

        assert_has(&last_seen(&cluster, "stubborn"), &["137"]);
        deleted(&cluster, "hooked");
        assert_eq!(read(&out.join("ended")), "hook\nterm\n");
        deleted(&cluster, "unhooked");
        cluster.event("unhooked", "FailedPreStopHook", &["PreStopHook failed"]);
        for name in ["slow", "slow-guest"] {
            let took = deleted(&cluster, name);
            assert!(took >= Duration::from_secs(2), "{name}: {took:?}");
        }
        assert_eq!(read(&out.join("asked-start")), "start");
        deleted(&cluster, "asked");
        assert_eq!(read(&out.join("asked-stop")), "stop");
        deleted(&cluster, "own");
        assert_eq!(read(&out.join("own")), "bye");
        // Nobody waits for the thirty seconds that are usual.
        let took = deleted(&cluster, "graceless");
        assert!(took < Duration::from_secs(20), "{took:?}");
    });
}

#[test]
fn ends_are_told_and_deadlines_kept() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let out = folder(dir, "out");
        let from_log = ", terminationMessagePolicy: FallbackToLogsOnError";
        let never = "restartPolicy: Never";
        cluster.apply(&pod(
            "plain",
            never,
            &[shell("main", "echo all that I say; exit 3", from_log)],
            &out,
        ));
        cluster.apply(&pod(
            "wasm",
            never,
            &[guest("main", &["all that I say", "--exit", "3"], from_log)],
            &out,
        ));
        let good = shell("main", "echo all that I say", from_log);
        cluster.apply(&pod("good", never, &[good], &out));
        let unended = shell("main", "echo -n DONE; exit 1", from_log);
        cluster.apply(&pod("unended", never, &[unended], &out));
        let until = "restartPolicy: Never\n  activeDeadlineSeconds: 2";
        cluster.apply(&pod("late", until, &[shell("main", IDLE, "")], &out));
        cluster.apply(&pod(
            "late-guest",
            until,
            &[guest("main", &["--sleep", "100000000"], "")],
            &out,
        ));

        let message = "{.status.containerStatuses[0].state.terminated.message}";
        for name in ["plain", "wasm"] {
            assert_eq!(cluster.finished(name), "Failed");
            assert_eq!(cluster.exit_code(name), "3");
            let said = cluster.field(&format!("pod/{name}"), message).unwrap();
            assert_has(&said, &["all that I say"]);
        }
        // A line that nobody ended is told as it was printed.
        assert_eq!(cluster.finished("unended"), "Failed");
        assert_eq!(cluster.field("pod/unended", message).unwrap(), "DONE");
        assert_eq!(cluster.ok(&["logs", "unended"]), "DONE");
        // Who ended well has nothing to explain.
        assert_eq!(cluster.finished("good"), "Succeeded");
        assert_eq!(cluster.field("pod/good", message).unwrap(), "");
        for name in ["late", "late-guest"] {
            assert_eq!(cluster.finished(name), "Failed");
            assert_eq!(
                cluster
                    .field(&format!("pod/{name}"), "{.status.reason}: {.status.message}")
                    .unwrap(),
                "DeadlineExceeded: Pod was active on the node longer than the specified deadline"
            );
        }
    });
}

#[test]
fn probes_of_every_sort_decide() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &["--crash-back-off", "1"]);
        let out = folder(dir, "out");
        // Slow to start: nothing else is asked until it has, so it is not ended for being slow.
        let slow = "sleep 3; touch /started; while :; do sleep 0.2; done";
        let patience = slowness();
        let patient = format!(
            ", startupProbe: {{exec: {{command: [cat, /started]}}, periodSeconds: 1, failureThreshold: 60}}, livenessProbe: \
             {{exec: {{command: [cat, /started]}}, periodSeconds: 1, timeoutSeconds: {patience}, failureThreshold: 1}}"
        );
        let grace = "terminationGracePeriodSeconds: 1";
        cluster.apply(&pod("slow", grace, &[shell("main", slow, &patient)], &out));
        let hasty = ", startupProbe: {exec: {command: [cat, /none]}, periodSeconds: 1, failureThreshold: 2}";
        cluster.apply(&pod("hasty", grace, &[shell("main", IDLE, hasty)], &out));
        // A port that opens late, and one that never does.
        let tcp = |port: u16| format!(", readinessProbe: {{tcpSocket: {{port: {port}}}, periodSeconds: 1}}");
        let late = "sleep 2; exec httpd -f -p 8080 -h /www";
        cluster.apply(&pod("late", grace, &[shell("main", late, &tcp(8080))], &out));
        cluster.apply(&pod("open", grace, &[server("main", &tcp(8080))], &out));
        cluster.apply(&pod("closed", grace, &[server("main", &tcp(8081))], &out));
        let grpc = ", readinessProbe: {grpc: {port: 8080}, periodSeconds: 1}";
        cluster.apply(&pod("no-grpc", grace, &[server("main", grpc)], &out));

        let started = "{.status.containerStatuses[0].started}";
        cluster.event(
            "slow",
            "Unhealthy",
            &["Startup probe failed:", "can't open '/started'"],
        );
        cluster.until("pod/slow", started, "true");
        cluster.pod_ready("slow");
        assert_eq!(restarts(&cluster, "slow"), "0");
        cluster.event(
            "hasty",
            "Unhealthy",
            &["Startup probe failed:", "can't open '/none'"],
        );
        cluster.event(
            "hasty",
            "Killing",
            &["Container main failed startup probe, will be restarted"],
        );
        eventually("a restart", || match restarts(&cluster, "hasty").as_str() {
            "0" => Err("none yet".to_owned()),
            _ => Ok(()),
        });
        for name in ["late", "open"] {
            cluster.pod_ready(name);
        }
        cluster.event(
            "late",
            "Unhealthy",
            &[
                "Readiness probe failed: dial tcp ",
                ":8080: connect: connection refused",
            ],
        );
        cluster.event(
            "closed",
            "Unhealthy",
            &[
                "Readiness probe failed: dial tcp ",
                ":8081: connect: connection refused",
            ],
        );
        cluster.event(
            "no-grpc",
            "Unhealthy",
            &["Readiness probe failed: error: health rpc probe failed"],
        );
        for name in ["closed", "no-grpc"] {
            let ready = "{.status.conditions[?(@.type==\"Ready\")].status}";
            assert_eq!(cluster.field(&format!("pod/{name}"), ready).unwrap(), "False");
        }
    });
}

#[test]
fn gates_of_others_are_waited_for() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let out = folder(dir, "out");
        let gated = "readinessGates: [{conditionType: example.com/ok}]";
        cluster.apply(&pod("plain", gated, &[shell("main", IDLE, "")], &out));
        cluster.apply(&pod("wasm", gated, &[server("main", "")], &out));
        let scheduled = "schedulingGates: [{name: example.com/wait}]";
        cluster.apply(&pod("held", scheduled, &[server("main", "")], &out));
        let condition =
            |kind: &str, field: &str| format!("{{.status.conditions[?(@.type==\"{kind}\")].{field}}}");
        for name in ["plain", "wasm"] {
            let object = format!("pod/{name}");
            cluster.until(&object, &condition("ContainersReady", "status"), "True");
            cluster.until(&object, &condition("Ready", "reason"), "ReadinessGatesNotReady");
            let why = cluster.field(&object, &condition("Ready", "message")).unwrap();
            assert_has(
                &why,
                &["corresponding condition of pod readiness gate \"example.com/ok\" does not exist."],
            );
            let ok = r#"{"status":{"conditions":[{"type":"example.com/ok","status":"True"}]}}"#;
            cluster.ok(&["patch", "pod", name, "--subresource=status", "-p", ok]);
            cluster.pod_ready(name);
        }
        assert_has(&cluster.ok(&["get", "pod", "held"]), &["SchedulingGated"]);
        assert_eq!(cluster.field("pod/held", "{.spec.nodeName}").unwrap(), "");
        let open = r#"[{"op":"remove","path":"/spec/schedulingGates"}]"#;
        cluster.ok(&["patch", "pod", "held", "--type=json", "-p", open]);
        cluster.pod_ready("held");
    });
}

#[test]
fn who_attaches_speaks_with_what_runs() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &[]);
        for (minor, kubectl) in crate::support::tools::oldest_and_newest() {
            eprintln!("with kubectl 1.{minor}");
            cluster.with(&kubectl);
            for (name, image, command) in [
                // Both read until nothing more comes: they end when the client has said all.
                ("plain", BUSYBOX, &["cat"][..]),
                ("wasm", CLI, &["/hello", "--stdin"][..]),
            ] {
                let image = format!("--image={image}");
                let mut args = vec![
                    "run",
                    name,
                    &image,
                    "-i",
                    "--rm",
                    "--restart=Never",
                    "--quiet",
                    "--command",
                    "--",
                ];
                args.extend(command);
                let said = cluster.feed(&args, "a word\n").unwrap();
                assert_has(&said, &["a word"]);
            }
        }
        // Who comes later hears what is said from then on, and another pod's end is not theirs.
        let script = "while :; do echo still here; sleep 0.2; done";
        cluster.apply(&pod(
            "talker",
            "restartPolicy: Always",
            &[shell("main", script, "")],
            dir,
        ));
        cluster.pod_ready("talker");
        let mut attached = cluster
            .kubectl(&["attach", "talker"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut heard = String::new();
        let out = std::io::BufReader::new(attached.stdout.take().unwrap());
        for line in std::io::BufRead::lines(out).take(3) {
            heard.push_str(&line.unwrap());
        }
        attached.kill().unwrap();
        attached.wait().unwrap();
        has(&heard, &["still here"]).unwrap();
        assert_eq!(restarts(&cluster, "talker"), "0");
    });
}
