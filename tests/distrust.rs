//! What is open when the authority of a client's certificate is retired ends in an orderly way; what was proven
//! otherwise goes on.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::proxies::{endpoints, service};
use crate::rotation::{coracle, nodes_have_taken_up};
use crate::support::hosts::{Host, Place};
use crate::support::manifests::idle_pod;
use crate::support::sandbox::NODE_IP;
use crate::support::servers::Servers;
use crate::support::{Cluster, eventually, has, sandboxed};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Where a program answers that has always something more to say.
const PORT: u16 = 8098;
const TALKER: &str = "/api/v1/namespaces/default/services/talker:web/proxy";

/// A program that says something for as long as it is answered; ended when dropped.
struct Open {
    child: Child,
    lines: BufReader<ChildStdout>,
    /// Held, so that it does not take the end of what it is told for the end of everything.
    told: Option<ChildStdin>,
}

impl Open {
    /// Starts it, and waits until it has said something.
    fn begin(command: &mut Command) -> Self {
        Self::told(command, "")
    }

    /// The same for one that is told something first.
    fn told(command: &mut Command, words: &str) -> Self {
        let command = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("a program");
        let lines = BufReader::new(child.stdout.take().expect("what it says"));
        let mut told = child.stdin.take();
        if let Some(stdin) = &mut told {
            stdin.write_all(words.as_bytes()).expect("somebody who listens");
        }
        let mut open = Self { child, lines, told };
        assert!(open.line().is_some(), "{command:?} said nothing");
        open
    }

    /// A program of kubectl's, by that kubeconfig.
    fn kubectl(cluster: &Cluster, kubeconfig: &str, args: &[&str]) -> Self {
        let args = [&["--kubeconfig", kubeconfig][..], args].concat();
        Self::begin(&mut cluster.kubectl(&args))
    }

    /// What the talker says through the proxy, by these arguments of curl's.
    fn proxied(cluster: &Cluster, proof: &[&str]) -> Self {
        let url = format!("https://127.0.0.1:{}{TALKER}/", cluster.port);
        let mut curl = Command::new("curl");
        Self::begin(curl.args(["-sSkN", "--max-time", "300"]).args(proof).arg(url))
    }

    /// The same in a protocol of its own, to which the connection changes.
    fn changed_over(cluster: &Cluster, crt: &str, key: &str) -> Self {
        let server = format!("127.0.0.1:{}", cluster.port);
        let mut openssl = Command::new("openssl");
        openssl.args([
            "s_client", "-quiet", "-connect", &server, "-cert", crt, "-key", key,
        ]);
        let request =
            format!("GET {TALKER}/ HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: talk\r\n\r\n");
        let mut open = Self::told(&mut openssl, &request);
        while open.line().expect("the talker's words").trim() != "talk" {}
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
        drop(self.told.take());
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

/// Answers whoever asks, in whatever protocol is asked for, with words that have no end.
fn talk() {
    let listener = TcpListener::bind((NODE_IP, PORT)).expect("the sandbox's address");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || answer(stream));
    }
}

fn answer(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().expect("the same stream"));
    let (mut line, mut head) = (String::new(), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    while reader.read_line(&mut line).unwrap_or(0) > 2 {
        if line.to_lowercase().starts_with("upgrade:") {
            head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: talk\r\n\r\n";
        }
        line.clear();
    }
    let mut said = stream.write_all(head.as_bytes());
    while said.is_ok() {
        std::thread::sleep(Duration::from_millis(50));
        said = stream.write_all(b"talk\n");
    }
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

        std::thread::spawn(talk);
        cluster.apply(&service(
            "talker",
            &json!({"name": "web", "port": 80, "targetPort": PORT}),
        ));
        cluster.apply(&endpoints("talker", &json!({"name": "web", "port": PORT})));
        eventually("a word through the proxy", || {
            has(
                &cluster.curled(&["-N", "--max-time", "2"], &format!("{TALKER}/")),
                &["talk\n"],
            )
        });

        let exec = ["exec", "box", "--", "sh", "-c", "echo begun; sleep 3000"];
        let command = Open::kubectl(&cluster, &copy, &exec);
        let forward = Open::kubectl(&cluster, &copy, &["port-forward", "pod/box", "0:80"]);
        let over = Open::changed_over(&cluster, &old_crt, &old_key);
        let proxied = ["--http2", "--http1.1"].map(|version| {
            let proof = [&[version][..], &old[..]].concat();
            Open::proxied(&cluster, &proof)
        });
        let mut with_token_proxied = Open::proxied(&cluster, &["-H", &token]);
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
        forward.ends();
        over.ends();
        for open in proxied {
            open.ends();
        }
        // What it has said by now is read at once, what it says from now on as it comes.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(1) {
            with_token_proxied.line().expect("the talker still talks");
        }
        cluster.ok(&["create", "configmap", "after"]);
        with_token.sees("after");
        with_new.sees("after");
        // Whoever begins anew with a certificate that counts is served.
        eventually("a command", || cluster.exec("box", &["true"]));
    });
}

/// The connections to the API that a host has, by their ports on it.
fn connections(host: &Host) -> BTreeSet<String> {
    let args = ["-tnH", "state", "established", "dst", &format!("{NODE_IP}:6443")];
    let said = host.run("ss", &args).expect("ss");
    let ports = said.lines().filter_map(|line| line.split_whitespace().nth(2));
    ports.map(str::to_owned).collect()
}

#[test]
fn an_agent_is_cut_off_with_its_old_certificate_and_comes_again_with_its_new_one() {
    sandboxed(|dir| {
        let servers = Servers::start(dir, 1);
        let edge = servers.net.add("edge", Place::Lan);
        let file = servers.token().replace("server-token", "agent-token");
        let args = ["--server", &servers.url(0), "--token-file", &file].map(str::to_owned);
        let agent = Cluster::start_on(&edge, "agent", &args.each_ref().map(String::as_str));
        agent.busybox();
        let cluster = &servers.all[0];
        cluster.ready();
        cluster.apply(&idle_pod("box"));
        cluster.pod_ready("box");
        eventually("exec over the agent's link", || cluster.exec("box", &["true"]));
        let certificate = || std::fs::read_to_string(agent.dir.join("pki/agent.crt")).expect("a certificate");
        let (before, old) = (connections(&edge), certificate());
        assert!(!before.is_empty(), "the agent has dialled");

        for step in ["prepare", "activate"] {
            trust(&cluster.dir, step);
            nodes_have_taken_up(&servers);
        }
        assert_ne!(certificate(), old, "the new authority has signed");
        trust(&cluster.dir, "retire");
        eventually("the end of what the old certificate has opened", || {
            let now = connections(&edge);
            match now.is_disjoint(&before) && !now.is_empty() {
                true => Ok(()),
                false => Err(format!("{now:?} of {before:?}")),
            }
        });
        eventually("exec over another link", || cluster.exec("box", &["true"]));
        cluster.ready();
        cluster.until("pod/box", "{.status.containerStatuses[0].restartCount}", "0");
    });
}
