//! What carries requests out: every verb written once, for every kind of the table.
//!
//! A write goes: decode, default, managed fields, mutating admission, prepare,
//! validate, validating admission, canonical form, commit with a precondition
//! on what was read; lost races are tried again when the caller named no
//! resource version. A read joins or hands out stored text and parses nothing.

use std::net::IpAddr;
use std::sync::Arc;

use api::request::{EventStream, Reply, Request, Verb};
use api::status::Status;
use async_trait::async_trait;
use base::{Clock, Random, SystemClock, SystemRandom};
use client::Api;
use store::Store;

use crate::admission::Plugin;
use crate::authz::{Attributes, Authorizer};
use crate::tokens::Tokens;

/// Settings of a [`Core`].
#[derive(Clone)]
pub struct CoreConfig {
    /// Where this server is reached from elsewhere: the `kubernetes` Service's endpoint.
    pub advertise: IpAddr,
    /// The port there.
    pub port: u16,
    /// Service addresses, such as `10.43.0.0/16`.
    pub service_cidr: String,
    /// Node ports, first and last.
    pub node_ports: (u16, u16),
    /// Seconds for which new pods tolerate nodes that are not ready or unreachable.
    pub toleration_seconds: i64,
    /// Seconds that events are kept.
    pub event_ttl_seconds: u32,
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
            toleration_seconds: 300,
            event_ttl_seconds: 3600,
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
    store: Store,
    config: CoreConfig,
    authorizer: Arc<dyn Authorizer>,
    tokens: Arc<dyn Tokens>,
    plugins: Vec<Box<dyn Plugin>>,
}

impl Core {
    /// A core over an open store. Call [`Core::bootstrap`] before serving.
    ///
    /// # Errors
    /// When the settings make no sense.
    pub fn new(
        store: Store,
        config: CoreConfig,
        authorizer: Arc<dyn Authorizer>,
        tokens: Arc<dyn Tokens>,
    ) -> Result<Self, Status> {
        let _ = (store, config, authorizer, tokens);
        todo!()
    }

    /// Makes what every cluster has (namespaces, priority classes, the `kubernetes` Service)
    /// and repairs the record of allocated addresses. Safe to call at every start.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn bootstrap(&self) -> Result<(), Status> {
        todo!()
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }
}

#[async_trait]
impl Api for Core {
    async fn call(&self, request: Request) -> Result<Reply, Status> {
        self.inner.authorizer.authorize(&Attributes::of(&request))?;
        match request.verb {
            Verb::Get => todo!(),
            _ => todo!(),
        }
    }

    async fn watch(&self, _request: Request) -> Result<EventStream, Status> {
        todo!()
    }
}
