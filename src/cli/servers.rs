//! Speaking, as the administrator, with the servers of a cluster.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use apiserver::members::wire::{MemberList, ROOT, ServerStatus};
use apiserver::trust::wire::TrustList;
use bytes::Bytes;
use client::{HttpApi, HttpConfig, Kubeconfig};
use http::Method;
use serde::de::DeserializeOwned;

use super::DataDir;

/// How long one server may take; the table goes on without it.
const PATIENCE: Duration = Duration::from_secs(5);
/// A change of the members waits for both majorities.
const CHANGE_PATIENCE: Duration = Duration::from_secs(30);
/// All files are written anew.
const LONG_PATIENCE: Duration = Duration::from_secs(3600);

/// Which cluster, and as whom.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Access {
    #[command(flatten)]
    data_dir: DataDir,

    /// The administrator's kubeconfig [default: admin.kubeconfig in the data folder]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// A way to one server.
pub(super) struct Server {
    api: HttpApi,
    url: String,
}

/// Ways to the servers of a cluster.
pub(super) struct Servers {
    kubeconfig: Kubeconfig,
}

impl Access {
    /// Reads the kubeconfig.
    ///
    /// # Errors
    /// When there is none, or it makes no sense.
    pub fn open(&self) -> anyhow::Result<Servers> {
        let own = || self.data_dir.data_dir.join("admin.kubeconfig");
        let path = self.kubeconfig.clone().unwrap_or_else(own);
        let kubeconfig = Kubeconfig::read(&path).with_context(|| {
            format!(
                "cannot read {}: run this on a server that is no witness, as its owner, or name a file with --kubeconfig",
                path.display()
            )
        })?;
        Ok(Servers { kubeconfig })
    }
}

impl Servers {
    /// The first of the servers that the kubeconfig names to answer, and the members as it sees them.
    ///
    /// # Errors
    /// When none does; says why for each.
    pub async fn reachable(&self) -> anyhow::Result<(Server, MemberList)> {
        let mut failures = Vec::new();
        let others = self.kubeconfig.others.iter().map(|other| &other.server);
        for url in std::iter::once(&self.kubeconfig.server).chain(others) {
            let server = self.at(url.clone())?;
            match server.members().await {
                Ok(members) => return Ok((server, members)),
                Err(error) => failures.push(format!("{url}: {error:#}")),
            }
        }
        bail!("no server answers: {}", failures.join("; "))
    }

    /// The server at `HOST:PORT`.
    ///
    /// # Errors
    /// When that makes no sense.
    pub fn address(&self, address: &str) -> anyhow::Result<Server> {
        self.at(format!("https://{address}"))
    }

    fn at(&self, url: String) -> anyhow::Result<Server> {
        let api = HttpApi::new(HttpConfig {
            server: url.clone(),
            others: Vec::new(),
            ..self.kubeconfig.http_config()
        })?;
        Ok(Server { api, url })
    }
}

impl Server {
    /// The members as this server sees them.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub async fn members(&self) -> anyhow::Result<MemberList> {
        self.ask(Method::GET, "members", PATIENCE).await
    }

    /// How this server is.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub async fn status(&self) -> anyhow::Result<ServerStatus> {
        self.ask(Method::GET, "status", PATIENCE).await
    }

    /// The cluster's tokens, keys and authorities, without what is secret of them.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub async fn trust(&self) -> anyhow::Result<TrustList> {
        self.ask(Method::GET, "trust", PATIENCE).await
    }

    /// Has it change something of the cluster; its answer.
    ///
    /// # Errors
    /// The refusal, with its reason.
    pub async fn change<T: DeserializeOwned>(&self, method: Method, path: &str) -> anyhow::Result<T> {
        self.ask(method, path, CHANGE_PATIENCE).await
    }

    /// Has it do something that takes as long as its disk takes; its answer.
    ///
    /// # Errors
    /// The refusal, with its reason.
    pub async fn long_change<T: DeserializeOwned>(&self, method: Method, path: &str) -> anyhow::Result<T> {
        self.ask(method, path, LONG_PATIENCE).await
    }

    /// Has it make a backup, and writes that to `out`.
    ///
    /// # Errors
    /// When it refuses or breaks off, or `out` takes no more.
    pub async fn backup(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let path = format!("{ROOT}/backup");
        let downloaded = self.api.download(&path, |bytes| out.write_all(bytes)).await;
        downloaded.map_err(|status| anyhow::anyhow!("{}: {}", self.url, status.message))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        patience: Duration,
    ) -> anyhow::Result<T> {
        let path = format!("{ROOT}/{path}");
        let asked = tokio::time::timeout(patience, self.api.raw(method, &path, Bytes::new())).await;
        let (code, body) = match asked {
            Ok(answered) => answered.map_err(|status| anyhow::anyhow!("{}", status.message))?,
            Err(_) => bail!("{} did not answer within {} s", self.url, patience.as_secs()),
        };
        if code != 200 {
            let status: Option<api::status::Status> = serde_json::from_slice(&body).ok();
            bail!(
                "{}",
                status.map_or_else(
                    || format!("{} answered with code {code}", self.url),
                    |s| s.message
                )
            );
        }
        serde_json::from_slice(&body).with_context(|| format!("{} gave a strange answer", self.url))
    }
}

/// Prints rows in columns as wide as they must be; the first row is the heading.
pub(super) fn print_table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
