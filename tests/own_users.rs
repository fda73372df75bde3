//! Pods with users of their own (`hostUsers: false`): root inside is nobody outside.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::support::manifests::{BUSYBOX, busybox_pod};
use crate::support::running::processes;
use crate::support::{Cluster, assert_has, eventually, sandboxed};

/// Whether files in memory can be shown as other users': from Linux 6.3 on. Before, such a volume is refused by name.
fn memory_shows_other_users() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let is_new = (numbers.next(), numbers.next()) >= (Some(6), Some(3));
    if !is_new {
        eprintln!(
            "not tried on Linux {}: secrets and volumes in memory for users of a pod's own",
            release.trim()
        );
    }
    is_new
}

/// Every kind of volume, a port that is root's, settings of the pod's namespaces, and two users.
fn manifest(folder: &Path) -> String {
    // Secrets lie in memory, too.
    let (memory, secret) = match memory_shows_other_users() {
        true => (
            "{medium: Memory}",
            "secret: {secretName: secret, defaultMode: 0400}",
        ),
        false => ("{}", "configMap: {name: no-secret, defaultMode: 0400}"),
    };
    format!(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{colour: blue}}
---
apiVersion: v1
kind: Secret
metadata: {{name: secret}}
stringData: {{word: hush}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: no-secret}}
data: {{word: hush}}
---
apiVersion: v1
kind: Pod
metadata: {{name: boxed}}
spec:
  hostUsers: false
  shareProcessNamespace: true
  securityContext:
    sysctls: [{{name: kernel.shm_rmid_forced, value: "1"}}, {{name: net.ipv4.tcp_fin_timeout, value: "17"}}]
  containers:
  - name: root
    image: {BUSYBOX}
    command: [sh, -c, "mkdir -p /www && echo mine > /www/index.html && touch /disk/root /memory/root /dev/shm/root && touch /disk/user && chown 1000:1001 /disk/user && exec httpd -f -p 80 -h /www"]
    volumeMounts:
    - {{name: disk, mountPath: /disk}}
    - {{name: memory, mountPath: /memory}}
    - {{name: settings, mountPath: /settings}}
    - {{name: secret, mountPath: /secret}}
    - {{name: host, mountPath: /host}}
    - {{name: host, mountPath: /part, subPath: part}}
  - name: user
    image: {BUSYBOX}
    command: [sh, -c, "echo out > /dev/stdout; echo err > /dev/stderr; while :; do sleep 1; done"]
    securityContext: {{runAsUser: 1000, runAsGroup: 1001}}
    volumeMounts: [{{name: disk, mountPath: /disk}}]
  volumes:
  - {{name: disk, emptyDir: {{}}}}
  - {{name: memory, emptyDir: {memory}}}
  - {{name: settings, configMap: {{name: settings}}}}
  - {{name: secret, {secret}}}
  - {{name: host, hostPath: {{path: {}}}}}
"#,
        folder.display()
    )
}

/// The first id outside that stands for root in a pod.
fn first(cluster: &Cluster, pod: &str) -> u32 {
    let map = cluster.exec(pod, &["cat", "/proc/self/uid_map"]).unwrap();
    let words: Vec<u32> = map.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!((words[0], words[2]), (0, 65536), "{map}");
    words[1]
}

fn in_container(cluster: &Cluster, container: &str, script: &str) -> Result<String, String> {
    cluster.try_ok(&["exec", "boxed", "-c", container, "--", "sh", "-c", script])
}

#[test]
fn root_inside_is_nobody_outside() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &[]);
        let folder = dir.join("shared");
        std::fs::create_dir_all(folder.join("part")).unwrap();
        std::fs::write(folder.join("of-root"), "root's").unwrap();
        std::fs::set_permissions(folder.join("of-root"), PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(folder.join("part/of-seven"), "").unwrap();
        chown(folder.join("part/of-seven"), Some(7), Some(8)).unwrap();
        cluster.apply(&manifest(&folder));
        cluster.pod_ready("boxed");

        // Outside, nothing of the pod runs as anybody who owns something.
        let first_id = first(&cluster, "boxed");
        assert!(first_id >= 65536 && first_id.is_multiple_of(65536));
        let owner = |words: &[&str]| {
            let found = processes(words);
            assert_eq!(found.len(), 1, "{words:?}");
            std::fs::metadata(format!("/proc/{}", found[0])).unwrap().uid()
        };
        assert_eq!(owner(&["httpd", "-p", "80"]), first_id);
        assert_eq!(owner(&["echo err > /dev/stderr"]), first_id + 1000);

        // It may listen on a port of root's, and its namespaces have their settings.
        let url = format!("http://{}/", cluster.pod_ip("boxed"));
        assert_eq!(
            eventually("the answer on port 80", || cluster.curl(&url)),
            "mine\n"
        );
        let settings = "sysctl -n kernel.shm_rmid_forced net.ipv4.tcp_fin_timeout; hostname";
        assert_eq!(
            in_container(&cluster, "root", settings).unwrap(),
            "1\n17\nboxed\n"
        );

        // Files are root's and users' inside, and carry the same ids on the disk.
        let seen = "stat -c '%u %g %n' /disk/root /disk/user /memory/root /dev/shm/root /host/of-root \
                    /part/of-seven /settings/colour /bin/busybox /www";
        let expected = "0 0 /disk/root\n1000 1001 /disk/user\n0 0 /memory/root\n0 0 /dev/shm/root\n\
                        0 0 /host/of-root\n7 8 /part/of-seven\n0 0 /settings/colour\n0 0 /bin/busybox\n0 0 /www\n";
        assert_eq!(in_container(&cluster, "root", seen).unwrap(), expected);
        let read = "cat /host/of-root /secret/word /settings/colour && echo new > /host/new";
        assert_eq!(in_container(&cluster, "root", read).unwrap(), "root'shushblue");
        assert_eq!(std::fs::metadata(folder.join("new")).unwrap().uid(), 0);
        let uid = cluster.field("pod/boxed", "{.metadata.uid}").unwrap();
        let disk = cluster.dir.join("pods").join(&uid).join("volumes/empty-dir/disk");
        let on_disk = |name: &str| {
            let found = std::fs::metadata(disk.join(name)).unwrap();
            (found.uid(), found.gid())
        };
        assert_eq!((on_disk("root"), on_disk("user")), ((0, 0), (1000, 1001)));
        let as_user = in_container(&cluster, "user", "id -u; touch /disk/user && ! touch /disk/root");
        assert_has(&as_user.unwrap(), &["1000"]);
        cluster.logged("boxed", Some("user"), &["out", "err"]);

        // Capabilities are worth nothing beyond its own namespaces.
        let tried = in_container(&cluster, "root", "mknod /disk/null c 1 3");
        assert_has(&tried.unwrap_err(), &["not permitted"]);
        let shared = in_container(&cluster, "user", "ps -o user,args | grep -c '[h]ttpd -f'");
        assert_eq!(shared.unwrap().trim(), "1");

        // Other pods are other users, also after the agent has begun anew, which the pod does not notice.
        let plain = |name: &str| {
            busybox_pod(name, "Always", "while :; do sleep 1; done")
                .replace("spec:", "spec:\n  hostUsers: false")
        };
        cluster.apply(&plain("second"));
        cluster.pod_ready("second");
        cluster.stop();
        cluster.restart();
        cluster.ready();
        cluster.apply(&plain("third"));
        cluster.pod_ready("third");
        let all = ["boxed", "second", "third"].map(|pod| first(&cluster, pod));
        assert_eq!(all, [first_id, first_id + 65536, first_id + 2 * 65536]);
        let again = cluster.field("pod/boxed", "{.status.containerStatuses[*].restartCount}");
        assert_eq!(again.unwrap(), "0 0");

        // A container that starts again is the same users'.
        in_container(&cluster, "root", "killall httpd").unwrap();
        cluster.until("pod/boxed", "{.status.containerStatuses[0].restartCount}", "1");
        eventually("the answer on port 80", || cluster.curl(&url));
        assert_eq!(first(&cluster, "boxed"), first_id);
        cluster.ok(&["delete", "pods", "--all", "--timeout=60s"]);
    });
}

#[test]
fn what_cannot_be_shown_as_the_pods_is_named() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let pod = busybox_pod("boxed", "Always", "sleep 1000").replace("spec:", "spec:\n  hostUsers: false");
        let pod = format!(
            "{}\n    volumeMounts: [{{name: v, mountPath: /v}}]\n  volumes: [{{name: v, hostPath: {{path: /sys/kernel}}}}]\n",
            pod.trim_end()
        );
        cluster.apply(&pod);
        cluster.event(
            "boxed",
            "Failed",
            &[
                "/sys/kernel",
                "hostUsers: false",
                "file system must be able to show files",
            ],
        );
        // What would give the machine's namespaces away again is refused at once.
        let shared = pod.replace("hostUsers: false", "hostUsers: false\n  hostPID: true");
        let why = cluster.feed(
            &["create", "-f", "-"],
            &shared.replace("name: boxed", "name: other"),
        );
        assert_has(&why.unwrap_err(), &["HostPID", "HostUsers` is false"]);
        cluster.ok(&["delete", "pod", "boxed", "--timeout=60s"]);
    });
}
