//! Becoming one of several servers.
//!
//! ```text
//! token ─▶ the authority that it names ─▶ POST joins: keys and settings, kept on disk
//!    ─▶ store opens, empty ─▶ POST members: a learner, gets a snapshot ─▶ promotes itself ─▶ voter
//! ```
//! Each step can be done again: a join that was cut short goes on with the next `--join`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use api::status::Status;
use apiserver::members::Standing;
use apiserver::members::wire::{Handover, JoinRequest, NewMember, ROOT, id_text};
use apiserver::pki;
use client::pin::{self, PinError};
use client::{Credentials, HttpApi, HttpConfig};
use http::Method;
use serde::Serialize;
use store::{MemberChange, Store, StoreError};
use tokio::sync::OnceCell;

use super::cluster::Cluster;
use crate::config::Config;

/// Between attempts to reach a server, or to be promoted.
const RETRY: Duration = Duration::from_millis(500);
/// After so many attempts in vain a person is told.
const ATTEMPTS_SILENT: u32 = 10;

/// The server that lets this one in. It is spoken to only if it is needed: a member starts without it.
pub(super) struct Host {
    url: String,
    /// The hash of its authority, as the token names it.
    hash: String,
    token: String,
    api: OnceCell<HttpApi>,
}

/// The server that `--join` names. The token must be one for servers, and of the cluster that the data folder
/// belongs to, if it belongs to one.
fn host(url: &str, config: &Config) -> anyhow::Result<Host> {
    let Some(file) = &config.token_file else {
        bail!("--join needs --token-file: the file server-token in the data folder of that server");
    };
    let token = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the token in {}", file.display()))?;
    let token = token.trim().to_owned();
    let Some(hash) = pin::ca_hash(&token, "server").map(str::to_owned) else {
        bail!(
            "{} holds no server token: take the file server-token of a server's data folder",
            file.display()
        );
    };
    if pki::has_authority(&config.data_dir, &hash)? == Some(false) {
        bail!(
            "{} belongs to another cluster than the one to join: give another --data-dir, or start without --join",
            config.data_dir.display()
        );
    }
    Ok(Host {
        url: url.to_owned(),
        hash,
        token,
        api: OnceCell::new(),
    })
}

async fn pause(attempts: &mut u32, error: &dyn std::fmt::Display) {
    *attempts += 1;
    if *attempts % ATTEMPTS_SILENT == 1 {
        tracing::warn!("cannot join yet, trying on: {error}");
    }
    tokio::time::sleep(RETRY).await;
}

impl Host {
    /// Connects to the server, which must have the authority that the token names.
    async fn connect(&self) -> anyhow::Result<HttpApi> {
        let mut attempts = 0;
        let ca_pem = loop {
            match pin::fetch_ca(&self.url, &self.hash).await {
                Ok(pem) => break pem,
                Err(error @ PinError::Unreachable(..)) => pause(&mut attempts, &error).await,
                Err(error) => return Err(error).with_context(|| format!("cannot join {}", self.url)),
            }
        };
        let credentials = Credentials {
            token: self.token.clone(),
            ..Credentials::default()
        };
        Ok(HttpApi::new(HttpConfig {
            server: self.url.clone(),
            ca_pem,
            credentials,
            ..HttpConfig::default()
        })?)
    }

    /// Asks until there is an answer; a refusal is final.
    async fn ask(&self, path: &str, question: &impl Serialize) -> anyhow::Result<bytes::Bytes> {
        let body: bytes::Bytes = serde_json::to_vec(question)?.into();
        let api = self.api.get_or_try_init(|| self.connect()).await?;
        let path = format!("{ROOT}/{path}");
        let mut attempts = 0;
        loop {
            let status = match api.raw(Method::POST, &path, body.clone()).await {
                Ok((200, answer)) => return Ok(answer),
                Ok((code, answer)) => refusal(code, &answer),
                Err(status) => status,
            };
            match status.code {
                401 => bail!(
                    "{} does not accept this token: take what stands in server-token in its data folder now",
                    self.url
                ),
                429 | 500.. => pause(&mut attempts, &status).await,
                _ => bail!("{} refused: {}", self.url, status.message),
            }
        }
    }
}

fn refusal(code: u16, body: &[u8]) -> Status {
    serde_json::from_slice(body)
        .unwrap_or_else(|_| Status::new(code, "", format!("it answered with code {code}")))
}

/// Gets what the node needs to be one of several servers, unless it has it; `None` if it is not to join, and
/// never did.
///
/// # Errors
/// When it is refused, or the folder belongs to another cluster.
pub(super) async fn prepare(
    config: &mut Config,
    address: &str,
) -> anyhow::Result<(Option<Cluster>, Option<Host>)> {
    let dir = config.data_dir.clone();
    let host = match &config.join {
        Some(url) => Some(host(url, config)?),
        None => None,
    };
    let known = Cluster::read(&dir)?;
    let lacks = match known.as_ref().is_some_and(|cluster| cluster.witness.is_some()) {
        true => pki::witness::missing(&dir),
        false => pki::missing(&dir),
    };
    let cluster = match (known, &host) {
        (Some(cluster), _) if lacks.is_none() => Some(cluster),
        // The first server of a cluster needs nothing from itself, nor from those who joined it.
        (None, _) if has_log(&dir) => None,
        (_, Some(host)) => Some(receive(host, config, address).await?),
        (None, None) => None,
        (Some(_), None) => bail!(
            "{} was left behind by a join that was cut short: start it again with --join and --token-file",
            dir.display()
        ),
    };
    if let Some(cluster) = &cluster {
        cluster.apply(config)?;
        if config.witness && cluster.witness.is_none() {
            bail!(
                "{} is a full server's: leave out --witness, or join with an empty --data-dir",
                dir.display()
            );
        }
        config.witness = cluster.witness.is_some();
        config.check().map_err(anyhow::Error::msg)?;
    }
    if config.witness && cluster.is_none() {
        bail!(
            "a witness begins no cluster: name a server with --join and --token-file, and an empty --data-dir"
        );
    }
    Ok((cluster, host))
}

/// Whether the folder has a log. An empty `raft` is none: it may be a disk that is ready for one.
fn has_log(dir: &Path) -> bool {
    let entries = std::fs::read_dir(dir.join("raft"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .map(|entry| entry.path())
        .any(|path| path.extension().is_some_and(|extension| extension == "log"))
}

async fn receive(host: &Host, config: &Config, address: &str) -> anyhow::Result<Cluster> {
    let asked = JoinRequest {
        name: config.node_name.clone(),
        address: address.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        id: String::new(),
        witness: config.witness,
    };
    let answer: Handover = serde_json::from_slice(&host.ask("joins", &asked).await?)
        .with_context(|| format!("{} gave an answer that is not understood", host.url))?;
    let mut cluster = Cluster::new(answer.cluster, answer.settings)?;
    cluster.witness = config.witness.then(|| host.url.clone());
    cluster.write(&config.data_dir)?;
    match config.witness {
        true => pki::witness::take_over(&config.data_dir, &answer.files),
        false => pki::take_over(&config.data_dir, &answer.files),
    }?;
    Ok(cluster)
}

/// Has the others take this server in, if they have not yet.
///
/// # Errors
/// When they refuse, or nobody could be asked.
pub(super) async fn register(
    host: Option<&Host>,
    store: &Store,
    config: &Config,
    address: &str,
) -> anyhow::Result<()> {
    if Standing::of(&store.status().await?) != Standing::Newcomer {
        return Ok(());
    }
    let Some(host) = host else {
        bail!("this server has not been taken in yet: start it again with --join and --token-file");
    };
    let new = NewMember {
        id: id_text(store.member()),
        name: config.node_name.clone(),
        address: address.to_owned(),
        witness: config.witness,
    };
    host.ask("members", &new).await?;
    tracing::info!(address, "taken in as a learner, waiting for the cluster's state");
    let mut attempts = 0;
    while Standing::of(&store.status().await?) == Standing::Newcomer {
        tokio::time::sleep(RETRY).await;
        attempts += 1;
        if attempts % (2 * ATTEMPTS_SILENT) == 0 {
            tracing::warn!("no state has come yet: can the other servers reach this one at {address}?");
        }
    }
    let status = store.status().await?;
    let known = status
        .peers
        .iter()
        .any(|peer| peer.id == status.member && peer.witness);
    if known != config.witness {
        bail!(
            "{} has taken this server in, but not as a witness: its version knows none. Remove this server with \
             `coracle member remove {}`, upgrade the others, and join with an empty data folder",
            host.url,
            config.node_name
        );
    }
    Ok(())
}

/// Promotes this server once it has caught up.
///
/// # Errors
/// When the store has ended.
pub(super) async fn become_voter(store: Store) -> Result<(), StoreError> {
    while Standing::of(&store.status().await?) == Standing::Learner {
        match store.change_members(MemberChange::Promote(store.member())).await {
            Ok(()) => tracing::info!("this server is a voter now"),
            Err(error @ (StoreError::Closed | StoreError::Stopped(_) | StoreError::Removed)) => {
                return Err(error);
            }
            // It has not caught up, or another change is under way, or nobody leads at this moment.
            Err(error) => tracing::debug!(%error, "not promoted yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
    Ok(())
}
