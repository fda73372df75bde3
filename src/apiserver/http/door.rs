//! What every request needs on its way in.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::request::User;
use base::Clock;
use base::telemetry::Metrics;
use client::ApiRef;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::convert::EventForm;
use super::departure::Departure;
use super::given_up::GivenUp;
use super::intake::Intake;
use super::large::Waiting;
use super::until::Until;
use super::watches::Watches;
use crate::aggregation::Aggregation;
use crate::audit::Audit;
use crate::authn::{Authn, CertificateUser, ServiceAccounts};
use crate::authz::Authorizer;
use crate::discovery::Discovery;
use crate::fairness::Fairness;
use crate::forms::Forms;
use crate::health::Health;
use crate::lookup::Lookup;
use crate::members::Members;
use crate::metrics::HttpMetrics;
use crate::nodes::{Dialer, NodeLinks};
use crate::openapi_routes::OpenApi;
use crate::pace::Client;
use crate::registry::Core;
use crate::served::ServedKinds;

/// Everything behind the HTTP server, shared by all connections.
pub struct Door {
    /// The registry: carries out what is about resources.
    pub api: ApiRef,
    /// The same, for those who need more of it than that: streams are admitted like other requests.
    pub core: Core,
    /// Who is asking.
    pub authn: Authn,
    /// Whether they may.
    pub authorizer: Arc<dyn Authorizer>,
    /// Stored objects, from memory.
    pub lookup: Arc<dyn Lookup>,
    /// The way to the nodes.
    pub nodes: NodeLinks,
    /// The servers of the cluster.
    pub members: Members,
    /// The kinds that are served.
    pub kinds: Arc<ServedKinds>,
    /// What others serve.
    pub aggregation: Arc<Aggregation>,
    /// What is served.
    pub discovery: Discovery,
    /// In which form.
    pub openapi: OpenApi,
    /// Whether all is well.
    pub health: Health,
    /// What is recorded of requests.
    pub audit: Audit,
    /// What the HTTP half counts.
    pub counters: HttpMetrics,
    /// What everybody counts.
    pub metrics: Metrics,
    /// Service-account keys, for those who check tokens themselves.
    pub tokens: Arc<ServiceAccounts>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Whether this server is cut off from the others, so that nothing can be watched here.
    pub cut_off: watch::Receiver<bool>,
    /// Cancelled when the server stops; long-running answers end then.
    pub stop: CancellationToken,
    /// `host:port` at which clients elsewhere reach this server.
    pub address: String,
    /// Events that watchers had converted.
    pub forms: Arc<Forms<EventForm>>,
    /// Bodies that wait for their requests' turns.
    pub intake: Intake,
    /// Answers that wait to be sent.
    pub waiting: Arc<Waiting>,
    /// How many watches there are.
    pub watches: Watches,
    /// What is counted of requests that are given up.
    pub given_up: GivenUp,
    /// Whether the server is about to end.
    pub departure: Arc<Departure>,
    /// Whose turn it is.
    pub fairness: Arc<Fairness>,
}

impl Door {
    /// What connects to pods, Services and nodes.
    pub fn dialer(&self) -> Dialer {
        Dialer::new(self.api.clone(), self.nodes.clone())
    }
}

/// Where a request came from.
#[derive(Clone)]
pub enum Caller {
    /// Over the network.
    Remote {
        /// From this address.
        peer: SocketAddr,
        /// Over a connection with this certificate.
        certificate: Arc<CertificateUser>,
        /// Whose time the connection spends.
        client: Arc<Client>,
        /// When what lasts ends.
        until: Arc<Until>,
    },
    /// From this process, by a user that is already known.
    Local(User),
}

impl Caller {
    /// Whether the other side showed a certificate, whatever it proves.
    pub fn has_certificate(&self) -> bool {
        matches!(self, Caller::Remote { certificate, .. } if !matches!(**certificate, CertificateUser::Nobody))
    }

    /// When what it asks for ends, if that lasts.
    pub fn until(&self, door: &Door) -> Arc<Until> {
        match self {
            Caller::Remote { until, .. } => until.clone(),
            Caller::Local(_) => Until::stopped(door.stop.clone()),
        }
    }

    /// The address of the other side; none for callers in this process.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Caller::Remote { peer, .. } => Some(peer.ip()),
            Caller::Local(_) => None,
        }
    }
}
