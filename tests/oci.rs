//! Pods of OCI containers.

use std::process::{Command, Stdio};

use crate::support::manifests::{busybox_pod, idle_pod};
use crate::support::tools::oldest_and_newest;
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

#[test]
fn commands_run_inside_a_container() {
    sandboxed(|dir| {
        let mut cluster = Cluster::start(dir, &[]);
        cluster.busybox();
        cluster.apply(&idle_pod("box"));
        cluster.pod_ready("box");
        for (minor, kubectl) in oldest_and_newest() {
            eprintln!("with kubectl 1.{minor}");
            cluster.with(&kubectl);
            assert_eq!(cluster.exec("box", &["echo", "inside"]).unwrap(), "inside\n");
            assert_eq!(cluster.exec("box", &["hostname"]).unwrap(), "box\n");
            // Standard input, in full and to its end.
            let lines = "line\n".repeat(20_000);
            let counted = cluster
                .feed(&["exec", "-i", "box", "--", "wc", "-l"], &lines)
                .unwrap();
            assert_eq!(counted.trim(), "20000");
            // Exit codes and standard error are the command's own.
            let out = cluster.run(&["exec", "box", "--", "sh", "-c", "echo oops >&2; exit 3"]);
            assert_eq!(out.status.code(), Some(3));
            assert_has(
                &String::from_utf8_lossy(&out.stderr),
                &["oops", "command terminated with exit code 3"],
            );
            let absent = cluster.exec("box", &["no-such-program"]).unwrap_err();
            assert_has(&absent, &["no-such-program"]);
            // A terminal of a given size: `script` gives kubectl one to copy.
            let inner = format!(
                "stty rows 33 cols 77; {} exec -it box -- sh -c 'tty; until stty size 2>/dev/null | grep .; do sleep 0.1; done'",
                kubectl.display()
            );
            let mut script = Command::new("script");
            script
                .args(["-qec", &inner, "/dev/null"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            let mut typing = cluster.dress(&mut script).spawn().unwrap();
            // Kept open: the end of what is typed would end the session.
            let keyboard = typing.stdin.take();
            let out = typing.wait_with_output().unwrap();
            drop(keyboard);
            assert_has(&String::from_utf8_lossy(&out.stdout), &["/dev/pts/", "33 77"]);
        }
    });
}

#[test]
fn logs_are_followed_cut_and_kept_from_the_run_before() {
    sandboxed(|dir| {
        let mut cluster = Cluster::start(dir, &["--crash-back-off", "1"]);
        cluster.busybox();
        cluster.apply(&busybox_pod("talker", "Always", "for i in 1 2 3 4 5; do echo line $i; done; trap 'exit 0' TERM; while [ ! -e /end ]; do sleep 1; done; echo bye; exit 1"));
        cluster.pod_ready("talker");
        cluster.logged("talker", None, &["line 5"]);
        for (_, kubectl) in oldest_and_newest() {
            cluster.with(&kubectl);
            assert_eq!(
                cluster.ok(&["logs", "talker"]),
                "line 1\nline 2\nline 3\nline 4\nline 5\n"
            );
            assert_eq!(cluster.ok(&["logs", "talker", "--tail=2"]), "line 4\nline 5\n");
            assert_eq!(
                cluster.ok(&["logs", "talker", "--since=1h", "--tail=1"]),
                "line 5\n"
            );
            assert_eq!(
                cluster.ok(&["logs", "talker", "--since-time=2100-01-01T00:00:00Z"]),
                ""
            );
            assert_has(
                &cluster.ok(&["logs", "talker", "--timestamps", "--tail=1"]),
                &["T", "Z line 5"],
            );
            assert_has(
                &cluster.ok(&["logs", "-l", "app=talker", "--prefix", "--tail=1"]),
                &["[pod/talker/main] line 5"],
            );
            assert_has(
                &cluster.refused(&["logs", "talker", "--previous"]),
                &["previous terminated container \"main\" in pod \"talker\" not found"],
            );
            assert_has(
                &cluster.refused(&["logs", "talker", "-c", "nobody"]),
                &["container nobody is not valid for pod talker"],
            );
        }
        // Followed to the container's end; then the next run's log and this one's as the previous.
        let follower = cluster
            .kubectl(&["logs", "-f", "talker"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        cluster.exec("talker", &["touch", "/end"]).unwrap();
        let out = follower.wait_with_output().unwrap();
        assert_has(
            &String::from_utf8_lossy(&out.stdout),
            &["line 1", "line 5", "bye"],
        );
        cluster.until("pod/talker", "{.status.containerStatuses[0].restartCount}", "1");
        eventually("the previous log", || {
            has(
                &cluster.try_ok(&["logs", "talker", "--previous"])?,
                &["line 5", "bye"],
            )
        });
    });
}

#[test]
fn a_container_lives_in_the_limits_it_was_given() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.busybox();
        cluster.apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: limits, annotations: {note: hello}}
spec:
  restartPolicy: Never
  securityContext: {runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000}
  initContainers:
  - {name: first, image: "local/busybox:1", command: [sh, -c, "echo prepared > /shared/file"], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
  - name: main
    image: local/busybox:1
    command: [sh, -c]
    args:
    - |
      id
      cat /shared/file
      echo node $NODE memory $MEMORY, $(WORD)
      cat /info/note
      touch /rootfile || echo read only
      grep NoNewPrivs /proc/self/status
    env:
    - {name: WORD, value: expanded}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false}
    volumeMounts: [{name: shared, mountPath: /shared}, {name: info, mountPath: /info}]
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: info, downwardAPI: {items: [{path: note, fieldRef: {fieldPath: "metadata.annotations['note']"}}]}}
"#,
        );
        assert_eq!(
            cluster.finished("limits"),
            "Succeeded",
            "{}",
            cluster.ok(&["logs", "limits"])
        );
        let log = cluster.ok(&["logs", "limits"]);
        assert_has(
            &log,
            &[
                "uid=1000",
                "gid=3000",
                "2000",
                "prepared",
                "memory 67108864, expanded",
                "hello",
                "read only",
            ],
        );
        assert_has(&log, &["NoNewPrivs:\t1"]);

        // More memory than it may have ends it.
        cluster.apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: local/busybox:1
    command: [sh, -c, "exec tail -c 200m /dev/zero"]
    resources: {limits: {memory: 32Mi}}
"#,
        );
        assert_eq!(cluster.finished("greedy"), "Failed");
        let reason = cluster.field(
            "pod/greedy",
            "{.status.containerStatuses[0].state.terminated.reason}",
        );
        assert_eq!(reason.unwrap(), "OOMKilled");
        assert_eq!(cluster.exit_code("greedy"), "137");
    });
}

#[test]
fn a_port_is_forwarded_and_files_are_copied() {
    sandboxed(|dir| {
        let mut cluster = Cluster::start(dir, &[]);
        cluster.busybox();
        cluster.apply(&busybox_pod(
            "web",
            "Always",
            "echo forwarded > /www/index.html; exec httpd -f -p 8080 -h /www",
        ));
        cluster.pod_ready("web");
        for (at, (_, kubectl)) in oldest_and_newest().into_iter().enumerate() {
            cluster.with(&kubectl);
            let port = 9000 + at;
            let mut forward = cluster
                .kubectl(&["port-forward", "pod/web", &format!("{port}:8080")])
                .spawn()
                .unwrap();
            let url = format!("http://127.0.0.1:{port}/");
            assert_eq!(
                eventually("the forwarded port", || cluster.curl(&url)),
                "forwarded\n"
            );
            // The connection serves more than one request.
            assert_eq!(cluster.curl(&url).unwrap(), "forwarded\n");
            forward.kill().unwrap();
            forward.wait().unwrap();

            let file = dir.join("letter");
            std::fs::write(&file, "dear pod").unwrap();
            cluster.ok(&["cp", file.to_str().unwrap(), "web:/tmp/letter"]);
            assert_eq!(cluster.exec("web", &["cat", "/tmp/letter"]).unwrap(), "dear pod");
        }
    });
}
