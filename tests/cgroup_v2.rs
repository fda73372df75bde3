//! Control groups where all of them are of version 2: what is tried here is not to be had beside version 1. What holds
//! for both is in `limits`.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::support::instances::instance_ids;
use crate::support::manifests::{BUSYBOX, IDLE};
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

const ROOT: &str = "/sys/fs/cgroup";

/// Whether this machine has version 2 and nothing else; says so where it has not.
fn is_pure(what: &str) -> bool {
    let hierarchies = sys::cgroup::hierarchies();
    let pure = matches!(hierarchies.as_slice(), [only] if only.controllers.is_empty());
    if !pure {
        eprintln!(
            "SKIPPED {what}: control groups are not of version 2 alone here (tools/machine has a machine for it)"
        );
    }
    pure
}

fn pod(name: &str, security: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  \
         - {{name: main, image: \"{BUSYBOX}\", command: [sh, -c, {IDLE:?}], securityContext: {security}, resources: \
         {{requests: {{cpu: 100m}}, limits: {{cpu: 500m, memory: 64Mi}}}}}}\n"
    )
}

/// A cluster that has no more than it needs: the machine is probably an emulated one.
fn with_busybox(dir: &Path, args: &[&str]) -> Cluster {
    let cluster = Cluster::start(dir, args);
    cluster.busybox();
    cluster.ready();
    cluster
}

/// The group of a pod's only container, in this machine's hierarchy.
fn group(cluster: &Cluster, dir: &Path, pod: &str) -> PathBuf {
    let uid = cluster.field(&format!("pod/{pod}"), "{.metadata.uid}").unwrap();
    let pod = Path::new(ROOT).join(format!("coracle-{}/pod{uid}", instance_ids(dir)[0]));
    let mut entries = fs::read_dir(&pod).unwrap().flatten().map(|entry| entry.path());
    entries.find(|path| path.is_dir()).expect("a container")
}

/// The files of a container's group as the kubelet would have them.
const HELD: [(&str, &str); 6] = [
    ("cpu.max", "50000 100000"),
    ("cpu.weight", "17"),
    ("memory.max", "67108864"),
    ("memory.oom.group", "1"),
    ("memory.swap.max", "0"),
    ("hugetlb.2MB.max", "0"),
];

#[test]
fn a_container_is_held_by_its_group_and_sees_no_other() {
    sandboxed(|dir| {
        if !is_pure("a container's group") {
            return;
        }
        let cluster = with_busybox(dir, &["--pod-pids-limit", "77"]);
        cluster.apply(&(pod("held", "{}") + "---\n" + &pod("free", "{privileged: true}")));
        cluster.pod_ready("held");
        let own = group(&cluster, dir, "held");
        for (file, content) in HELD {
            let found = fs::read_to_string(own.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_eq!(found.trim(), content, "{file}");
        }
        let of_pod = fs::read_to_string(own.with_file_name("pids.max")).unwrap();
        assert_eq!(of_pod.trim(), "77");

        let run = |pod: &str, script: &str| cluster.exec(pod, &["sh", "-c", script]);
        let seen =
            "cat /proc/self/cgroup /sys/fs/cgroup/memory.max; ls /sys/fs/cgroup | grep -c coracle; true";
        assert_eq!(run("held", seen).unwrap(), "0::/\n67108864\n0\n");
        let refused = run("held", "echo max > /sys/fs/cgroup/memory.max").unwrap_err();
        assert_has(&refused, &["Read-only file system"]);
        // Devices: those of every container, and no other, though their files can be made.
        let harmless = "head -c 1 /dev/zero > /dev/null && head -c 1 /dev/urandom > /dev/null";
        let disk = "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem > /dev/null";
        run("held", harmless).unwrap();
        assert_has(&run("held", disk).unwrap_err(), &["Operation not permitted"]);
        cluster.pod_ready("free");
        run("free", "mknod /tmp/loop c 10 237 && head -c 0 /tmp/loop").unwrap();
        changes_while_it_runs(&cluster, &own);
        ends_as_a_whole(&cluster);
        cluster.ok(&["delete", "pods", "--all", "--timeout=60s"]);
    });
}

/// Limits follow the pod, but not below what is in use: the kernel would end processes for it.
fn changes_while_it_runs(cluster: &Cluster, own: &Path) {
    let resize = |memory: &str| {
        let patch = format!(
            "{{\"spec\": {{\"containers\": [{{\"name\": \"main\", \"resources\": {{\"requests\": {{\"memory\": {memory:?}}}, \
             \"limits\": {{\"memory\": {memory:?}}}}}}}]}}}}"
        );
        cluster.ok(&["patch", "pod", "held", "--subresource", "resize", "-p", &patch]);
    };
    let limit = |bytes: u64| {
        eventually("a changed limit", || {
            let found = fs::read_to_string(own.join("memory.max")).map_err(|error| error.to_string())?;
            if found.trim() == bytes.to_string() {
                Ok(())
            } else {
                Err(found)
            }
        });
    };
    resize("80Mi");
    limit(80 << 20);
    // What lies in memory counts as used.
    cluster
        .exec(
            "held",
            &[
                "sh",
                "-c",
                "dd if=/dev/zero of=/dev/shm/file bs=1M count=40 2>/dev/null",
            ],
        )
        .unwrap();
    resize("30Mi");
    let why = "{.status.conditions[?(@.type==\"PodResizeInProgress\")].message}";
    eventually("a refused limit", || {
        has(
            &cluster.field("pod/held", why)?,
            &["bytes are in use, more than 31457280"],
        )
    });
    limit(80 << 20);
    let restarts = "{.status.containerStatuses[0].restartCount}";
    assert_eq!(cluster.field("pod/held", restarts).unwrap(), "0");
}

/// A container goes as one when its memory is at an end, whichever of its processes wanted more, and that is told.
fn ends_as_a_whole(cluster: &Cluster) {
    let script = "tail -c 200m /dev/zero | cat >/dev/null; sleep 1000";
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: greedy}}\nspec:\n  restartPolicy: Never\n  containers:\n  - {{name: \
         main, image: \"{BUSYBOX}\", command: [sh, -c, {script:?}], resources: {{limits: {{memory: 16Mi}}}}}}\n"
    ));
    assert_eq!(cluster.finished("greedy"), "Failed");
    let state = ".status.containerStatuses[0].state.terminated";
    let path = format!("{{{state}.reason}} {{{state}.exitCode}}");
    assert_eq!(cluster.field("pod/greedy", &path).unwrap(), "OOMKilled 137");
}

/// Goes into a group of this name, and sees it as the root from here on, as in somebody's container.
fn settle_in(name: &str) {
    let group = Path::new(ROOT).join(name);
    // As those do who start containers: what is not passed on, a container has not.
    for controller in fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"))
        .unwrap()
        .split_whitespace()
    {
        fs::write(
            Path::new(ROOT).join("cgroup.subtree_control"),
            format!("+{controller}"),
        )
        .unwrap();
    }
    fs::create_dir(&group).unwrap();
    fs::write(group.join("cgroup.procs"), std::process::id().to_string()).unwrap();
    unshare(CloneFlags::CLONE_NEWCGROUP).unwrap();
    // All of it is one file system, which the kernel does not mount on itself.
    umount2(ROOT, MntFlags::MNT_DETACH).unwrap();
    mount(
        Some("cgroup"),
        ROOT,
        Some("cgroup2"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
}

#[test]
fn a_node_in_a_container_makes_room_below_itself() {
    sandboxed(|dir| {
        if !is_pure("a node in a group with processes") {
            return;
        }
        // Named as a node's, so that the group goes when the scenario has ended.
        let name = format!("nested{}", std::process::id());
        fs::create_dir(dir.join("nested")).unwrap();
        fs::write(dir.join("nested/instance-id"), &name).unwrap();
        settle_in(&format!("coracle-{name}"));
        let own = fs::read_to_string(Path::new(ROOT).join("cgroup.procs")).unwrap();
        assert!(
            !own.trim().is_empty(),
            "this test is in the group that is its root"
        );
        let cluster = with_busybox(dir, &[]);
        cluster.apply(&pod("held", "{}"));
        cluster.pod_ready("held");
        let seen = cluster
            .exec("held", &["cat", "/sys/fs/cgroup/memory.max"])
            .unwrap();
        assert_eq!(seen, "67108864\n");
        assert_eq!(
            fs::read_to_string(Path::new(ROOT).join("cgroup.procs")).unwrap(),
            ""
        );
        assert!(Path::new(ROOT).join("init/cgroup.procs").exists());
        cluster.ok(&["delete", "pod", "held", "--timeout=60s"]);
    });
}
