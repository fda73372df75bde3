//! Ways out of a container that are known from elsewhere, tried from inside; each asserts what stopped it.
//! Bombs, endless programs and traps are in `limits` and `hostile`, images that unpack outside in the `oci` crate.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::manifests::{BUSYBOX, idle_pod};
use crate::support::{Cluster, assert_has, eventually, sandboxed};

/// What root in an ordinary container tries, and what it may be told.
const TRIES: [(&str, &str, &[&str]); 13] = [
    (
        "a disk",
        "rm -f /tmp/disk; mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk",
        &["Operation not permitted"],
    ),
    (
        "the machine's memory",
        "rm -f /tmp/mem; mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem",
        &["Operation not permitted"],
    ),
    (
        "a mount",
        "mkdir -p /mnt; mount -t tmpfs none /mnt",
        &["denied", "not permitted"],
    ),
    (
        "another /proc",
        "mkdir -p /mnt; mount -t proc none /mnt",
        &["denied", "not permitted"],
    ),
    ("a namespace", "unshare -m true", &["not permitted"]),
    (
        "the namespaces of others",
        "nsenter -t 1 -m true",
        &["not permitted", "denied"],
    ),
    (
        "who gets core dumps",
        "echo '|/x' > /proc/sys/kernel/core_pattern",
        &["Read-only file system"],
    ),
    (
        "the kernel's keyboard",
        "echo c > /proc/sysrq-trigger",
        &["Read-only file system", "nonexistent"],
    ),
    (
        "a control group",
        "mkdir /sys/fs/cgroup/mine",
        &["Read-only file system", "No such file", "not permitted"],
    ),
    (
        "its own limit",
        "cd /sys/fs/cgroup; echo -1 > memory/memory.limit_in_bytes || echo max > memory.max",
        &["Read-only file system"],
    ),
    (
        "who helps with devices",
        "echo /x > /sys/kernel/uevent_helper",
        &["Read-only file system", "nonexistent"],
    ),
    ("the clock", "date -s 2030-01-01; false", &["not permitted"]),
    (
        "the kernel's memory",
        "[ -s /proc/kcore ] && head -c 1 /proc/kcore || echo masked >&2; false",
        &["masked"],
    ),
];

#[test]
fn root_in_a_container_is_root_there_alone() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&idle_pod("inside"));
        cluster.pod_ready("inside");
        for (what, script, told) in TRIES {
            let said = cluster.exec("inside", &["sh", "-c", script]);
            let said = said.expect_err(what);
            assert!(told.iter().any(|words| said.contains(words)), "{what}: {said}");
        }
        // It sees nobody but itself, and no device but those that are harmless.
        let seen = cluster.exec("inside", &["ls", "/proc"]).unwrap();
        let processes = seen
            .split_whitespace()
            .filter(|name| name.parse::<u32>().is_ok())
            .count();
        assert!(processes <= 4, "{seen}");
        let devices = cluster.exec("inside", &["find", "/dev", "-type", "b"]).unwrap();
        assert_eq!(devices, "");
        cluster.ok(&["delete", "pod", "inside", "--timeout=60s"]);
    });
}

/// A pod with a sub-path of a folder of this machine mounted at `/m`.
fn with_sub_path(name: &str, image: &str, folder: &Path, sub_path: &str) -> String {
    let command = if image == BUSYBOX {
        ", command: [sleep, '3600']"
    } else {
        ""
    };
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: main, image: '{image}'{command}, \
         env: [{{name: READY_FILE, value: /m/ready}}], volumeMounts: [{{name: v, mountPath: /m, subPath: {sub_path}}}]}}], \
         volumes: [{{name: v, hostPath: {{path: {}}}}}]}}}}",
        folder.display()
    )
}

#[test]
fn sub_paths_stay_in_their_volume_whatever_links_are_planted() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let folder = dir.join("shared");
        std::fs::create_dir_all(folder.join("real")).unwrap();
        std::fs::create_dir(folder.join("guest")).unwrap();
        std::fs::write(folder.join("real/fine"), "inside").unwrap();
        std::fs::write(dir.join("ready"), "outside").unwrap();
        for (name, to) in [
            ("up", ".."),
            ("root", "/"),
            ("proc", "/proc/1/root"),
            ("good", "real"),
        ] {
            symlink(to, folder.join(name)).unwrap();
        }
        for (number, image) in [BUSYBOX, "local/hello-http:1"].into_iter().enumerate() {
            for planted in ["up", "root", "proc", "up/shared"] {
                let name = format!("out-{number}-{}", planted.replace('/', "-"));
                cluster.apply(&with_sub_path(&name, image, &folder, planted));
                let waiting = ".status.containerStatuses[0].state.waiting";
                cluster.until(
                    &format!("pod/{name}"),
                    &format!("{{{waiting}.reason}}"),
                    "CreateContainerConfigError",
                );
                let why = cluster
                    .field(&format!("pod/{name}"), &format!("{{{waiting}.message}}"))
                    .unwrap();
                assert_has(&why, &["failed to prepare subPath", "it leads out of the volume"]);
                cluster.ok(&["delete", "pod", &name, "--timeout=60s"]);
            }
        }
        // A link that stays inside is as good as any folder.
        cluster.apply(&with_sub_path("good", BUSYBOX, &folder, "good"));
        cluster.pod_ready("good");
        assert_eq!(cluster.exec("good", &["cat", "/m/fine"]).unwrap(), "inside");

        // Guests are made anew for each request: what was shown to the first is shown to all.
        cluster.apply(&with_sub_path("guest", "local/hello-http:1", &folder, "guest"));
        cluster.pod_ready("guest");
        let url = format!("http://{}:8080/ready", cluster.pod_ip("guest"));
        let refused = || cluster.curl(&url).expect_err("there is no such file");
        assert_has(
            &eventually("the guest's answer", || Ok::<_, String>(refused())),
            &["503"],
        );
        std::fs::rename(folder.join("guest"), folder.join("aside")).unwrap();
        symlink("..", folder.join("guest")).unwrap();
        assert_has(&refused(), &["503"]);
        std::fs::write(folder.join("aside/ready"), "inside").unwrap();
        cluster.curl(&url).expect("its own folder has the file now");
    });
}

/// Runs the program that runs containers, inside one, where its files are to be had.
const HOST_LIBRARIES: [&str; 2] = ["/lib64", "/lib/x86_64-linux-gnu"];

#[test]
fn what_runs_a_container_cannot_be_replaced_by_it() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let (mut mounts, mut volumes) = (Vec::new(), Vec::new());
        for (number, path) in HOST_LIBRARIES.iter().enumerate() {
            mounts.push(format!("{{name: v{number}, mountPath: {path}, readOnly: true}}"));
            volumes.push(format!("{{name: v{number}, hostPath: {{path: {path}}}}}"));
        }
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: inside}}, spec: {{containers: [{{name: main, image: '{BUSYBOX}', \
             command: [sh, -c, 'ln -s /proc/self/exe /again; while :; do sleep 1; done'], volumeMounts: [{}]}}], volumes: [{}]}}}}",
            mounts.join(", "),
            volumes.join(", ")
        ));
        cluster.pod_ready("inside");
        // The runtime is told to run itself; what then runs in the container is the host's program.
        let mut again = cluster
            .kubectl(&[
                "exec",
                "inside",
                "--",
                "/again",
                "server",
                "--data-dir",
                "/tmp/again",
            ])
            .spawn()
            .expect("kubectl");
        let write = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | grep -q '^/again server' || continue; \
                     head -c 4 $p/exe >&2; chmod 4777 $p/exe && exit 0; exit 3; done; exit 9";
        let told = eventually("the runtime in the container", || {
            match cluster.exec("inside", &["sh", "-c", write]) {
                Err(told) if told.contains("exit code 9") => Err(told),
                other => Ok(other),
            }
        });
        // (A write would be refused as long as the program runs anywhere, and so prove nothing.)
        let told = told.expect_err("a change of the runtime's program");
        assert_has(&told, &["ELF", "Read-only file system"]);
        let _ = again.kill();
        let _ = again.wait();
        // It runs as before.
        cluster.apply(&idle_pod("other"));
        cluster.pod_ready("other");
    });
}
