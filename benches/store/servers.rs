//! Who is measured: our store behind its front, and etcd in the versions that are here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kit::process::{self, Peer};

use crate::grpc::Client;
use crate::proto::{RANGE, RangeRequest, RangeResponse, STATUS, StatusRequest, StatusResponse};

/// Who can be measured.
#[derive(Clone, Debug)]
pub struct Contestant {
    /// Its name in the tables.
    pub name: String,
    /// etcd's program; none for our store.
    etcd: Option<PathBuf>,
}

/// Our store, and each etcd among these programs.
pub fn contestants(etcds: &[PathBuf]) -> anyhow::Result<Vec<Contestant>> {
    let mut all = vec![];
    for program in etcds {
        let said = Command::new(program).arg("--version").output();
        let said = said.with_context(|| format!("running {}", program.display()))?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let version = said.lines().find_map(|line| line.strip_prefix("etcd Version: "));
        all.push(Contestant {
            name: format!("etcd {}", version.context("its version")?),
            etcd: Some(program.clone()),
        });
    }
    all.push(Contestant {
        name: "coracle".into(),
        etcd: None,
    });
    Ok(all)
}

/// Running members of one group.
pub struct Servers {
    members: Vec<Member>,
}

struct Member {
    command: Command,
    log: PathBuf,
    /// None between an end and a start.
    process: Option<Peer>,
    address: String,
}

impl Servers {
    /// Starts so many members in folders below `dir`, which is emptied first, and waits until they serve.
    pub async fn start(who: &Contestant, count: usize, dir: &Path) -> anyhow::Result<Servers> {
        let _ = std::fs::remove_dir_all(dir);
        std::fs::create_dir_all(dir)?;
        let mut servers = Servers { members: vec![] };
        for at in 0..count {
            let command = match &who.etcd {
                Some(program) => etcd(program, at, count, dir),
                None => front(at, count, dir, &servers)?,
            };
            let log = dir.join(format!("{at}.log"));
            let mut member = Member {
                command,
                log,
                process: None,
                address: address(at),
            };
            member.start()?;
            servers.members.push(member);
            if who.etcd.is_none() {
                // The next one asks it for its group's id.
                servers.serving(at).await?;
            }
        }
        for at in 0..count {
            servers.serving(at).await?;
        }
        Ok(servers)
    }

    /// Where the leader's clients call.
    pub async fn leader(&self) -> anyhow::Result<String> {
        Ok(self.members[self.leader_at().await?].address.clone())
    }

    /// Where everybody's clients call.
    pub fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|member| member.address.clone()).collect()
    }

    /// A member's id.
    pub async fn id(&self, at: usize) -> anyhow::Result<u64> {
        let status = status(&self.members[at].address).await?;
        Ok(status.header.map_or(0, |header| header.member_id))
    }

    /// Kills a member.
    pub fn kill(&mut self, at: usize) -> anyhow::Result<()> {
        let member = self.members.get_mut(at).context("a member")?;
        member.process = None;
        Ok(())
    }

    /// Starts a member again, and waits until it serves.
    pub async fn restart(&mut self, at: usize) -> anyhow::Result<()> {
        self.members.get_mut(at).context("a member")?.start()?;
        self.serving(at).await
    }

    /// Which member leads.
    pub async fn leader_at(&self) -> anyhow::Result<usize> {
        for (at, member) in self.members.iter().enumerate() {
            let status = status(&member.address).await?;
            if status
                .header
                .is_some_and(|header| header.member_id == status.leader)
            {
                return Ok(at);
            }
        }
        bail!("nobody leads")
    }

    /// CPU time that all members have used.
    pub fn cpu(&self) -> Duration {
        self.pids().map(process::cpu).sum()
    }

    /// Resident memory of the one that has most.
    pub fn memory(&self) -> u64 {
        self.pids()
            .map(|pid| process::memory(pid, "VmRSS"))
            .max()
            .unwrap_or(0)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// Kills the only member and starts it again; how long it took until it answered a read.
    pub async fn crash(&mut self) -> anyhow::Result<Duration> {
        self.kill(0)?;
        let began = Instant::now();
        self.restart(0).await?;
        Ok(began.elapsed())
    }

    fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.members
            .iter()
            .filter_map(|member| Some(member.process.as_ref()?.pid()))
    }

    /// Waits until a member answers reads that only a leader's word allows.
    async fn serving(&self, at: usize) -> anyhow::Result<()> {
        let member = &self.members[at];
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            match read(&member.address).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    let said = std::fs::read_to_string(&member.log).unwrap_or_default();
                    return Err(error.context(format!("{} does not serve: {said}", member.address)));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }
}

impl Member {
    fn start(&mut self) -> anyhow::Result<()> {
        self.process = Some(Peer::start(&mut self.command, &self.log)?);
        Ok(())
    }
}

async fn status(address: &str) -> anyhow::Result<StatusResponse> {
    Client::connect(address)
        .await?
        .call(STATUS, &StatusRequest {})
        .await
}

async fn read(address: &str) -> anyhow::Result<()> {
    let question = RangeRequest {
        key: "nothing".into(),
        ..RangeRequest::default()
    };
    let answer = async {
        Client::connect(address)
            .await?
            .call::<RangeResponse>(RANGE, &question)
            .await
    };
    let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
    answer.context("no answer")?.map(drop)
}

fn address(at: usize) -> String {
    format!("127.0.0.1:{}", 2379 + 10 * at)
}

fn peer_address(at: usize) -> String {
    format!("127.0.0.1:{}", 2380 + 10 * at)
}

fn front(at: usize, count: usize, dir: &Path, others: &Servers) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("front").arg("--dir").arg(dir.join(at.to_string()));
    command.args(["--listen", &address(at)]);
    if count > 1 {
        command.args(["--peers", &peer_address(at)]);
    }
    if let Some(founder) = others.members.first() {
        let cluster = std::fs::read_to_string(&founder.log)?;
        let cluster = cluster.lines().next().unwrap_or_default().trim().to_owned();
        ensure!(!cluster.is_empty(), "the founder did not say its group's id");
        command.args(["--join", &cluster, &founder.address]);
    }
    Ok(command)
}

fn etcd(program: &Path, at: usize, count: usize, dir: &Path) -> Command {
    let url = |address: String| format!("http://{address}");
    let all = (0..count).map(|at| format!("n{at}={}", url(peer_address(at))));
    let (client, peer) = (url(address(at)), url(peer_address(at)));
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(dir.join(at.to_string()));
    for (flag, value) in [
        ("--name", format!("n{at}")),
        ("--listen-client-urls", client.clone()),
        ("--advertise-client-urls", client),
        ("--listen-peer-urls", peer.clone()),
        ("--initial-advertise-peer-urls", peer),
        ("--initial-cluster", all.collect::<Vec<_>>().join(",")),
        ("--logger", "zap".into()),
        ("--log-level", "error".into()),
        // As large as it goes: neither shall refuse.
        ("--quota-backend-bytes", (8u64 << 30).to_string()),
    ] {
        command.args([flag, &value]);
    }
    command
}
