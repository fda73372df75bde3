//! The agent's side of a node: in the server's process, or joined to one elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent::servers::Follower;
use agent::{Agent, AgentConfig, JoinConfig};
use anyhow::{Context, bail};
use api::cidr::Addresses;
use api::request::User;
use apiserver::ApiServer;
use apiserver::pki::{Pki, PkiError};
use base::{Backoff, OnError, SystemRandom, Tasks};
use client::{Client, Credentials, HttpApi, HttpConfig};

use crate::config::Config;
use crate::folder::Folder;

/// Between attempts to join a server that is not there.
const JOIN_RETRY: Duration = Duration::from_millis(500);
const JOIN_RETRY_MAX: Duration = Duration::from_secs(10);

/// How often a server makes its own node a new certificate; one is good for a year.
const RENEW_EVERY: Duration = Duration::from_secs(30 * 86_400);

/// Files that a node opens for itself.
const OWN_FILES: u64 = 1024;
/// Files that stay open for a pod: what it listens on. An OCI pod has a process
/// of its own that holds its files, and needs no more here either.
const FILES_PER_POD: u64 = 1;
/// What Kubernetes' own agent takes, whatever the machine is like.
const PODS_LEAST: u32 = 110;

/// No more pods than the process may have files for: without files it could
/// not go on writing its state.
fn pods_that_fit(wanted: u32) -> u32 {
    let Ok(files) = sys::process::raise_open_files() else {
        return wanted;
    };
    let fit = u32::try_from(files.saturating_sub(OWN_FILES) / FILES_PER_POD).unwrap_or(u32::MAX);
    let fit = fit.max(PODS_LEAST);
    if fit < wanted {
        tracing::warn!(
            wanted,
            fit,
            files,
            "fewer pods than max-pods: raise the hard limit of open files"
        );
    }
    wanted.min(fit)
}

/// What the agent is told.
pub(super) fn settings(config: &Config, folder: &Folder, node_ip: Addresses) -> AgentConfig {
    let mut settings = AgentConfig::new(
        &config.node_name,
        folder.path.clone(),
        &folder.instance_id,
        node_ip.primary(),
    );
    settings.node_ip6 = node_ip.family(true);
    settings.pod_routing = config.pod_routing;
    settings.service_proxy = config.service_proxy;
    settings.pod_cidr = config.pod_cidr.to_string();
    settings.service_cidr = config.service_cidr.to_string();
    settings.dns_ip = config.dns_ip();
    settings.domain.clone_from(&config.cluster_domain);
    settings.images.clone_from(&config.images);
    settings.timing.crash_base = config.crash_back_off;
    settings.pods_max = pods_that_fit(config.max_pods);
    settings.limits.clone_from(&config.limits);
    settings.static_pods.clone_from(&config.static_pod_path);
    settings.shutdown = config.shutdown;
    settings
}

/// As whom the agent speaks; over HTTP its certificate says the same.
pub(super) fn user(config: &Config) -> User {
    User::new(
        format!("system:node:{}", config.node_name),
        &["system:nodes", "system:authenticated"],
    )
}

/// Joins a server elsewhere, starts the agent with that connection, and keeps
/// another one on which the server reaches the agent.
pub(super) async fn join(config: &Config, settings: AgentConfig, tasks: &Tasks) -> anyhow::Result<Agent> {
    let Some(server) = &config.server else {
        bail!("which server? give its URL with --server https://HOST:6443 and its token with --token-file");
    };
    let token = match &config.token_file {
        Some(file) => Some(
            std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the token in {}", file.display()))?
                .trim()
                .to_owned(),
        ),
        None => None,
    };
    let joining = JoinConfig {
        server: server.clone(),
        token,
        node_name: config.node_name.clone(),
        instance_id: settings.instance_id.clone(),
        data_dir: settings.data_dir.clone(),
    };
    let api = connect(&joining).await?;
    let agent = Agent::start(settings, Client::new(api.clone(), user(config)), tasks).await?;
    let follower = Follower {
        api: api.clone(),
        client: Client::new(api.clone(), user(config)),
        node_name: config.node_name.clone(),
        service: agent.service(),
        told: Some(server.clone()),
        own: Vec::new(),
        data_dir: Some(joining.data_dir.clone()),
        tasks: tasks.clone(),
    };
    let known = agent::servers::remembered(&joining.data_dir);
    let client = Client::new(api.clone(), user(config));
    tasks.spawn("follow the servers", OnError::Log, follower.run(known));
    let metrics = agent.certificate();
    tasks.spawn("renew the certificate", OnError::Log, async move {
        agent::renewal::renew(&joining, &client, &api, &metrics).await;
    });
    agent.ready().await;
    Ok(agent)
}

/// Keeps the agent of a server in the same process within reach of the other servers, for which it needs a
/// node's certificate.
///
/// # Errors
/// When the certificate cannot be made.
pub(super) fn be_reached(
    config: &Config,
    server: &ApiServer,
    agent: &Agent,
    node_ip: Addresses,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let (pki, name) = (server.pki().clone(), format!("system:node:{}", config.node_name));
    let signs = pki.clone();
    let issue = move || {
        let issued = signs.client(&name, &["system:nodes"], jiff::Timestamp::now());
        issued.map(|issued| Credentials {
            cert_pem: issued.cert_pem,
            key_pem: issued.key_pem,
            token: String::new(),
        })
    };
    let own = config.advertise_address.unwrap_or(node_ip.primary());
    let api = Arc::new(HttpApi::new(HttpConfig {
        server: format!("https://{}", SocketAddr::new(own, config.listen.port)),
        ca_pem: server.pki().now().serving_ca.bundle().to_owned(),
        credentials: issue()?,
        ..HttpConfig::default()
    })?);
    let follower = Follower {
        api: api.clone(),
        client: Client::new(server.api(), user(config)),
        node_name: config.node_name.clone(),
        service: agent.service(),
        told: None,
        own: vec![own],
        data_dir: None,
        tasks: tasks.clone(),
    };
    tasks.spawn("follow the servers", OnError::Log, follower.run(Vec::new()));
    tasks.spawn(
        "renew the node's certificate",
        OnError::Log,
        renew_own(api, pki, issue),
    );
    Ok(())
}

/// Makes it anew in time, and whenever the cluster's keys change.
async fn renew_own(api: Arc<HttpApi>, pki: Arc<Pki>, issue: impl Fn() -> Result<Credentials, PkiError>) {
    let mut keys = pki.changes();
    loop {
        let changed = tokio::time::timeout(RENEW_EVERY, keys.changed()).await;
        if matches!(changed, Ok(Err(_))) {
            return;
        }
        let authorities = keys.borrow_and_update().serving_ca.bundle().to_owned();
        let renewed = match issue() {
            Ok(own) => api
                .set_identity(&authorities, &own)
                .await
                .map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = renewed {
            tracing::warn!(%error, "the node's certificate was not renewed");
        }
    }
}

/// Joins, for as long as it takes until the server is there; a refusal is final.
async fn connect(joining: &JoinConfig) -> anyhow::Result<Arc<HttpApi>> {
    let mut pause = Backoff::new(JOIN_RETRY, JOIN_RETRY_MAX);
    loop {
        match agent::join::join(joining).await {
            Ok(api) => return Ok(api),
            Err(error) if error.may_pass() => {
                let wait = pause.next(&SystemRandom);
                tracing::warn!(
                    "cannot join yet, trying again in {:.1} s: {error}",
                    wait.as_secs_f64()
                );
                tokio::time::sleep(wait).await;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot join {}", joining.server)),
        }
    }
}
