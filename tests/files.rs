//! Paths of the host and groups of files: what pods may ask of volumes that are there already.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::support::manifests::{idle_pod, with_claim};
use crate::support::sandbox::run;
use crate::support::{Cluster, assert_has, eventually, sandboxed};

/// An idle pod with volumes and their mounts, each an inner line of YAML.
fn pod(name: &str, mounts: &[String], volumes: &[String], more: &str) -> String {
    format!(
        "{}\n    volumeMounts: [{}]\n  volumes: [{}]\n{more}",
        idle_pod(name).trim_end(),
        mounts.join(", "),
        volumes.join(", ")
    )
}

fn host(name: &str, path: &Path, sort: &str) -> String {
    format!(
        "{{name: {name}, hostPath: {{path: {}, type: {sort}}}}}",
        path.display()
    )
}

#[test]
fn paths_of_the_host_are_what_the_pod_says_they_are() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let at = dir.join("host");
        std::fs::create_dir(&at).expect("a folder");
        std::fs::write(at.join("note"), "noted").expect("a file");
        let _socket = UnixListener::bind(at.join("socket")).expect("a socket");
        let sorts = [
            ("folder", at.clone(), "Directory"),
            ("note", at.join("note"), "File"),
            ("socket", at.join("socket"), "Socket"),
            ("device", "/dev/null".into(), "CharDevice"),
            ("newfolder", at.join("deep/new"), "DirectoryOrCreate"),
            ("newfile", at.join("empty"), "FileOrCreate"),
            ("any", at.clone(), "''"),
        ];
        let mounts = sorts
            .clone()
            .map(|(name, ..)| format!("{{name: {name}, mountPath: /{name}}}"));
        let volumes = sorts.map(|(name, path, sort)| host(name, &path, sort));
        cluster.apply(&pod("box", &mounts, &volumes, ""));
        cluster.pod_ready("box");
        let script = "cat /note && test -S /socket && test -c /device && test -d /newfolder && test -f /newfile && ls /any";
        let said = cluster.exec("box", &["sh", "-c", script]).unwrap();
        assert_eq!(said, "noteddeep\nempty\nnote\nsocket\n");

        // What is not what it is said to be.
        let wrong = [
            ("Directory", "note", "directory"),
            ("File", "socket", "file"),
            ("Socket", "note", "socket file"),
            ("CharDevice", "note", "character device"),
            ("BlockDevice", "note", "block device"),
        ];
        for (number, (sort, path, text)) in wrong.iter().enumerate() {
            let name = format!("wrong-{number}");
            let mount = ["{name: v, mountPath: /v}".to_owned()];
            cluster.apply(&pod(&name, &mount, &[host("v", &at.join(path), sort)], ""));
            let shown = at.join(path).display().to_string();
            let text = format!("hostPath type check failed: {shown} is not a {text}");
            cluster.event(
                &name,
                "FailedMount",
                &["MountVolume.SetUp failed for volume \"v\" : ", &text],
            );
            cluster.ok(&["delete", "pod", &name, "--timeout=60s"]);
        }
    });
}

#[test]
fn mounts_of_the_host_come_in_where_the_pod_wants_them() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let at = dir.join("host");
        std::fs::create_dir_all(at.join("disk")).expect("a folder");
        let shown = at.display().to_string();
        run("mount", &["--bind", &shown, &shown]);
        run("mount", &["--make-shared", &shown]);
        let mounts = ["{name: v, mountPath: /follows, mountPropagation: HostToContainer}".to_owned()];
        cluster.apply(&pod("box", &mounts, &[host("v", &at, "Directory")], ""));
        cluster.pod_ready("box");
        let disk = at.join("disk").display().to_string();
        run("mount", &["-t", "tmpfs", "tmpfs", &disk]);
        std::fs::write(at.join("disk/note"), "new").expect("a file");
        assert_eq!(
            cluster.exec("box", &["cat", "/follows/disk/note"]).unwrap(),
            "new"
        );
        cluster.ok(&["delete", "pod", "box", "--timeout=60s"]);
        run("umount", &[&disk]);
        run("umount", &[&shown]);
    });
}

#[test]
fn mounts_of_a_pod_go_out_where_it_wants_them() {
    sandboxed(|dir| {
        // As it is on machines: what is mounted shows to all who wish.
        let shown = dir.display().to_string();
        run("mount", &["--bind", &shown, &shown]);
        run("mount", &["--make-shared", &shown]);
        let mut cluster = Cluster::stocked(dir, &[]);
        let (at, precious) = (dir.join("host"), dir.join("precious"));
        std::fs::create_dir_all(at.join("disk")).expect("a folder");
        std::fs::create_dir(&precious).expect("a folder");
        std::fs::write(precious.join("file"), "kept").expect("a file");
        let volumes = [
            host("v", &at, "Directory"),
            host("p", &precious, "Directory"),
            "{name: e, emptyDir: {}}".to_owned(),
        ];
        let driver = [
            "{name: v, mountPath: /out, mountPropagation: Bidirectional}".to_owned(),
            "{name: e, mountPath: /scratch, mountPropagation: Bidirectional}".to_owned(),
            "{name: p, mountPath: /precious}".to_owned(),
        ];
        let privileged = |name: &str| {
            let plain = pod(name, &driver, &volumes, "");
            plain.replace(
                "    volumeMounts:",
                "    securityContext: {privileged: true}\n    volumeMounts:",
            )
        };
        let other = [
            "{name: v, mountPath: /in, mountPropagation: HostToContainer}".to_owned(),
            "{name: v, mountPath: /alone}".to_owned(),
        ];
        cluster.apply(&privileged("driver"));
        cluster.apply(&pod("other", &other, &volumes, ""));
        cluster.apply(&pod("plain", &other[1..], &volumes, ""));
        for name in ["driver", "other", "plain"] {
            cluster.pod_ready(name);
        }
        // What a driver mounts in its pod is there for the machine, and for pods that want to see it.
        let script = "mount -t tmpfs t /out/disk && echo new > /out/disk/note && mkdir /scratch/deep && \
                      mount --bind /precious /scratch/deep";
        cluster.exec("driver", &["sh", "-c", script]).unwrap();
        assert_eq!(std::fs::read_to_string(at.join("disk/note")).unwrap(), "new\n");
        assert_eq!(cluster.exec("other", &["cat", "/in/disk/note"]).unwrap(), "new\n");
        for name in ["other", "plain"] {
            let seen = cluster.exec(name, &["cat", "/alone/disk/note"]);
            assert_has(&seen.unwrap_err(), &["No such file"]);
        }
        // It stays when pod and agent go, until somebody takes it away, for all.
        cluster.stop();
        cluster.restart();
        cluster.ready();
        assert_eq!(
            cluster.exec("driver", &["cat", "/out/disk/note"]).unwrap(),
            "new\n"
        );
        cluster.ok(&["delete", "pod", "driver", "--timeout=60s"]);
        assert!(at.join("disk/note").exists());
        run("umount", &[&at.join("disk").display().to_string()]);
        assert!(cluster.exec("other", &["cat", "/in/disk/note"]).is_err());
        // What was mounted in a volume of the pod's own is not the volume's to remove.
        assert_eq!(std::fs::read_to_string(precious.join("file")).unwrap(), "kept");

        // Where nothing can go out, it is said.
        let alone = at.join("disk").display().to_string();
        run("mount", &["-t", "tmpfs", "t", &alone]);
        run("mount", &["--make-private", &alone]);
        let hidden =
            privileged("hidden").replace(&format!("path: {}", at.display()), &format!("path: {alone}"));
        cluster.apply(&hidden);
        let why = format!("path {alone:?} is mounted on {alone:?} but it is not a shared mount");
        cluster.event("hidden", "Failed", &[&why]);
        cluster.ok(&["delete", "pods", "--all", "--timeout=60s"]);
        cluster.stop();
        run("umount", &[&alone]);
        run("umount", &["--lazy", &shown]);
    });
}

#[test]
fn a_group_gets_a_volume_once_or_each_time() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], \
             resources: {requests: {storage: 1Gi}}}\n",
        );
        let user = |name: &str, policy: &str| {
            let context = format!("  securityContext: {{fsGroup: 2000, fsGroupChangePolicy: {policy}}}\n");
            format!("{}{context}", with_claim(&idle_pod(name), "data"))
        };
        cluster.apply(&user("first", "Always"));
        cluster.pod_ready("first");
        cluster
            .exec(
                "first",
                &["sh", "-c", "mkdir /data/deep && touch /data/deep/file"],
            )
            .unwrap();
        cluster.ok(&["delete", "pod", "first", "--timeout=60s"]);
        let volumes = std::fs::read_dir(cluster.dir.join("local-path")).expect("volumes");
        let volume = volumes.flatten().next().expect("the volume").path();
        let file = volume.join("deep/file");
        // Somebody else's by now; the topmost folder is the group's still.
        std::os::unix::fs::chown(&file, None, Some(3000)).expect("a group");
        for (name, policy, group) in [("again", "OnRootMismatch", 3000), ("anew", "Always", 2000)] {
            cluster.apply(&user(name, policy));
            cluster.pod_ready(name);
            assert_eq!(
                std::fs::metadata(&file).expect("the file").gid(),
                group,
                "{policy}"
            );
            cluster.ok(&["delete", "pod", name, "--timeout=60s"]);
        }
    });
}

#[test]
fn what_was_kept_is_not_given_away_again() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let claim = |name: &str, more: &str| {
            format!(
                "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec: {{accessModes: \
                 [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}{more}}}\n"
            )
        };
        cluster.apply(&claim("data", ""));
        cluster.apply(&with_claim(&idle_pod("box"), "data"));
        cluster.pod_ready("box");
        let volume = cluster.field("pvc/data", "{.spec.volumeName}").unwrap();
        let keep = r#"{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}"#;
        cluster.ok(&["patch", "pv", &volume, "-p", keep]);
        cluster.ok(&["delete", "pod", "box", "--timeout=60s"]);
        cluster.ok(&["delete", "pvc", "data", "--timeout=60s"]);
        cluster.until(&format!("pv/{volume}"), "{.status.phase}", "Released");
        // Neither by chance nor by its name.
        cluster.apply(&claim("heir", &format!(", volumeName: {volume}")));
        let text = format!("volume \"{volume}\" already bound to a different claim.");
        cluster.event("heir", "FailedBinding", &[&text]);
        assert_eq!(cluster.field("pvc/heir", "{.status.phase}").unwrap(), "Pending");
        // Until somebody says that it may be.
        let free = r#"{"spec":{"claimRef":null}}"#;
        cluster.ok(&["patch", "pv", &volume, "--type=merge", "-p", free]);
        cluster.until("pvc/heir", "{.status.phase}", "Bound");

        // A claim that is to begin with something is not served by an empty folder.
        let source = ", dataSource: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: s}";
        cluster.apply(&claim("copy", source));
        cluster.apply(&with_claim(&idle_pod("reader"), "copy"));
        cluster.event("copy", "ProvisioningFailed", &["a folder of a node begins empty"]);
        cluster.ok(&["delete", "pod", "reader", "--timeout=60s"]);
        // The volume of the heir stays, by its policy; what is on it goes with the test.
        eventually("one volume is left", || {
            let left = cluster.try_ok(&["get", "pv", "--no-headers"])?;
            if left.lines().count() == 1 {
                Ok(())
            } else {
                Err(left)
            }
        });
    });
}
