//! Device plugins: a program beside the node provides a resource, and containers get what it gives.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use plugins::pod_resources::{AllocatableResourcesRequest, GetPodResourcesRequest, ListPodResourcesRequest};
use plugins::{Call, Plugin, Status};

use crate::support::manifests::BUSYBOX;
use crate::support::running::Running;
use crate::support::{Cluster, assert_has, eventually, sandboxed, tools};

/// A pod that wants so many gadgets, with an init container that wants some, too.
fn pod(name: &str, gadgets: u32) -> String {
    let script = "trap 'exit 0' TERM; while :; do sleep 0.2; done";
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  initContainers:
  - name: before
    image: {BUSYBOX}
    command: [sh, -c, "echo had $GADGETS"]
    resources: {{limits: {{example.com/gadget: "1"}}}}
  containers:
  - name: main
    image: {BUSYBOX}
    command: [sh, -c, {script:?}]
    resources: {{limits: {{example.com/gadget: "{gadgets}"}}}}
"#
    )
}

fn plugin(cluster: &Cluster, folder: &Path) -> Running {
    let mut command = Command::new(tools::example("gadgets"));
    command.arg(folder).arg(cluster.dir.join("device-plugins"));
    Running(command.spawn().expect("the plugin"))
}

/// What the node tells programs beside it.
fn ask<C: Call>(cluster: &Cluster, question: C) -> Result<C::Reply, Status> {
    let node = Plugin::at(&cluster.dir.join("pod-resources/kubelet.sock"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(node.call(question, Duration::from_secs(30)))
}

/// How many gadgets the node says it has, and can give.
fn amounts(cluster: &Cluster, capacity: &str, allocatable: &str) {
    let node = cluster.ok(&["get", "nodes", "-o", "name"]);
    for (list, wanted) in [("capacity", capacity), ("allocatable", allocatable)] {
        let path = format!("{{.status.{list}.example\\.com/gadget}}");
        cluster.until(node.trim(), &path, wanted);
    }
}

#[test]
fn plugins_provide_devices() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &[]);
        let folder = dir.join("gadgets");
        std::fs::create_dir(&folder).unwrap();
        let write = |list: &str| std::fs::write(folder.join("gadgets"), list).unwrap();
        let calls = || std::fs::read_to_string(folder.join("calls")).unwrap_or_default();
        write("a\nb\nc\n");
        let running = plugin(&cluster, &folder);
        amounts(&cluster, "3", "3");

        // The plugin's preference is heard, and what the init container had goes on to the next.
        cluster.apply(&pod("first", 2));
        cluster.pod_ready("first");
        assert_eq!(cluster.ok(&["logs", "first", "-c", "before"]), "had c\n");
        assert_eq!(
            cluster.exec("first", &["sh", "-c", "echo $GADGETS"]).unwrap(),
            "b,c\n"
        );
        assert_eq!(calls(), "allocate c\nallocate b,c\nstart c\nstart b,c\n");
        // The device is there and can be used, its files are shown and cannot be written.
        let used = "echo x > /dev/gadget-b && stat -c %t:%T /dev/gadget-c && [ ! -e /dev/gadget-a ] && cat /gadgets/gadgets";
        assert_eq!(
            cluster.exec("first", &["sh", "-c", used]).unwrap(),
            "1:3\na\nb\nc\n"
        );
        let written = cluster.exec("first", &["touch", "/gadgets/x"]);
        assert_has(&written.unwrap_err(), &["Read-only"]);

        // Monitors learn who has what.
        let wish = GetPodResourcesRequest {
            pod_name: "first".to_owned(),
            pod_namespace: "default".to_owned(),
        };
        let of_first = ask(&cluster, wish).unwrap().pod_resources.unwrap();
        let [main] = of_first.containers.as_slice() else {
            panic!("{of_first:?}");
        };
        assert_eq!((main.name.as_str(), main.devices.len()), ("main", 1));
        assert_eq!(main.devices[0].resource_name, "example.com/gadget");
        assert_eq!(main.devices[0].device_ids, ["b", "c"]);
        let all = ask(&cluster, ListPodResourcesRequest {}).unwrap();
        assert_eq!(all.pod_resources, [of_first]);
        let well = ask(&cluster, AllocatableResourcesRequest {}).unwrap();
        assert_eq!(well.devices[0].device_ids, ["a", "b", "c"]);
        let nobody = ask(&cluster, GetPodResourcesRequest::default()).unwrap_err();
        assert_has(nobody.message(), &["not found"]);

        // Nobody gets what is taken.
        cluster.apply(&pod("second", 2));
        cluster.event("second", "FailedScheduling", &["Insufficient example.com/gadget"]);
        // A device that is ill is not given.
        write("a!\nb\nc\n");
        amounts(&cluster, "3", "2");
        write("a\nb\nc\nd\n");
        amounts(&cluster, "4", "4");
        cluster.pod_ready("second");
        assert_eq!(
            cluster.exec("second", &["sh", "-c", "echo $GADGETS"]).unwrap(),
            "a,d\n"
        );

        // The node itself refuses what the scheduler was not asked about.
        let node = cluster.field("pod/first", "{.spec.nodeName}").unwrap();
        let placed = pod("greedy", 3).replace("spec:", &format!("spec:\n  nodeName: {node}"));
        cluster.apply(&placed);
        cluster.until("pod/greedy", "{.status.phase}", "Failed");
        assert_eq!(
            cluster
                .field("pod/greedy", "{.status.reason}: {.status.message}")
                .unwrap(),
            "UnexpectedAdmissionError: Pod was rejected: Allocate failed due to requested number of devices \
             unavailable for example.com/gadget. Requested: 1, Available: 0, which is unexpected"
        );
        cluster.event("greedy", "UnexpectedAdmissionError", &["Available: 0"]);
        cluster.ok(&["delete", "pod", "greedy", "--timeout=60s"]);

        // The agent remembers who has what, and the plugin finds it again.
        cluster.stop();
        cluster.restart();
        cluster.ready();
        amounts(&cluster, "4", "4");
        let before = calls();
        cluster.exec("first", &["sh", "-c", "kill 1"]).unwrap();
        cluster.until("pod/first", "{.status.containerStatuses[0].restartCount}", "1");
        cluster.pod_ready("first");
        assert_eq!(
            cluster.exec("first", &["sh", "-c", "echo $GADGETS"]).unwrap(),
            "b,c\n"
        );
        eventually("the plugin heard of the start", || {
            match calls().strip_prefix(&before) {
                Some("start b,c\n") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });

        // Without its plugin a resource has nothing to give; who has some, keeps it.
        drop(running);
        amounts(&cluster, "4", "0");
        cluster
            .exec("first", &["sh", "-c", "echo x > /dev/gadget-b"])
            .unwrap();
        let _running = plugin(&cluster, &folder);
        amounts(&cluster, "4", "4");
        cluster.ok(&["delete", "pods", "--all", "--timeout=60s"]);
        cluster.apply(&pod("third", 4));
        cluster.pod_ready("third");
        cluster.ok(&["delete", "pods", "--all", "--timeout=60s"]);
    });
}

#[test]
fn what_a_plugin_names_is_what_files_describe() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let folder = dir.join("gadgets");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("gadgets"), "a\nb\n").unwrap();
        std::fs::write(folder.join("named"), "example.com/card=one\n").unwrap();
        let _running = plugin(&cluster, &folder);
        amounts(&cluster, "2", "2");
        let named = |name: &str| {
            pod(name, 1).replace(
                "example.com/gadget: \"1\"}}\n  containers",
                "memory: 8Mi}}\n  containers",
            )
        };

        // Nobody has described it yet.
        cluster.apply(&named("early"));
        let text = "CDI device injection failed: unresolvable CDI devices example.com/card=one";
        cluster.event("early", "Failed", &[text]);
        let descriptions = cluster.dir.join("cdi");
        std::fs::create_dir_all(&descriptions).unwrap();
        let shown = dir.join("lib");
        std::fs::create_dir(&shown).unwrap();
        std::fs::write(shown.join("driver"), "driver of the card").unwrap();
        // The hook is the machine's program, run where the container's namespaces are, before its root is entered.
        let description = format!(
            "cdiVersion: 0.6.0\nkind: example.com/card\ndevices:\n- name: one\n  containerEdits:\n    env: [CARD=one]\n    \
             deviceNodes: [{{path: /dev/card0, hostPath: /dev/zero}}]\n    additionalGids: [44]\ncontainerEdits:\n  \
             mounts: [{{hostPath: {lib}, containerPath: /card, options: [ro, rbind]}}]\n  hooks: [{{hookName: createContainer, \
             path: /bin/sh, args: [sh, -c, \"echo hooked > {lib}/hooked\"]}}]\n",
            lib = shown.display()
        );
        std::fs::write(descriptions.join("card.yaml"), description).unwrap();
        cluster.pod_ready("early");
        let script = "echo $CARD; head -c 4 /dev/card0 | od -An -tx1; cat /card/driver; id -G; cat /card/hooked; touch /card/x";
        let said = cluster.run_both(&["exec", "early", "--", "sh", "-c", script]);
        assert_has(
            &said,
            &[
                "one\n",
                "00 00 00 00",
                "driver of the card",
                "44",
                "hooked",
                "Read-only file system",
            ],
        );
        cluster.ok(&["delete", "pods", "--all", "--timeout=60s"]);
    });
}
