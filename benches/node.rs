//! A node under measurement: the lean binary with its data in the scratch folder.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};

use kit::process;

/// A running `coracle up`; ended, and its traces removed, when dropped.
pub struct Node {
    bin: PathBuf,
    data: PathBuf,
    child: Child,
    /// From exec to the ready line.
    pub started: Duration,
}

impl Node {
    /// Starts a node on an empty folder and waits for its ready line.
    pub fn start(bin: &Path, scratch: &Path, settings: &[&str]) -> anyhow::Result<Self> {
        let data = scratch.join("data");
        let log = std::fs::File::create(scratch.join("node.log"))?;
        let began = Instant::now();
        let mut child = Command::new(bin)
            .arg("up")
            .arg("--data-dir")
            .arg(&data)
            // However full this machine's disk is, it is not what is measured.
            .args(["--eviction-hard", "memory.available<10Mi"])
            .args(settings)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", bin.display()))?;
        let stdout = child.stdout.take().context("its output")?;
        let mut lines = BufReader::new(stdout).lines();
        if !lines.any(|line| line.is_ok_and(|line| line.contains("is ready"))) {
            let log = std::fs::read_to_string(scratch.join("node.log")).unwrap_or_default();
            bail!("the node ended before it was ready: {log}");
        }
        let started = began.elapsed();
        // Nobody reads on: a node that says more must not stop for it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            bin: bin.to_owned(),
            data,
            child,
            started,
        })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time that it has used.
    pub fn cpu(&self) -> Duration {
        process::cpu(self.pid())
    }

    /// Memory by a name from `/proc/PID/status`, in bytes.
    pub fn memory(&self, what: &str) -> u64 {
        process::memory(self.pid(), what)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data.join("admin.kubeconfig")
    }

    /// The files of the certificate that it shows, and of its key.
    pub fn serving(&self) -> [PathBuf; 2] {
        ["pki/serving.crt", "pki/serving.key"].map(|file| self.data.join(file))
    }

    /// A client with the administrator's certificate.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        let file = Kubeconfig::read_from(self.kubeconfig())?;
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// Waits until the node takes pods.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let nodes: Api<NodeObject> = Api::all(self.client().await?);
        for _ in 0..600 {
            let list = nodes.list(&ListParams::default()).await?;
            let is_ready = |node: &NodeObject| {
                let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
                conditions
                    .into_iter()
                    .flatten()
                    .any(|condition| condition.type_ == "Ready" && condition.status == "True")
            };
            if list.iter().any(is_ready) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the node does not become Ready")
    }

    /// Imports an image from a file.
    pub fn import(&self, file: &Path, name: &str, more: &[&str]) -> anyhow::Result<()> {
        let output = Command::new(&self.bin)
            .args(["image", "import"])
            .arg(file)
            .args(["--name", name])
            .args(more)
            .arg("--data-dir")
            .arg(&self.data)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "importing {}: {said}", file.display());
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.child.wait();
        let down = Command::new(&self.bin)
            .args(["down", "--purge", "--data-dir"])
            .arg(&self.data)
            .output();
        if !down.is_ok_and(|down| down.status.success()) {
            eprintln!("coracle down failed");
        }
    }
}
