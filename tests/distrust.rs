//! What is open when the authority of a client's certificate is retired ends in an orderly way; what was proven
//! otherwise goes on.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::rotation::coracle;
use crate::support::manifests::idle_pod;
use crate::support::{Cluster, eventually, sandboxed};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A program that says something for as long as it is answered; ended when dropped.
struct Open {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Open {
    /// Starts it, and waits until it has said something.
    fn begin(command: &mut Command) -> Self {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("a program");
        let lines = BufReader::new(child.stdout.take().expect("what it says"));
        let mut open = Self { child, lines };
        assert!(open.line().is_some(), "{command:?} said nothing");
        open
    }

    /// A watch of the default namespace's ConfigMaps, by these arguments of curl's.
    fn watch(cluster: &Cluster, proof: &[&str]) -> Self {
        let url = format!("https://127.0.0.1:{}{MAPS}?watch=1", cluster.port);
        let mut curl = Command::new("curl");
        Self::begin(curl.args(["-sSkN", "--max-time", "300"]).args(proof).arg(url))
    }

    /// What it says next; `None` when it has ended.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).expect("a line");
        (read > 0).then_some(line)
    }

    /// Waits until it has told of an object of that name.
    fn sees(&mut self, name: &str) {
        loop {
            let line = self.line();
            let line = line.unwrap_or_else(|| panic!("it has ended before it told of {name}"));
            if line.contains(&format!("\"name\":{name:?}")) {
                return;
            }
        }
    }

    /// Waits for its end; whether that was a good one.
    fn ends(mut self) -> bool {
        while self.line().is_some() {}
        self.child.wait().expect("its end").success()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The administrator's certificate and key of now, in files that stay as they are.
fn admin(cluster: &Cluster, name: &str) -> [String; 2] {
    let home = cluster.home();
    ["crt", "key"].map(|part| {
        let unpacked = home.join(format!("admin.{part}"));
        let _ = std::fs::remove_file(&unpacked);
        cluster.admin_files();
        let kept = home.join(format!("{name}.{part}"));
        std::fs::copy(unpacked, &kept).expect("a copy");
        kept.display().to_string()
    })
}

fn trust(dir: &Path, step: &str) {
    let dir = dir.display().to_string();
    coracle(&["trust", step, "authorities", "--data-dir", &dir]);
}

#[test]
fn what_an_old_certificate_has_opened_ends_with_its_authority() {
    sandboxed(|dir| {
        let cluster = Cluster::start(dir, &[]);
        cluster.busybox();
        cluster.ready();
        cluster.apply(&idle_pod("box"));
        cluster.pod_ready("box");
        let token = format!("Authorization: Bearer {}", cluster.editor("jane").trim());
        eventually("something to watch", || {
            cluster.try_ok(&["get", "configmap", "kube-root-ca.crt"])
        });
        let copy = cluster.home().join("copy.kubeconfig");
        std::fs::copy(cluster.dir.join("admin.kubeconfig"), &copy).expect("a copy");
        let copy = copy.display().to_string();
        let [old_crt, old_key] = admin(&cluster, "old");
        let old = ["--cert", &old_crt, "--key", &old_key];

        let exec = ["exec", "box", "--", "sh", "-c", "echo begun; sleep 3000"];
        let exec = [&["--kubeconfig", &copy][..], &exec].concat();
        let command = Open::begin(&mut cluster.kubectl(&exec));
        let together = Open::watch(&cluster, &[&["--http2"], &old[..]].concat());
        let alone = Open::watch(&cluster, &[&["--http1.1"], &old[..]].concat());
        let mut with_token = Open::watch(&cluster, &["-H", &token]);
        trust(&cluster.dir, "prepare");
        trust(&cluster.dir, "activate");
        let [crt, key] = admin(&cluster, "new");
        assert_ne!(
            std::fs::read(&crt).expect("the new one"),
            std::fs::read(&old_crt).expect("the old one")
        );
        let mut with_new = Open::watch(&cluster, &["--cert", &crt, "--key", &key]);
        let mut lasting = Open::watch(&cluster, &old);
        cluster.ok(&["create", "configmap", "before"]);
        lasting.sees("before");

        trust(&cluster.dir, "retire");
        for (what, open) in [("HTTP/2", together), ("HTTP/1.1", alone), ("late", lasting)] {
            assert!(open.ends(), "the watch ({what}) was cut off");
        }
        command.ends();
        cluster.ok(&["create", "configmap", "after"]);
        with_token.sees("after");
        with_new.sees("after");
        // Whoever begins anew with a certificate that counts is served.
        eventually("a command", || cluster.exec("box", &["true"]));
    });
}
