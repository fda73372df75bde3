//! What a Pod can ask for, by kubectl against the real node: who debugs it,
//! what it shares, what it is refused.

use crate::support::manifests::{BUSYBOX, IDLE, busybox_pod, idle_pod};
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

#[test]
fn a_running_pod_is_debugged_from_inside() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&idle_pod("box"));
        cluster.pod_ready("box");
        // Without a target the debugger has processes of its own; with one it sees the target's.
        let debug = |name: &str, target: &[&str], script: &str| {
            let image = format!("--image={BUSYBOX}");
            let mut args = vec!["debug", "box", &image, "-c", name];
            args.extend(target);
            args.extend(["--", "sh", "-c", script]);
            cluster.ok(&args);
        };
        debug("alone", &[], "ps; echo name $HOSTNAME; ip addr show eth0");
        let ip = cluster.pod_ip("box");
        cluster.logged("box", Some("alone"), &["name box", &ip]);
        debug("inside", &["--target=main"], "ps; echo seen");
        cluster.logged("box", Some("inside"), &["seen"]);
        let seen = cluster.ok(&["logs", "box", "-c", "inside"]);
        assert_has(&seen, &["trap 'exit 0' TERM"]);
        let alone = cluster.ok(&["logs", "box", "-c", "alone"]);
        assert!(!alone.contains("trap 'exit 0' TERM"), "{alone}");
        // It ends for good, is shown as ended, and the pod is as it was.
        let state = "{.status.ephemeralContainerStatuses[?(@.name==\"inside\")].state.terminated.exitCode}";
        cluster.until("pod/box", state, "0");
        let restarts = "{.status.containerStatuses[0].restartCount}";
        assert_eq!(cluster.field("pod/box", restarts).unwrap(), "0");
        cluster.pod_ready("box");
        // One that runs on can be entered, and goes with the pod.
        debug("stays", &["--target=main"], IDLE);
        let running = "{.status.ephemeralContainerStatuses[?(@.name==\"stays\")].state.running}";
        eventually("the debugger", || {
            has(&cluster.field("pod/box", running)?, &["startedAt"])
        });
        let out = cluster.try_ok(&["exec", "box", "-c", "stays", "--", "echo", "entered"]);
        assert_eq!(out.unwrap(), "entered\n");
        cluster.ok(&["delete", "pod", "box", "--timeout=60s"]);

        // A pod of Wasm alone can be looked at by a Wasm program; an ordinary one is told why not.
        cluster.apply(&crate::support::manifests::wasm_web("web", 1, false));
        cluster.deployed("web", 1);
        let pod = cluster.pods("app=web").into_iter().next().unwrap();
        cluster.ok(&[
            "debug",
            &pod,
            "--image=local/hello-cli:1",
            "-c",
            "guest",
            "--",
            "/hello",
            "looking",
        ]);
        cluster.logged(&pod, Some("guest"), &["looking"]);
        cluster.ok(&[
            "debug",
            &pod,
            &format!("--image={BUSYBOX}"),
            "-c",
            "shell",
            "--",
            "sh",
        ]);
        cluster.event(&pod, "Failed", &["an ordinary container cannot join"]);
    });
}

#[test]
fn containers_share_processes_and_memory_where_the_pod_says_so() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &["--crash-back-off", "1"]);
        cluster.busybox();
        cluster.apply(&format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: shared}}
spec:
  shareProcessNamespace: true
  hostname: db
  subdomain: nest
  setHostnameAsFQDN: true
  containers:
  - {{name: one, image: "{BUSYBOX}", command: [sh, -c, "echo memory > /dev/shm/note; trap 'exit 4' TERM; while :; do sleep 1; done"]}}
  - {{name: two, image: "{BUSYBOX}", command: [sh, -c, {IDLE:?}]}}
"#
        ));
        cluster.pod_ready("shared");
        let two = |script: &str| cluster.try_ok(&["exec", "shared", "-c", "two", "--", "sh", "-c", script]);
        assert_has(&two("cat /proc/1/comm").unwrap(), &["pause"]);
        assert_has(&two("ps").unwrap(), &["trap 'exit 4' TERM", "trap 'exit 0' TERM"]);
        assert_eq!(two("cat /dev/shm/note").unwrap(), "memory\n");
        assert_eq!(two("hostname").unwrap(), "db.nest.default.svc.cluster.local\n");
        // A signal across containers; the other one stays, and nothing of the old run does.
        two("ps | grep 'exit [4]' | { read -r pid rest; kill $pid; }").unwrap();
        let restarts =
            |name: &str| format!("{{.status.containerStatuses[?(@.name==\"{name}\")].restartCount}}");
        cluster.until("pod/shared", &restarts("one"), "1");
        cluster.pod_ready("shared");
        assert_eq!(cluster.field("pod/shared", &restarts("two")).unwrap(), "0");
        let left = two("ps | grep -c '[e]xit 4'").unwrap();
        assert_eq!(left.trim(), "1");
        cluster.ok(&["delete", "pod", "shared", "--timeout=60s"]);
    });
}

#[test]
fn exit_codes_decide_who_begins_again() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &["--crash-back-off", "1"]);
        cluster.busybox();
        cluster.apply(&format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: picky}}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: "{BUSYBOX}"
    command: [sh, -c, "n=$(cat /state/n || echo 0); echo $((n+1)) > /state/n; [ $n -lt 2 ] && exit 42; exit 7"]
    restartPolicy: Never
    restartPolicyRules:
    - {{action: Restart, exitCodes: {{operator: In, values: [42]}}}}
    volumeMounts: [{{name: state, mountPath: /state}}]
  volumes: [{{name: state, emptyDir: {{}}}}]
"#
        ));
        assert_eq!(cluster.finished("picky"), "Failed");
        assert_eq!(cluster.exit_code("picky"), "7");
        let restarts = "{.status.containerStatuses[0].restartCount}";
        assert_eq!(cluster.field("pod/picky", restarts).unwrap(), "2");
    });
}

#[test]
fn what_this_node_cannot_give_is_refused_by_name() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &["--allowed-unsafe-sysctls", "kernel.msg*"]);
        cluster.busybox();
        let pod = |name: &str, spec: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  {spec}\n  \
                 containers: [{{name: main, image: \"{BUSYBOX}\", command: [sh, -c, \"sysctl -n kernel.msgmax\"]}}]\n"
            )
        };
        let refused = |name: &str, reason: &str, words: &[&str]| {
            cluster.until(&format!("pod/{name}"), "{.status.phase}", "Failed");
            assert_eq!(
                cluster.field(&format!("pod/{name}"), "{.status.reason}").unwrap(),
                reason
            );
            let message = cluster
                .field(&format!("pod/{name}"), "{.status.message}")
                .unwrap();
            assert_has(&message, words);
            cluster.event(name, reason, words);
        };
        cluster.apply(&pod("windows", "os: {name: windows}"));
        refused("windows", "PodOSNotSupported", &["doesn't match node OS"]);
        let sysctl =
            |name: &str| format!("securityContext: {{sysctls: [{{name: {name}, value: \"9000\"}}]}}");
        cluster.apply(&pod("unsafe", &sysctl("kernel.sem")));
        refused(
            "unsafe",
            "SysctlForbidden",
            &["forbidden sysctl: \"kernel.sem\" not allowlisted"],
        );
        cluster.apply(&pod("allowed", &sysctl("kernel.msgmax")));
        assert_eq!(cluster.finished("allowed"), "Succeeded");
        assert_eq!(cluster.ok(&["logs", "allowed"]), "9000\n");
    });
}

#[test]
fn a_pod_that_is_deleted_says_how_it_ended() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.busybox();
        let script =
            "trap 'echo last words > /dev/termination-log; exit 3' TERM; while :; do sleep 0.1; done";
        cluster.apply(&busybox_pod("talker", "Always", script));
        cluster.pod_ready("talker");
        let mut watch = cluster
            .kubectl(&["get", "pod", "talker", "-w", "-o"])
            .arg("jsonpath={.status.phase} {.status.containerStatuses[0].state.terminated.message}{\"\\n\"}")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        cluster.ok(&["delete", "pod", "talker", "--timeout=60s"]);
        watch.kill().unwrap();
        let out = watch.wait_with_output().unwrap();
        assert_has(&String::from_utf8_lossy(&out.stdout), &["Failed last words"]);
        // A taint that a person sets says nothing of its time: who tolerates it for a while goes all the same.
        let tolerates = "[{key: leave, operator: Exists, effect: NoExecute, tolerationSeconds: 2}]";
        let tolerates = format!("  tolerations: {tolerates}\n  restartPolicy:");
        cluster.apply(&idle_pod("brief").replace("  restartPolicy:", &tolerates));
        cluster.pod_ready("brief");
        cluster.ok(&["taint", "nodes", "--all", "leave=soon:NoExecute"]);
        cluster.ok(&["wait", "--for=delete", "pod/brief", "--timeout=60s"]);
        let said = "Marking for deletion Pod default/brief";
        cluster.event("brief", "TaintManagerEviction", &[said]);
        cluster.ok(&["taint", "nodes", "--all", "leave-"]);
    });
}

#[test]
fn what_runs_may_use_more_without_a_restart() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let resources = "resources: {limits: {cpu: 200m, memory: 48Mi}}";
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: grows}}\nspec:\n  containers:\n  - {{name: main, image: \
             \"{BUSYBOX}\", command: [sh, -c, {IDLE:?}], {resources}}}\n  \
             - {{name: guest, image: local/hello-http:1, {resources}}}\n"
        ));
        cluster.pod_ready("grows");
        let resize = |name: &str, cpu: &str, memory: &str| {
            let patch = format!(
                r#"{{"spec":{{"containers":[{{"name":"{name}","resources":{{"requests":{{"cpu":"{cpu}","memory":"{memory}"}},"limits":{{"cpu":"{cpu}","memory":"{memory}"}}}}}}]}}}}"#
            );
            cluster.try_ok(&["patch", "pod", "grows", "--subresource", "resize", "-p", &patch])
        };
        let field =
            |name: &str, path: &str| format!("{{.status.containerStatuses[?(@.name==\"{name}\")].{path}}}");
        for name in ["main", "guest"] {
            resize(name, "300m", "160Mi").unwrap();
            cluster.until("pod/grows", &field(name, "resources.limits.memory"), "160Mi");
            cluster.until("pod/grows", &field(name, "allocatedResources.cpu"), "300m");
            assert_eq!(
                cluster.field("pod/grows", &field(name, "restartCount")).unwrap(),
                "0"
            );
        }
        // It sees what it may use.
        let seen = |of_one: &str, of_two: &str| {
            let script = format!("cd /sys/fs/cgroup; cat {of_one} 2>/dev/null || cat {of_two}");
            cluster.exec("grows", &["sh", "-c", &script]).unwrap()
        };
        assert_eq!(seen("memory/memory.limit_in_bytes", "memory.max"), "167772160\n");
        // More than the first limit, held at once.
        let held = cluster.exec(
            "grows",
            &["sh", "-c", "head -c 100m /dev/zero | tail -c 100m | wc -c"],
        );
        assert_eq!(held.unwrap().trim(), "104857600");
        // More than the whole node has is refused at once.
        let why = resize("main", "1000", "160Mi").unwrap_err();
        let words = "node didn't have enough allocatable resources: cpu, requested: 1000300, allocatable: ";
        assert_has(&why, &[words]);
        resize("main", "250m", "160Mi").unwrap();
        cluster.until("pod/grows", &field("main", "resources.limits.cpu"), "250m");
        let quota = seen("cpu/cpu.cfs_quota_us", "cpu.max");
        assert!(quota.starts_with("25000"), "{quota}");
    });
}

#[test]
fn a_guests_own_program_runs_again_by_exec() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: guest}
spec:
  containers:
  - name: main
    image: local/hello-cli:1
    args: [first, run, --sleep, "100000000"]
    env: [{name: COLOUR, value: green}]
    livenessProbe: {exec: {command: [main, probed]}, periodSeconds: 1, failureThreshold: 1}
    lifecycle: {postStart: {exec: {command: [main, hooked]}}}
"#,
        );
        cluster.pod_ready("guest");
        let said = cluster.exec("guest", &["main", "second", "run"]).unwrap();
        assert_has(&said, &["second", "run"]);
        assert!(!said.contains("first"), "{said}");
        let other = cluster.exec("guest", &["sh"]).unwrap_err();
        assert_has(&other, &["holds no program but its own, \"main\""]);
        // What it prints there is not in the container's log, and the first run goes on.
        let log = cluster.ok(&["logs", "guest"]);
        assert!(log.contains("first") && !log.contains("second"), "{log}");
        assert_eq!(
            cluster
                .field("pod/guest", "{.status.containerStatuses[0].restartCount}")
                .unwrap(),
            "0"
        );
    });
}

#[test]
fn what_a_guest_cannot_have_is_named() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.guests();
        let pod = |name: &str, rest: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  hostAliases: [{{ip: 127.0.0.1, \
                 hostnames: [me.test]}}]\n  containers:\n  - {{name: main, image: local/hello-http:1, {rest}}}\n"
            )
        };
        cluster.apply(&pod(
            "greedy",
            "tty: true, securityContext: {privileged: true, capabilities: {add: [NET_ADMIN]}}",
        ));
        let words = ["securityContext.privileged, securityContext.capabilities.add, tty"];
        cluster.event("greedy", "Failed", &words);
        cluster.until(
            "pod/greedy",
            "{.status.containerStatuses[0].state.waiting.reason}",
            "CreateContainerConfigError",
        );
        cluster.apply(&pod(
            "named",
            "securityContext: {runAsUser: 1000, runAsNonRoot: true}",
        ));
        cluster.pod_ready("named");
        cluster.event("named", "NotApplicable", &["securityContext.runAsUser"]);
        // A name that only the pod's own hosts file would give.
        let ip = cluster.pod_ip("named");
        assert_has(
            &cluster.fetch(&ip, "http://me.test:8080/").unwrap(),
            &["hello from named"],
        );
    });
}

#[test]
fn secrets_lie_in_memory_and_folders_in_volumes_are_everybodys() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.busybox();
        cluster.ok(&[
            "create",
            "secret",
            "generic",
            "keys",
            "--from-literal=password=swordfish",
        ]);
        cluster.apply(&format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: files}}
spec:
  securityContext: {{runAsUser: 1000, supplementalGroups: [4242], supplementalGroupsPolicy: Strict}}
  containers:
  - name: main
    image: "{BUSYBOX}"
    command: [sh, -c, "echo mine > /data/file; {IDLE}"]
    env: [{{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
    volumeMounts:
    - {{name: keys, mountPath: /keys, readOnly: true, recursiveReadOnly: Enabled}}
    - {{name: scratch, mountPath: /data, subPathExpr: $(POD)/deep}}
  volumes:
  - {{name: keys, secret: {{secretName: keys}}}}
  - {{name: scratch, emptyDir: {{}}}}
"#
        ));
        cluster.pod_ready("files");
        let said = |script: &str| cluster.exec("files", &["sh", "-c", script]).unwrap();
        assert_eq!(said("cat /keys/password"), "swordfish");
        assert_has(&said("grep ' /keys ' /proc/mounts"), &["tmpfs", "ro"]);
        assert_eq!(said("cat /data/file"), "mine\n");
        assert_has(&said("id -G"), &["4242"]);
        assert_eq!(
            cluster
                .field(
                    "pod/files",
                    "{.status.containerStatuses[0].volumeMounts[?(@.name==\"keys\")].recursiveReadOnly}"
                )
                .unwrap(),
            "Enabled"
        );
        cluster.ok(&["delete", "pod", "files", "--timeout=60s"]);
        let left = std::fs::read_dir(dir.join("data/memory")).unwrap().count();
        assert_eq!(left, 0, "a deleted pod's Secrets stay in memory");
    });
}

#[test]
fn classes_of_runtimes_are_known_or_named() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.busybox();
        cluster.apply(
            "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: plain}\nhandler: runc\n\
             overhead: {podFixed: {cpu: 10m}}\n---\napiVersion: node.k8s.io/v1\nkind: RuntimeClass\n\
             metadata: {name: strange}\nhandler: gvisor\n",
        );
        let pod = |class: &str| {
            idle_pod(class).replace(
                "  restartPolicy:",
                &format!("  runtimeClassName: {class}\n  restartPolicy:"),
            )
        };
        let apply = |manifest: &str| cluster.feed(&["apply", "-f", "-"], manifest);
        eventually("a pod of that class", || apply(&pod("plain")));
        cluster.pod_ready("plain");
        assert_eq!(cluster.field("pod/plain", "{.spec.overhead.cpu}").unwrap(), "10m");
        eventually("a pod of the other", || apply(&pod("strange")));
        cluster.event(
            "strange",
            "FailedCreatePodSandBox",
            &["no runtime for \"gvisor\" is configured"],
        );
        let why = apply(&pod("absent")).unwrap_err();
        assert_has(&why, &["pod rejected: RuntimeClass \"absent\" not found"]);
    });
}

#[test]
fn the_node_says_what_its_pods_use() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&idle_pod("box"));
        cluster.apply(&crate::support::manifests::wasm_web("web", 1, false));
        cluster.pod_ready("box");
        cluster.deployed("web", 1);
        let node = cluster.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
        let raw = |path: &str| cluster.ok(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/{path}")]);
        let summary: serde_json::Value = serde_json::from_str(&raw("stats/summary")).unwrap();
        let pods = summary["pods"].as_array().unwrap();
        assert_eq!(pods.len(), 2, "{summary}");
        for pod in pods {
            let container = &pod["containers"][0];
            // A guest that answers nobody holds nothing.
            let idle = container["name"] == "web";
            let held = container["memory"]["workingSetBytes"].as_u64().unwrap();
            assert!(held > 0 || idle, "{pod}");
            assert!(
                container["cpu"]["usageCoreNanoSeconds"].as_u64().is_some(),
                "{pod}"
            );
        }
        assert!(summary["node"]["cpu"]["usageCoreNanoSeconds"].as_u64().unwrap() > 0);
        let again: serde_json::Value = serde_json::from_str(&raw("stats/summary")).unwrap();
        assert!(
            again["node"]["cpu"]["usageNanoCores"].as_u64().is_some(),
            "{again}"
        );
        let labels = "container=\"main\",namespace=\"default\",pod=\"box\"";
        for name in [
            "container_cpu_usage_seconds_total",
            "container_memory_working_set_bytes",
        ] {
            assert_has(&raw("metrics/resource"), &[&format!("{name}{{{labels}}} ")]);
        }
        assert_has(
            &raw("metrics/cadvisor"),
            &["container_processes{container=\"main\"", "machine_cpu_cores "],
        );
    });
}
