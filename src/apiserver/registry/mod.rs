//! What carries requests out: every verb written once, for every kind of the table.
//!
//! A write goes: decode, default, managed fields, mutating admission, prepare,
//! validate, validating admission, canonical form, commit with a precondition
//! on what was read; lost races are tried again when the caller named no
//! resource version. A read joins or hands out stored text and parses nothing.

mod addresses;
mod admit;
mod body;
mod bootstrap;
mod change;
mod create;
mod definitions;
mod eviction;
mod families;
mod filter;
mod hooks;
mod list_text;
mod meta;
mod page;
mod pods;
mod quota;
mod ranges;
mod read;
pub(crate) mod refuse;
mod remove;
mod reviews;
mod scale;
mod services;
mod target;
mod text;
mod token;
mod upkeep;
pub(crate) use body::options_kind;
#[cfg(test)]
pub(crate) use upkeep::suggested_flow_control;
pub(crate) use upkeep::{REPAIRS, condition, mandatory_flow_control};
mod versions;
mod watch;
mod world;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, Weak};

use api::kind::KindRef;
use api::request::{EventStream, Reply, Request, Verb};
use api::status::Status;
use async_trait::async_trait;
use base::telemetry::Metrics;
use base::{Clock, Random, SystemClock, SystemRandom};
use client::Api;
use futures_util::future::BoxFuture;
use store::Store;

use crate::admission::dynamic::Dynamic;
use crate::admission::metrics::AdmissionMetrics;
use crate::admission::{self, Plugin};
use crate::authz::{Attributes, Authorizer};
use crate::forms::Forms;
use crate::nodes::{Dialer, NodeLinks};
use crate::outbound::Outbound;
use crate::pki::Pki;
use crate::served::ServedKinds;
use crate::switches::Switches;
use crate::tokens::Tokens;
use crate::vault::Vault;

use addresses::{PortRange, ServiceRange};

/// Settings of a [`Core`].
#[derive(Clone)]
pub struct CoreConfig {
    /// Where this server is reached from elsewhere: the `kubernetes` Service's endpoint.
    pub advertise: IpAddr,
    /// The port there.
    pub port: u16,
    /// Service addresses, such as `10.43.0.0/16`, and after a comma those of the other family.
    pub service_cidr: String,
    /// Node ports, first and last.
    pub node_ports: (u16, u16),
    /// Which versions of the API are served.
    pub switches: Switches,
    /// What admission plugins are told.
    pub admission: admission::Settings,
    /// Seconds that events are kept.
    pub event_ttl_seconds: u32,
    /// The cluster's keys, of which servers that extend the API learn whom to trust; none for a server that is no
    /// front proxy.
    pub keys: Option<Arc<Pki>>,
    /// The way to the nodes, and through them to webhooks.
    pub nodes: NodeLinks,
    /// What is counted of admission.
    pub metrics: Metrics,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where names and UIDs come from.
    pub random: Arc<dyn Random>,
}

impl CoreConfig {
    /// The defaults, for a server at that address.
    pub fn new(advertise: IpAddr, port: u16) -> Self {
        Self {
            advertise,
            port,
            service_cidr: "10.43.0.0/16".into(),
            node_ports: (30000, 32767),
            switches: Switches::default(),
            admission: admission::Settings::default(),
            event_ttl_seconds: 3600,
            keys: None,
            nodes: NodeLinks::new(),
            metrics: Metrics::new(),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
        }
    }
}

/// The API's core: a store, the kinds, and the rules. Cheap to clone.
#[derive(Clone)]
pub struct Core {
    inner: Arc<Inner>,
}

struct Inner {
    store: Vault,
    config: CoreConfig,
    authorizer: Arc<dyn Authorizer>,
    tokens: Arc<dyn Tokens>,
    plugins: Vec<Box<dyn Plugin>>,
    admission: Arc<AdmissionMetrics>,
    /// Whose turn it is where quotas count.
    turns: quota::Turns,
    dynamic: Arc<Dynamic>,
    kinds: Arc<ServedKinds>,
    /// Texts of events in another form than the stored one.
    forms: Forms<KindRef>,
    /// One, or one for each family; the first is the default.
    service_ranges: Vec<ServiceRange>,
    port_range: PortRange,
}

impl Core {
    /// A core over an open store. Call [`Core::bootstrap`] before serving.
    ///
    /// # Errors
    /// When the settings make no sense.
    pub fn new(
        store: impl Into<Vault>,
        config: CoreConfig,
        authorizer: Arc<dyn Authorizer>,
        tokens: Arc<dyn Tokens>,
    ) -> Result<Self, Status> {
        let store = store.into();
        let service_ranges = ServiceRange::parse_all(&config.service_cidr).ok_or_else(|| {
            Status::internal(format!(
                "{:?} is not one range of addresses, or one of each family",
                config.service_cidr
            ))
        })?;
        let port_range = PortRange {
            first: config.node_ports.0,
            last: config.node_ports.1,
        };
        let plugins = admission::plugins(&config.admission);
        let names = plugins.iter().map(|plugin| plugin.name());
        let admission = Arc::new(AdmissionMetrics::new(&config.metrics, names));
        let kinds = Arc::new(ServedKinds::switched(&config.switches));
        let inner = Arc::new_cyclic(|own: &Weak<Inner>| {
            let dialer = Dialer::new(Arc::new(Itself(own.clone())), config.nodes.clone());
            Inner {
                store,
                config,
                authorizer,
                tokens,
                plugins,
                turns: quota::Turns::default(),
                dynamic: Arc::new(Dynamic::new(
                    Outbound::new(dialer),
                    kinds.clone(),
                    admission.clone(),
                )),
                admission,
                kinds,
                forms: Forms::default(),
                service_ranges,
                port_range,
            }
        });
        Ok(Self { inner })
    }

    /// Makes what every cluster has (namespaces, priority classes, the `kubernetes` Service)
    /// and repairs the record of allocated addresses. Safe to call at every start.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn bootstrap(&self) -> Result<(), Status> {
        self.make_basics().await?;
        self.publish_api(&[self.inner.config.advertise]).await
    }

    /// The kinds that are served: those of the table, and what definitions add.
    pub fn kinds(&self) -> &Arc<ServedKinds> {
        &self.inner.kinds
    }

    /// The webhooks and policies that are asked about requests.
    pub fn dynamic(&self) -> &Arc<Dynamic> {
        &self.inner.dynamic
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }
}

/// The core for what it holds itself, which must not keep it alive.
struct Itself(Weak<Inner>);

impl Itself {
    fn core(&self) -> Result<Core, Status> {
        let inner = self.0.upgrade();
        let inner = inner.ok_or_else(|| Status::unavailable("the server is shutting down"))?;
        Ok(Core { inner })
    }
}

#[async_trait]
impl Api for Itself {
    async fn call(&self, request: Request) -> Result<Reply, Status> {
        self.core()?.call(request).await
    }

    async fn watch(&self, request: Request) -> Result<EventStream, Status> {
        self.core()?.watch(request).await
    }
}

#[async_trait]
impl Api for Core {
    async fn call(&self, request: Request) -> Result<Reply, Status> {
        self.inner.authorizer.authorize(&Attributes::of(&request)).await?;
        let carried_out = self.carry_out(&request).await;
        let annotations = request.notes.annotations();
        if !annotations.is_empty() {
            tracing::debug!(user = request.user.name, ?annotations, "noted at admission");
        }
        let mut reply = carried_out?;
        let resource = &request.resource;
        let kind = self
            .inner
            .kinds
            .find(&resource.group, &resource.version, &resource.plural);
        if let Some(kind) = kind.filter(|kind| !kind.warning.is_empty()) {
            reply.warnings.push(kind.warning.to_owned());
        }
        reply.warnings.extend(request.notes.warnings());
        Ok(reply)
    }

    async fn watch(&self, request: Request) -> Result<EventStream, Status> {
        self.inner.authorizer.authorize(&Attributes::of(&request)).await?;
        self.follow(&request).await
    }
}

impl Core {
    async fn carry_out(&self, request: &Request) -> Result<Reply, Status> {
        if !matches!(request.verb, Verb::Get | Verb::List | Verb::Watch) {
            // What a write is judged by is never older than what some client was told, by whichever server.
            self.inner.store.catch_up().await.map_err(refuse::status)?;
        }
        // Boxed one by one: they are large, and reading an object would need as much room as the largest of them.
        let carried_out: BoxFuture<'_, Result<Reply, Status>> =
            match (request.verb, request.subresource.as_str()) {
                (Verb::Get, _) => return self.get(request).await,
                (Verb::List, "") => Box::pin(self.list(request)),
                (Verb::Create, "") if asks(request) => Box::pin(self.review(request)),
                (Verb::Create, "") if request.resource.plural == "bindings" => Box::pin(self.bind(request)),
                (Verb::Create, "") => Box::pin(self.create(request)),
                (Verb::Create, "binding") => Box::pin(self.bind(request)),
                (Verb::Create, "eviction") => Box::pin(self.evict(request)),
                (Verb::Create, "token") => Box::pin(self.token(request)),
                (Verb::Update | Verb::Patch(_), _) => Box::pin(self.change(request)),
                (Verb::Delete, "") => Box::pin(self.delete(request)),
                (Verb::DeleteCollection, "") => Box::pin(self.delete_collection(request)),
                (Verb::Watch, _) => return Err(Status::bad_request("a watch has no single answer")),
                _ => return Err(Status::no_such_path()),
            };
        carried_out.await
    }
}

/// Whether the resource is a question that is answered and not kept.
fn asks(request: &Request) -> bool {
    let resource = &request.resource;
    matches!(
        resource.group.as_str(),
        "authentication.k8s.io" | "authorization.k8s.io"
    )
}
