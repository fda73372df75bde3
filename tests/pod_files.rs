//! What a pod's own files say: its names, its resolver, what it is shown of ConfigMaps while it runs. On both runtimes
//! where both have them.

use crate::support::manifests::{BUSYBOX, IDLE};
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

fn idle(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  {spec}\n  containers: \
         [{{name: main, image: \"{BUSYBOX}\", command: [sh, -c, {IDLE:?}]}}]\n---\n"
    )
}

#[test]
fn names_are_what_the_pod_wants_them_to_be() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(
            "apiVersion: v1\nkind: Service\nmetadata: {name: nest}\nspec: {clusterIP: None, selector: {app: bird}, ports: \
             [{port: 80}]}\n",
        );
        let aliases = "hostAliases: [{ip: 192.0.2.7, hostnames: [far.test, away.test]}]";
        cluster.apply(&idle(
            "bird",
            &format!("hostname: egg\n  subdomain: nest\n  {aliases}"),
        ));
        let own = "dnsConfig: {nameservers: [192.0.2.53], searches: [one.test], options: [{name: ndots, value: \"2\"}, \
                   {name: edns0}]}";
        cluster.apply(&idle("resolver", &format!("dnsPolicy: None\n  {own}")));
        cluster.apply(&idle("more", own));
        cluster.apply(&idle(
            "host",
            "hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet",
        ));
        cluster.apply(&idle("ipc", "hostIPC: true"));
        for name in ["bird", "resolver", "more", "host", "ipc"] {
            cluster.pod_ready(name);
        }
        let run = |pod: &str, script: &str| cluster.exec(pod, &["sh", "-c", script]);

        assert_eq!(run("bird", "hostname").unwrap(), "egg\n");
        let hosts = run("bird", "cat /etc/hosts").unwrap();
        let ip = cluster.pod_ip("bird");
        let line = format!("{ip}\tegg.nest.default.svc.cluster.local\tegg\n");
        assert_has(&hosts, &["192.0.2.7\tfar.test\taway.test", &line]);
        // Others find it by that name.
        eventually("the pod's name in DNS", || {
            has(
                &run("more", "nslookup egg.nest.default.svc.cluster.local")?,
                &[&ip],
            )
        });

        assert_eq!(
            run("resolver", "cat /etc/resolv.conf").unwrap(),
            "search one.test\nnameserver 192.0.2.53\noptions ndots:2 edns0\n"
        );
        let both = run("more", "cat /etc/resolv.conf").unwrap();
        assert_has(
            &both,
            &[
                "search default.svc.cluster.local svc.cluster.local cluster.local one.test\n",
                "nameserver 10.43.0.10\nnameserver 192.0.2.53\n",
                "options ndots:2 edns0\n",
            ],
        );

        // On the node's network: its address, its name, and names of the cluster all the same.
        let field = |path: &str| cluster.field("pod/host", path).unwrap();
        assert_eq!(field("{.status.podIP}"), field("{.status.hostIP}"));
        assert_eq!(run("host", "hostname").unwrap().trim(), field("{.spec.nodeName}"));
        assert_has(
            &run("host", "cat /etc/resolv.conf").unwrap(),
            &["nameserver 10.43.0.10"],
        );
        let links = |pod: &str| run(pod, "ls /sys/class/net").unwrap();
        assert!(links("host").lines().count() > links("bird").lines().count());

        // The machine's own IPC, and nobody else's.
        let machine = std::fs::read_link("/proc/self/ns/ipc")
            .unwrap()
            .display()
            .to_string();
        let of = |pod: &str| run(pod, "readlink /proc/self/ns/ipc").unwrap().trim().to_owned();
        assert_eq!(of("ipc"), machine);
        assert_ne!(of("bird"), machine);
    });
}

#[test]
fn what_changes_is_seen_by_those_that_run() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.ok(&["create", "configmap", "settings", "--from-literal=colour=green"]);
        cluster.ok(&["create", "secret", "generic", "keys", "--from-literal=word=old"]);
        let volumes = "volumes: [{name: all, projected: {sources: [{configMap: {name: settings}}, {secret: {name: keys}}, \
                       {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]}}]";
        let mount = "volumeMounts: [{name: all, mountPath: /all}]";
        for (name, what) in [
            (
                "plain",
                format!("image: \"{BUSYBOX}\", command: [sh, -c, {IDLE:?}]"),
            ),
            ("wasm", "image: local/hello-http:1".to_owned()),
        ] {
            cluster.apply(&format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{mood: calm}}}}\nspec:\n  {volumes}\n  \
                 containers: [{{name: main, {what}, {mount}}}]\n"
            ));
        }
        cluster.pod_ready("plain");
        cluster.pod_ready("wasm");
        let ip = cluster.pod_ip("wasm");
        let read = |file: &str| -> Result<[String; 2], String> {
            let plain = cluster.exec("plain", &["cat", &format!("/all/{file}")])?;
            let wasm = cluster.curl(&format!("http://{ip}:8080/file?path=/all/{file}"))?;
            Ok([plain, wasm])
        };
        let shows = |file: &str, text: &str| {
            eventually(&format!("{file} shows {text}"), || {
                read(file)?.iter().try_for_each(|seen| has(seen, &[text]))
            });
        };
        shows("colour", "green");
        shows("word", "old");
        shows("labels", "mood=\"calm\"");
        cluster.ok(&[
            "patch",
            "configmap",
            "settings",
            "-p",
            r#"{"data":{"colour":"blue"}}"#,
        ]);
        cluster.ok(&[
            "patch",
            "secret",
            "keys",
            "-p",
            r#"{"stringData":{"word":"new"}}"#,
        ]);
        cluster.ok(&["label", "pod", "plain", "wasm", "mood=merry", "--overwrite"]);
        shows("colour", "blue");
        shows("word", "new");
        shows("labels", "mood=\"merry\"");
        // All at once: what is shown is a link that changes its target.
        let link = cluster.exec("plain", &["readlink", "/all/colour"]).unwrap();
        assert_eq!(link.trim(), "..data/colour");
    });
}

/// A pod whose first container runs a script in `/data`, and whose others have `A` of the file that is there then.
fn from_file(name: &str, script: &str, key: &str) -> String {
    let file = |key: &str, optional: bool| {
        format!("{{fileKeyRef: {{volumeName: data, path: config.env, key: {key}, optional: {optional}}}}}")
    };
    let (given, absent) = (file(key, false), file("NONE", true));
    let env = format!("[{{name: A, valueFrom: {given}}}, {{name: B, valueFrom: {absent}}}]");
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  initContainers:
  - name: writes
    image: {BUSYBOX}
    command:
    - sh
    - -c
    - |
      cd /data
      {script}
    volumeMounts: [{{name: data, mountPath: /data}}]
  containers:
  - {{name: main, image: "{BUSYBOX}", command: [sh, -c, "echo \"$A, ${{B-unset}}\""], env: {env}}}
  - {{name: guest, image: "local/hello-cli:1", env: {env}}}
  volumes: [{{name: data, emptyDir: {{}}}}]
"#
    )
}

#[test]
fn what_one_container_writes_is_the_environment_of_the_next() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let file = "echo \"A='of a file' # all of it\" > config.env";
        cluster.apply(&from_file("reads", file, "A"));
        assert_eq!(cluster.finished("reads"), "Succeeded");
        assert_eq!(cluster.ok(&["logs", "reads", "-c", "main"]), "of a file, unset\n");
        let guest = cluster.ok(&["logs", "reads", "-c", "guest"]);
        assert_has(&guest, &["env: A=of a file\n"]);
        assert!(!guest.contains("env: B="), "{guest}");
        // What is missing or wrong keeps both from starting, and is named.
        let waiting = "{.status.containerStatuses[*].state.waiting.reason}";
        let both = "CreateContainerConfigError CreateContainerConfigError";
        for (name, script, key, why) in [
            (
                "missing",
                file,
                "OTHER",
                "environment variable key \"OTHER\" not found in file \"config.env\"",
            ),
            (
                "bare",
                "echo A=1 > config.env",
                "A",
                "line 1: value must be enclosed in single quotes",
            ),
            (
                "planted",
                "ln -s /etc/shadow config.env",
                "A",
                "failed to open environment variable file",
            ),
        ] {
            cluster.apply(&from_file(name, script, key));
            cluster.until(&format!("pod/{name}"), waiting, both);
            cluster.event(name, "Failed", &[why]);
        }
    });
}
