//! How long writes pause when the leader of three servers is killed, and when leadership is handed over in order.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use api::request::{Request, ResourceRef, User, Verb};
use client::{Api, HttpApi, HttpConfig, Kubeconfig};
use http::Method;

use crate::pauses::{self, Answered, Pause};
use crate::sandbox::{NODE_IP, run};
use crate::table;

const SERVERS: usize = 3;
const WRITERS: usize = 4;
/// Pause of a client between two attempts.
const RETRY: Duration = Duration::from_millis(5);
/// Longest time for anything to happen.
const PATIENCE: Duration = Duration::from_secs(60);
const MEMBERS: &str = "/apis/coracle.dev/v1/members";

/// Prints the table.
pub async fn measure(bin: &Path, scratch: &Path, trials: usize) -> anyhow::Result<()> {
    let mut servers = Servers::start(bin, scratch).await?;
    let work = Work::start(&servers)?;
    let (mut killed, mut handed_over) = (vec![], vec![]);
    for _ in 0..trials {
        let leader = servers.leader().await?;
        killed.push(work.pause(async || servers.kill(leader)).await?);
        servers.restart(leader)?;
        servers.until_voting(leader).await?;
        let heir = (servers.leader().await? + 1) % SERVERS;
        handed_over.push(work.pause(async || servers.hand_over(heir)).await?);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    work.stop.store(true, Ordering::Relaxed);
    let mut head = vec!["what"];
    head.extend(pauses::HEAD);
    let mut rows = vec![];
    for (what, pauses) in [("leader killed", killed), ("leadership handed over", handed_over)] {
        let mut row = vec![what.to_owned()];
        row.extend(pauses::row(&pauses));
        rows.push(row);
    }
    let title = format!(
        "{SERVERS} servers, {WRITERS} clients that create ConfigMaps, {trials} trials each: longest time without \
         an answer"
    );
    table::print(&title, &head, &rows);
    Ok(())
}

/// Clients at work.
struct Work {
    stop: Arc<AtomicBool>,
    answered: Answered,
}

impl Work {
    fn start(servers: &Servers) -> anyhow::Result<Self> {
        let work = Work {
            stop: Arc::default(),
            answered: Answered::default(),
        };
        for writer in 0..WRITERS {
            let (stop, answered) = (work.stop.clone(), work.answered.clone());
            tokio::spawn(write(servers.client(writer % SERVERS)?, writer, stop, answered));
        }
        Ok(work)
    }

    /// Lets something happen, and waits until every client writes again.
    async fn pause(&self, event: impl AsyncFnOnce() -> anyhow::Result<()>) -> anyhow::Result<Pause> {
        let began = Instant::now();
        event().await?;
        loop {
            if let Some(pause) = self.answered.pause(began, WRITERS) {
                return Ok(pause);
            }
            ensure!(began.elapsed() < PATIENCE, "writes do not go on");
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Makes one object after the other, each until it certainly is there.
async fn write(api: HttpApi, writer: usize, stop: Arc<AtomicBool>, answered: Answered) {
    let place = ResourceRef::new("", "v1", "configmaps");
    let mut create = Request::new(User::anonymous(), Verb::Create, place, "default", "");
    for number in 0.. {
        create.body = format!(r#"{{"metadata":{{"name":"w{writer}-{number}"}}}}"#).into();
        loop {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            match api.call(create.clone()).await {
                Ok(_) => break,
                // An earlier attempt that was not answered.
                Err(status) if status.is_already_exists() => break,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
        answered.note(writer);
    }
}

/// Servers side by side, each with an address of its own.
struct Servers {
    bin: PathBuf,
    scratch: PathBuf,
    processes: Vec<Child>,
}

impl Servers {
    async fn start(bin: &Path, scratch: &Path) -> anyhow::Result<Self> {
        let mut servers = Servers {
            bin: bin.to_owned(),
            scratch: scratch.to_owned(),
            processes: vec![],
        };
        for at in 0..SERVERS {
            if at > 0 {
                run(
                    "ip",
                    &["addr", "add", &format!("{}/24", address(at)), "dev", "lan0"],
                )?;
            }
            let process = servers.process(at)?;
            servers.processes.push(process);
            servers.until_voting(at).await?;
        }
        Ok(servers)
    }

    fn data(&self, at: usize) -> PathBuf {
        self.scratch.join(name(at))
    }

    fn process(&self, at: usize) -> anyhow::Result<Child> {
        let log = std::fs::File::create(self.scratch.join(format!("{}.log", name(at))))?;
        let mut command = Command::new(&self.bin);
        command.arg("server").arg("--data-dir").arg(self.data(at));
        command.args(["--node-name", &name(at), "--advertise-address", &address(at)]);
        command.args(["--listen", &format!("{}:6443", address(at))]);
        if at > 0 {
            let token = self.data(0).join("server-token");
            command.args(["--join", &url(0), "--token-file"]).arg(token);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
            .spawn()
            .with_context(|| format!("starting {}", self.bin.display()))
    }

    /// A client that begins at one server and knows them all.
    fn client(&self, first: usize) -> anyhow::Result<HttpApi> {
        let kubeconfig = Kubeconfig::read(&self.data(0).join("admin.kubeconfig"))?;
        Ok(HttpApi::new(HttpConfig {
            server: url(first),
            others: (0..SERVERS).map(url).collect(),
            ..kubeconfig.http_config()
        })?)
    }

    /// The members as any server shows them.
    async fn members(&self) -> anyhow::Result<Vec<serde_json::Value>> {
        let (_, body) = self
            .client(0)?
            .raw(Method::GET, MEMBERS, Default::default())
            .await?;
        let list: serde_json::Value = serde_json::from_slice(&body)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Waits for a member for which this holds.
    async fn until(&self, what: &str, holds: impl Fn(&serde_json::Value) -> bool) -> anyhow::Result<usize> {
        let began = Instant::now();
        loop {
            let members = self.members().await;
            let found = members.iter().flatten().find(|member| holds(member));
            if let Some(found) = found {
                let at = (0..SERVERS).find(|at| found["name"] == name(*at));
                return at.context("a member that nobody started");
            }
            if began.elapsed() > PATIENCE {
                bail!("{what}: {members:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_voting(&self, at: usize) -> anyhow::Result<()> {
        let name = name(at);
        let votes = |member: &serde_json::Value| member["name"] == name && member["role"] == "voter";
        self.until("a voter", votes).await.map(drop)
    }

    async fn leader(&self) -> anyhow::Result<usize> {
        self.until("a leader", |member| member["leader"] == true).await
    }

    fn kill(&mut self, at: usize) -> anyhow::Result<()> {
        self.processes[at].kill()?;
        self.processes[at].wait()?;
        Ok(())
    }

    fn restart(&mut self, at: usize) -> anyhow::Result<()> {
        self.processes[at] = self.process(at)?;
        Ok(())
    }

    fn hand_over(&self, to: usize) -> anyhow::Result<()> {
        let mut command = Command::new(&self.bin);
        command
            .args(["member", "transfer-leader", &name(to), "--data-dir"])
            .arg(self.data(to));
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn name(at: usize) -> String {
    format!("server-{at}")
}

fn address(at: usize) -> String {
    match at {
        0 => NODE_IP.to_owned(),
        _ => format!("192.0.2.{}", 10 + at),
    }
}

fn url(at: usize) -> String {
    format!("https://{}:6443", address(at))
}
