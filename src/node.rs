//! A node: every role wired to the others. The one place that knows them all.

mod address;
mod cluster;
mod control;
mod joining;
mod memory;
mod worker;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::Agent;
use anyhow::Context;
use api::cidr::Addresses;
use api::request::User;
use apiserver::ApiServer;
use base::{Clock, SystemClock, Tasks};
use client::Client;
use store::Store;

use crate::config::Config;
use crate::folder::Folder;

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Control plane and agent: a cluster of one machine.
    Both,
    /// The control plane alone.
    Server,
    /// The agent alone, joined to a server elsewhere.
    Agent,
}

/// A running node. Dropping it cancels everything; [`Node::shutdown`] does so in order.
pub struct Node {
    config: Config,
    folder: Folder,
    tasks: Tasks,
    control: Option<Control>,
    agent: Option<Agent>,
}

/// The control plane of a node that has one.
struct Control {
    store: Store,
    serving: Serving,
}

/// What a server answers with.
enum Serving {
    /// The API.
    Api(ApiServer),
    /// Of a witness: how it is, at these addresses.
    Witness(Vec<SocketAddr>),
}

impl Control {
    /// The API, which a witness has none of.
    fn api(&self) -> Option<&ApiServer> {
        match &self.serving {
            Serving::Api(server) => Some(server),
            Serving::Witness(_) => None,
        }
    }
}

impl Node {
    /// Starts a node; it serves when this returns.
    ///
    /// # Errors
    /// When the data folder cannot be used, an address is taken, or a part cannot start.
    pub async fn start(config: Config, role: Role) -> anyhow::Result<Self> {
        // A second installation of the same provider is refused, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = config;
        let ipv6 = config.pod_cidr.family(true).is_some();
        let node_ip = address::node_ip(config.node_ip, ipv6)?;
        config.node_ip = Some(node_ip);
        let folder = Folder::open(&config.data_dir)?;
        config.data_dir.clone_from(&folder.path);
        let tasks = Tasks::new();
        let mut node = Node {
            config,
            folder,
            tasks,
            control: None,
            agent: None,
        };
        match node.start_roles(role, node_ip).await {
            Ok(()) => Ok(node),
            Err(error) => {
                // The store's threads must not outlive what they read.
                node.shutdown().await;
                Err(error)
            }
        }
    }

    async fn start_roles(&mut self, role: Role, node_ip: Addresses) -> anyhow::Result<()> {
        if self.config.witness && role != Role::Server {
            anyhow::bail!("--witness is for `coracle server`: a witness runs no pods");
        }
        if role != Role::Agent {
            // Boxed, as is the next: all that happens at the start would be one huge value otherwise.
            Box::pin(self.start_control(node_ip)).await?;
        }
        if role != Role::Server {
            Box::pin(self.start_agent(node_ip)).await?;
        }
        memory::give_back(&self.tasks);
        Ok(())
    }

    async fn start_control(&mut self, node_ip: Addresses) -> anyhow::Result<()> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let advertised = self.config.advertise_address.unwrap_or(node_ip.primary());
        let address = SocketAddr::new(advertised, self.config.listen.port).to_string();
        let (cluster, host) = joining::prepare(&mut self.config, &address).await?;
        let prepared = control::prepare_server(&self.config, node_ip).await?;
        let cluster = cluster.map(|cluster| cluster.number()).transpose()?;
        let store = control::open_store(&self.config, &prepared, cluster).await?;
        let starting = async {
            let address = prepared.address().to_string();
            let register = joining::register(host.as_ref(), &store, &self.config, &address);
            let start = async {
                match self.config.witness {
                    true => {
                        let addresses = prepared.start_witness(store.clone(), &self.tasks).await;
                        addresses.map(Serving::Witness)
                    }
                    false => {
                        // Boxed: the compiler looks only so deep into what is one value.
                        let starting = ApiServer::start_prepared(prepared, store.clone(), &self.tasks);
                        let server = Box::pin(starting).await;
                        server.map(Serving::Api)
                    }
                }
                .context("cannot start the API server")
            };
            tokio::try_join!(register, start).map(|((), serving)| serving)
        };
        let serving = match starting.await {
            Ok(serving) => serving,
            Err(error) => {
                self.tasks.shutdown().await;
                store.close().await;
                return Err(error);
            }
        };
        if let Serving::Api(server) = &serving {
            control::start_controllers(&self.config, server, clock, &self.tasks);
        }
        let follower = joining::become_voter(store.clone());
        self.tasks.spawn("become a voter", base::OnError::Log, follower);
        let watched = store.clone();
        self.tasks.spawn("store", base::OnError::Shutdown, async move {
            match watched.ended().await {
                Some(why) => Err(why),
                None => Ok(()),
            }
        });
        self.control = Some(Control { store, serving });
        Ok(())
    }

    /// Starts the agent of a node that has the control plane in the same process.
    async fn start_agent(&mut self, node_ip: Addresses) -> anyhow::Result<()> {
        let settings = worker::settings(&self.config, &self.folder, node_ip);
        let Some(server) = self.control.as_ref().and_then(Control::api) else {
            self.agent = Some(worker::join(&self.config, settings, &self.tasks).await?);
            return Ok(());
        };
        let user = worker::user(&self.config);
        let client = Client::new(server.api(), user);
        let agent = Agent::start(settings, client, &self.tasks)
            .await
            .context("cannot start the agent")?;
        worker::be_reached(&self.config, server, &agent, node_ip, &self.tasks)?;
        let link = agent.service();
        server
            .nodes()
            .register_local(&self.config.node_name, move |request| {
                let link = link.clone();
                async move { Ok::<_, std::convert::Infallible>(link.handle(request).await) }
            });
        self.agent = Some(agent);
        Ok(())
    }

    /// Name of the node.
    pub fn name(&self) -> &str {
        &self.config.node_name
    }

    /// Whether this is a witness: it has no API, and no kubeconfig.
    pub fn is_witness(&self) -> bool {
        let serving = self.control.as_ref().map(|control| &control.serving);
        matches!(serving, Some(Serving::Witness(_)))
    }

    /// The kubeconfig of the cluster's administrator; written by nodes with an API.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path.join("admin.kubeconfig")
    }

    /// The folder that the node keeps everything in.
    pub fn data_dir(&self) -> &Path {
        &self.folder.path
    }

    /// Where the API listens; empty for a node without a control plane.
    pub fn addresses(&self) -> &[SocketAddr] {
        match self.control.as_ref().map(|control| &control.serving) {
            Some(Serving::Api(server)) => server.addresses(),
            Some(Serving::Witness(addresses)) => addresses,
            None => &[],
        }
    }

    /// A client that speaks to the control plane in this process as `user`;
    /// `None` for a node without one.
    pub fn client(&self, user: User) -> Option<Client> {
        let server = self.control.as_ref().and_then(Control::api)?;
        Some(Client::new(server.api(), user))
    }

    /// The control plane as an HTTP service in this process, for one user: what
    /// `kube::Client::new` takes. `None` for a node without a control plane.
    pub fn service(&self, user: User) -> Option<apiserver::http::local::LocalService> {
        let server = self.control.as_ref().and_then(Control::api)?;
        Some(server.service(user))
    }

    /// Waits until the node ends by itself, and says why if a part of it failed.
    pub async fn ended(&self) -> Option<String> {
        self.tasks.ended().await
    }

    /// Ends everything in order. OCI containers keep running, and the next start finds them, unless the
    /// settings give pods a time to end in.
    pub async fn shutdown(self) {
        let server = self.control.as_ref().and_then(Control::api);
        let departure = server.map(|server| server.depart(self.config.shutdown_delay));
        if let Some(agent) = &self.agent {
            // Before leadership goes: the pods' last statuses are written to this server.
            agent.end_pods().await;
        }
        if let Some(departure) = departure {
            departure.await;
        }
        if let Some(control) = &self.control {
            control::step_down(&control.store).await;
        }
        if let Some(agent) = &self.agent {
            agent.leave_guests().await;
        }
        self.tasks.shutdown().await;
        if let Some(control) = self.control {
            control.store.close().await;
        }
    }
}
