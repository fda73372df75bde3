//! Folders of an NFS server as volumes, where the kernel has both a server and a client. What is said where it has none is
//! in `volumes`.

use std::fs;

use crate::support::manifests::{command_pod, idle_pod, with_claim};
use crate::support::nfs::Server;
use crate::support::{Cluster, assert_has, sandboxed, tools};

/// A pod whose `/data` is a folder of the server.
fn with_folder(name: &str, path: &str, more: &str) -> String {
    format!(
        "{}\n    volumeMounts: [{{name: data, mountPath: /data}}]\n  volumes: [{{name: data, nfs: {{server: 127.0.0.1, \
         path: {path}{more}}}}}]\n",
        idle_pod(name).trim_end()
    )
}

/// A volume of the server with options of its own, and who claims it.
const CLAIMED: &str = "apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: served}\nspec:\n  capacity: {storage: 1Gi}\n  \
    accessModes: [ReadWriteMany]\n  mountOptions: [nfsvers=4.1, noatime]\n  nfs: {server: 127.0.0.1, path: /data}\n---\n\
    apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: served}\nspec: {accessModes: [ReadWriteMany], \
    storageClassName: '', volumeName: served, resources: {requests: {storage: 1Gi}}}\n";

#[test]
fn folders_of_a_server_are_shared_by_both_sorts() {
    sandboxed(|dir| {
        let data = dir.join("served/data");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("note"), "from the server\n").unwrap();
        let Some(_server) = Server::start(&dir.join("served")) else {
            eprintln!(
                "SKIPPED folders_of_a_server: the kernel has no NFS server (tools/machine has a machine for it)"
            );
            return;
        };
        let cluster = Cluster::start(dir, &[]);
        cluster.busybox();
        cluster.import(&tools::guest("hello-cli.wasm"), &["--name", "local/hello-cli:1"]);
        cluster.ready();
        cluster.apply(&with_folder("box", "/data", ""));
        cluster.apply(&with_folder("reader", "/data", ", readOnly: true"));
        cluster.apply(&with_folder("lost", "/absent", ""));
        cluster.apply(CLAIMED);

        cluster.pod_ready("box");
        let run = |pod: &str, script: &str| cluster.exec(pod, &["sh", "-c", script]);
        assert_eq!(run("box", "cat /data/note").unwrap(), "from the server\n");
        run("box", "echo from a pod > /data/back").unwrap();
        assert_eq!(fs::read_to_string(data.join("back")).unwrap(), "from a pod\n");
        assert_has(
            &run("box", "grep ' /data ' /proc/mounts").unwrap(),
            &["nfs4", "vers=4.2"],
        );
        cluster.pod_ready("reader");
        assert_has(
            &run("reader", "touch /data/x").unwrap_err(),
            &["Read-only file system"],
        );
        let why = "mount of 127.0.0.1:/absent failed: No such file or directory";
        cluster.event("lost", "FailedMount", &[why]);

        // By a claim, with what the volume says of mounting.
        let args = ["--read", "/data/back", "--write", "/data/guest", "from wasm"];
        cluster.apply(&with_claim(
            &command_pod("guest", "local/hello-cli:1", &args),
            "served",
        ));
        assert_eq!(cluster.finished("guest"), "Succeeded");
        assert_has(&cluster.ok(&["logs", "guest"]), &["from a pod"]);
        assert_eq!(run("box", "cat /data/guest").unwrap().trim(), "from wasm");
        cluster.apply(&with_claim(&idle_pod("claiming"), "served"));
        cluster.pod_ready("claiming");
        assert_has(
            &run("claiming", "grep ' /data ' /proc/mounts").unwrap(),
            &["noatime", "vers=4.1"],
        );
        cluster.ok(&["delete", "pods", "--all", "--timeout=60s"]);
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(" nfs4 "), "{mounts}");
    });
}
