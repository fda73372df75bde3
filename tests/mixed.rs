//! One pod with an OCI and a Wasm container.

use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

const POD: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {mode: calm}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {password: swordfish}
---
apiVersion: v1
kind: Pod
metadata: {name: both, labels: {app: both}}
spec:
  containers:
  - name: wasm
    image: local/hello-http:1
    ports: [{containerPort: 8080}]
    env: &env
    - {name: MODE, valueFrom: {configMapKeyRef: {name: settings, key: mode}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}
    volumeMounts: &mounts
    - {name: shared, mountPath: /shared}
    - {name: settings, mountPath: /settings}
    - {name: keys, mountPath: /keys, readOnly: true}
  - name: oci
    image: local/busybox:1
    command: [sh, -c, "echo from oci > /www/index.html; echo oci is here; trap 'exit 3' TERM; httpd -f -p 9090 -h /www & while :; do sleep 0.2; done"]
    env: *env
    volumeMounts: *mounts
  - name: talker
    image: local/hello-cli:1
    args: [wasm, is, here, --sleep, "100000000"]
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: settings, configMap: {name: settings}}
  - {name: keys, secret: {secretName: keys}}
"#;

#[test]
fn both_sorts_share_one_pod() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(POD);
        cluster.pod_ready("both");
        let ip = cluster.pod_ip("both");
        let wasm = |path: &str| cluster.curl(&format!("http://{ip}:8080{path}"));
        let oci = |command: &[&str]| {
            let mut args = vec!["exec", "both", "-c", "oci", "--"];
            args.extend(command);
            cluster.try_ok(&args)
        };

        // Localhost is the pod's, in both directions.
        assert_has(
            &oci(&["wget", "-q", "-O", "-", "http://127.0.0.1:8080/"]).unwrap(),
            &["hello from both"],
        );
        assert_has(
            &oci(&["wget", "-q", "-O", "-", "http://localhost:8080/"]).unwrap(),
            &["hello from both"],
        );
        for host in ["127.0.0.1", "localhost", &ip] {
            let url = format!("http://{host}:9090/");
            assert_eq!(cluster.fetch(&ip, &url).unwrap(), "from oci\n", "{url}");
        }
        assert_has(
            &cluster.curl(&format!("http://{ip}:9090/")).unwrap(),
            &["from oci"],
        );

        // A shared folder.
        wasm("/write?path=/shared/note&text=written+by+wasm").unwrap();
        assert_eq!(oci(&["cat", "/shared/note"]).unwrap(), "written by wasm");
        oci(&["sh", "-c", "echo written by oci > /shared/reply"]).unwrap();
        assert_eq!(wasm("/file?path=/shared/reply").unwrap(), "written by oci\n");

        // The same ConfigMap and Secret, in the environment and as files.
        assert_eq!(wasm("/env/MODE").unwrap(), "calm");
        assert_eq!(wasm("/env/PASSWORD").unwrap(), "swordfish");
        assert_eq!(
            oci(&["sh", "-c", "echo $MODE $PASSWORD"]).unwrap(),
            "calm swordfish\n"
        );
        assert_eq!(wasm("/file?path=/settings/mode").unwrap(), "calm");
        assert_eq!(wasm("/file?path=/keys/password").unwrap(), "swordfish");
        assert_eq!(
            oci(&["cat", "/settings/mode", "/keys/password"]).unwrap(),
            "calmswordfish"
        );

        // Both logs, each by its container's name.
        cluster.logged("both", Some("oci"), &["oci is here"]);
        cluster.logged("both", Some("talker"), &["wasm is here"]);
        let all = cluster.ok(&["logs", "both", "--all-containers"]);
        assert_has(&all, &["oci is here", "wasm is here"]);

        // Files follow the ConfigMap while the pod runs.
        cluster.ok(&[
            "patch",
            "configmap",
            "settings",
            "-p",
            r#"{"data":{"mode":"stormy"}}"#,
        ]);
        eventually("the new file, for Wasm", || {
            has(&wasm("/file?path=/settings/mode")?, &["stormy"])
        });
        eventually("the new file, for OCI", || {
            has(&oci(&["cat", "/settings/mode"])?, &["stormy"])
        });
    });
}

#[test]
fn each_container_restarts_alone() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &["--crash-back-off", "1"]);
        cluster.apply(POD);
        cluster.pod_ready("both");
        let ip = cluster.pod_ip("both");
        cluster.ok(&["exec", "both", "-c", "oci", "--", "sh", "-c", "kill 1"]);
        cluster.until(
            "pod/both",
            "{.status.containerStatuses[?(@.name==\"oci\")].restartCount}",
            "1",
        );
        cluster.pod_ready("both");
        assert_eq!(cluster.pod_ip("both"), ip);
        assert_eq!(
            cluster.fetch(&ip, "http://localhost:9090/").unwrap(),
            "from oci\n"
        );
        assert_eq!(
            cluster
                .field(
                    "pod/both",
                    "{.status.containerStatuses[?(@.name==\"wasm\")].restartCount}"
                )
                .unwrap(),
            "0"
        );
    });
}
