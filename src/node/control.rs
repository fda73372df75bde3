//! The control plane: API server, controllers, scheduler.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::anyhow;
use api::cidr::Addresses;
use api::request::User;
use apiserver::admission::TolerationSeconds;
use apiserver::{ApiServer, ServerConfig, StartError};
use base::{Clock, Tasks};
use client::Client;
use controllers::View;
use store::Store;

use crate::config::Config;

/// Starts the API server over an open store.
pub(super) async fn start_server(
    config: &Config,
    node_ip: Addresses,
    store: Store,
    tasks: &Tasks,
) -> anyhow::Result<ApiServer> {
    let port = config.listen.port;
    let listen: Vec<SocketAddr> = match config.listen.address {
        Some(address) => vec![(address, port).into()],
        None => vec![
            (node_ip.primary(), port).into(),
            (Ipv4Addr::LOCALHOST, port).into(),
        ],
    };
    let mut settings = ServerConfig::new(&config.data_dir);
    settings.listen = listen;
    settings.advertise = config.advertise_address.unwrap_or(node_ip.primary());
    settings.service_cidr = config.service_cidr.to_string();
    settings.cluster_domain.clone_from(&config.cluster_domain);
    settings.toleration = TolerationSeconds {
        not_ready: config.not_ready_toleration_seconds.into(),
        unreachable: config.unreachable_toleration_seconds.into(),
    };
    settings.extra_sans = vec![config.node_name.clone()];
    settings
        .extra_sans
        .extend(node_ip.iter().map(|ip| ip.to_string()));
    ApiServer::start(settings, store, tasks)
        .await
        .map_err(|error| match error {
            StartError::Listen(why) if why.kind() == std::io::ErrorKind::AddrInUse => {
                anyhow!("{why}: stop what listens there, or choose another port with --listen")
            }
            other => anyhow::Error::new(other).context("cannot start the API server"),
        })
}

/// Starts controllers and scheduler, which share their caches.
pub(super) fn start_controllers(config: &Config, server: &ApiServer, clock: Arc<dyn Clock>, tasks: &Tasks) {
    let client = Client::new(
        server.api(),
        User::new(
            "system:kube-controller-manager",
            &["system:masters", "system:authenticated"],
        ),
    )
    .with_manager("kube-controller-manager");
    let view = View::start(&client, tasks);
    controllers::start(
        client.clone(),
        view.clone(),
        clock.clone(),
        tasks,
        controllers::Settings {
            node_shares: config.node_shares(),
            balancer_pools: config.load_balancer_pools.clone(),
            node_grace: config.node_monitor_grace_period,
            root_ca: server.pki().serving_ca.pem().to_owned(),
        },
    );
    let scheduler = client
        .with_user(User::new("system:kube-scheduler", &["system:authenticated"]))
        .with_manager("kube-scheduler");
    scheduler::start(scheduler, view.nodes, view.pods, clock, tasks);
}
