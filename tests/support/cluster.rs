//! A running `coracle up` and what can be done with it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::hosts::Host;
use super::manifests::BUSYBOX;
use super::said::{both, feed_raw, said};
use super::tools::{self, coracle};
use super::{PATIENCE, eventually, images, program};

/// A one-node cluster; ended when dropped.
pub struct Cluster {
    /// Its data folder.
    pub dir: PathBuf,
    /// The port of its API.
    pub port: u16,
    verb: &'static str,
    args: Vec<String>,
    child: Child,
    kubectl: PathBuf,
    /// Where it runs, if not in the sandbox.
    host: Option<Arc<Host>>,
}

impl Cluster {
    /// Starts a cluster with its data below `dir` and waits until it is ready.
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        Self::start_as("up", dir.join("data"), args)
    }

    /// Starts a process of one role (`up`, `server`, `agent`) with its data in
    /// `data` and waits until it is ready. Only those with a control plane have
    /// a kubeconfig for kubectl.
    pub fn start_as(verb: &'static str, data: PathBuf, args: &[&str]) -> Self {
        Self::start_at(None, verb, data, args)
    }

    /// Starts a process of one role on a host, which names its folder and its node, and waits until it
    /// is ready.
    pub fn start_on(host: &Arc<Host>, verb: &'static str, args: &[&str]) -> Self {
        Self::start_at(Some(host.clone()), verb, host.data(), args)
    }

    fn start_at(host: Option<Arc<Host>>, verb: &'static str, data: PathBuf, args: &[&str]) -> Self {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let port = args
            .iter()
            .position(|a| a == "--listen")
            .and_then(|at| args[at + 1].parse().ok());
        std::fs::create_dir_all(data.with_file_name("home")).expect("a home for kubectl");
        let child = spawn(host.as_deref(), verb, &data, &args);
        let (_, kubectl) = tools::kubectls().into_iter().next_back().expect("a kubectl");
        Self {
            dir: data,
            port: port.unwrap_or(6443),
            verb,
            args,
            child,
            kubectl,
            host,
        }
    }

    /// Starts a cluster, waits for its node, and imports busybox and the Wasm guests.
    pub fn stocked(dir: &Path, args: &[&str]) -> Self {
        let cluster = Self::start(dir, args);
        cluster.busybox();
        cluster.guests();
        cluster.ready();
        cluster
    }

    /// Imports busybox as [`super::manifests::BUSYBOX`].
    pub fn busybox(&self) {
        let file = images::busybox_rootfs(&self.home());
        self.import(&file, &["--name", BUSYBOX, "--entrypoint", "sh"]);
    }

    /// Imports the Wasm guests as `local/hello-http:1` and so on.
    pub fn guests(&self) {
        for name in ["hello-http", "hello-cli", "hello-cli.module", "tcp-echo"] {
            let image = format!("local/{}:1", name.replace('.', "-"));
            self.import(&tools::guest(&format!("{name}.wasm")), &["--name", &image]);
        }
    }

    /// A folder for kubectl's caches and files of the scenario.
    pub fn home(&self) -> PathBuf {
        self.dir.with_file_name("home")
    }

    /// What the process has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(program::log_file(&self.dir)).unwrap_or_default()
    }

    /// Ends the process as a power cut would: no signal handler runs.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Asks the process to end and waits until it has.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        self.child.wait().expect("wait");
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("a process");
    }

    /// How the process ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a process")
    }

    /// Starts the process again in the same folder.
    pub fn restart(&mut self) {
        self.child = spawn(self.host.as_deref(), self.verb, &self.dir, &self.args);
    }

    /// Starts the process again in the same folder, from now on with other arguments.
    pub fn restart_with(&mut self, args: &[String]) {
        self.args = args.to_vec();
        self.restart();
    }

    /// Starts the process again without waiting for anything: it may need others to become ready.
    pub fn relaunch(&mut self) {
        self.child = launch(self.host.as_deref(), self.verb, &self.dir, &self.args);
    }

    /// The same, from now on with other arguments.
    pub fn relaunch_with(&mut self, args: &[String]) {
        self.args = args.to_vec();
        self.relaunch();
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The same cluster through another kubectl.
    pub fn with(&mut self, kubectl: &Path) {
        self.kubectl = kubectl.to_owned();
    }

    /// A kubectl command, to be completed.
    pub fn kubectl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        let args = args.iter().map(|arg| patient(arg, super::slowness()));
        self.dress(command.args(args).stdin(Stdio::null()));
        command
    }

    /// Gives a command, which runs in the sandbox, the environment in which kubectl finds this cluster.
    pub fn dress<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.home())
    }

    /// The administrator's kubeconfig, good in the sandbox: the original leads to the loopback address, and the
    /// certificate of a server whose clock is wrong may be none yet, or none any more.
    fn kubeconfig(&self) -> PathBuf {
        let original = self.dir.join("admin.kubeconfig");
        let Some(host) = self.host.as_ref().filter(|host| !host.is_sandbox()) else {
            return original;
        };
        let moved = self.home().join(format!("{}.kubeconfig", host.name));
        if let Ok(text) = std::fs::read_to_string(&original) {
            let mut text = text.replace("127.0.0.1", &host.ip);
            if !host.is_on_time() {
                let authority = |line: &str| line.trim_start().starts_with("certificate-authority-data:");
                let lines = text.lines().map(|line| match authority(line) {
                    true => "    insecure-skip-tls-verify: true",
                    false => line,
                });
                text = lines.collect::<Vec<_>>().join("\n");
            }
            std::fs::write(&moved, text).expect("a kubeconfig");
        }
        moved
    }

    /// Runs kubectl; its output, whatever its exit code.
    ///
    /// Some releases throw away what they hear before they listen on all channels of an `exec`, say so on standard
    /// error alone, and end well (kubernetes/kubernetes#131189): they are asked again.
    pub fn run(&self, args: &[&str]) -> Output {
        loop {
            let output = self.kubectl(args).output().expect("kubectl");
            let said = String::from_utf8_lossy(&output.stderr);
            if !said.contains("discarding message") {
                return output;
            }
            eprintln!(
                "kubectl {} lost something and is asked again: {said}",
                args.join(" ")
            );
        }
    }

    /// Runs kubectl, which must succeed; its standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        self.try_ok(args)
            .unwrap_or_else(|why| panic!("kubectl {}: {why}", args.join(" ")))
    }

    /// Runs kubectl; its standard output, or what it said on standard error.
    pub fn try_ok(&self, args: &[&str]) -> Result<String, String> {
        said(self.run(args))
    }

    /// Runs kubectl, which must fail; its standard error.
    pub fn refused(&self, args: &[&str]) -> String {
        match self.try_ok(args) {
            Ok(said) => panic!("kubectl {} was not refused: {said}", args.join(" ")),
            Err(why) => why,
        }
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) -> String {
        self.feed(&["apply", "-f", "-"], manifest)
            .unwrap_or_else(|why| panic!("apply: {why}\n{manifest}"))
    }

    /// Runs kubectl with `input` on its standard input.
    pub fn feed(&self, args: &[&str], input: &str) -> Result<String, String> {
        said(feed_raw(self.kubectl(args), input))
    }

    /// Runs kubectl; everything it said, on standard output and then on standard error.
    pub fn run_both(&self, args: &[&str]) -> String {
        both(&self.run(args))
    }

    /// A field of an object by JSONPath, such as `{.status.phase}`.
    pub fn field(&self, object: &str, path: &str) -> Result<String, String> {
        self.try_ok(&["get", object, "-o", &format!("jsonpath={path}")])
    }

    /// Waits until a field has a value.
    pub fn until(&self, object: &str, path: &str, wanted: &str) {
        eventually(&format!("{object} {path} = {wanted}"), || {
            let found = self.field(object, path)?;
            if found == wanted {
                Ok(())
            } else {
                Err(format!("it is {found:?}"))
            }
        });
    }

    /// Waits for the node to be Ready.
    pub fn ready(&self) {
        eventually("a Ready node", || {
            let found = self.try_ok(&["get", "nodes", "--no-headers"])?;
            if found.contains(" Ready ") {
                Ok(())
            } else {
                Err(found)
            }
        });
    }

    /// Imports an image.
    pub fn import(&self, file: &Path, args: &[&str]) -> String {
        let file = file.to_str().expect("a plain path");
        self.image(&[&["import", file], args].concat())
            .unwrap_or_else(|why| panic!("importing {file}: {why}"))
    }

    /// Runs `coracle image`.
    pub fn image(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(coracle());
        command.arg("image").args(args).arg("--data-dir").arg(&self.dir);
        said(self.output(&mut command))
    }

    /// Runs `coracle down`.
    pub fn down(&self) -> Result<String, String> {
        let mut command = Command::new(coracle());
        said(self.output(command.args(["down", "--data-dir"]).arg(&self.dir)))
    }

    /// Runs a command where the process runs.
    fn output(&self, command: &mut Command) -> Output {
        match &self.host {
            Some(host) => host.output(command),
            None => command.output().expect("coracle"),
        }
    }

    /// Shows what helps to understand a failure.
    fn explain(&self) {
        for args in [
            &[
                "get",
                "nodes,deployments,replicasets,pods,services,endpointslices",
                "-A",
                "-o",
                "wide",
            ][..],
            &["get", "events", "-A", "--sort-by=.lastTimestamp"],
            &["describe", "pods"],
        ] {
            let out = self.run(&[args, &["--request-timeout=5s"]].concat());
            eprintln!(
                "--- kubectl {}\n{}",
                args.join(" "),
                String::from_utf8_lossy(&out.stdout)
            );
        }
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        eprintln!(
            "--- the last of what coracle logged\n{}",
            lines[lines.len().saturating_sub(60)..].join("\n")
        );
    }

    /// Reads a URL with curl; the body, or why there is none.
    pub fn curl(&self, url: &str) -> Result<String, String> {
        curl(&["--max-time", "5", url])
    }
}

/// An argument, with a longer time to wait where things take longer.
fn patient(arg: &str, slowness: u32) -> String {
    let seconds = arg
        .strip_prefix("--timeout=")
        .and_then(|time| time.strip_suffix('s'));
    match seconds.and_then(|seconds| seconds.parse::<u32>().ok()) {
        Some(seconds) => format!("--timeout={}s", seconds * slowness),
        None => arg.to_owned(),
    }
}

/// Runs curl, quiet and failing on HTTP errors.
pub fn curl(args: &[&str]) -> Result<String, String> {
    said(
        Command::new("curl")
            .args(["-sS", "-f"])
            .args(args)
            .output()
            .expect("curl"),
    )
}

/// Starts `coracle VERB` and waits for its ready line.
fn spawn(host: Option<&Host>, verb: &str, data: &Path, args: &[String]) -> Child {
    let mut child = launch(host, verb, data, args);
    let stdout = child.stdout.take().expect("stdout");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            eprintln!("[coracle] {line}");
            // The receiver is gone once the ready line has come.
            let _ = sender.send(line);
        }
    });
    loop {
        match receiver.recv_timeout(PATIENCE * super::slowness()) {
            Ok(line) if line.contains("is ready") => return child,
            Ok(_) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = child.wait();
                let log = std::fs::read_to_string(program::log_file(data)).unwrap_or_default();
                panic!("coracle ended before it was ready: {status:?}\n{log}");
            }
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("coracle was not ready within {PATIENCE:?}"),
        }
    }
}

/// Starts the program on that host, or in the sandbox.
fn launch(host: Option<&Host>, verb: &str, data: &Path, args: &[String]) -> Child {
    let mut command = program::command(verb, data, args);
    match host {
        Some(host) => host.spawn(&mut command),
        None => command.spawn().expect("coracle"),
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.explain();
        }
        // Asked first, so that a passing scenario also shows that it can end.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Err(why) = self.down() {
            eprintln!("coracle down: {why}");
        }
    }
}
