//! The API as callers see it, whoever serves what: the registry, those who extend the API, and what is measured.

use std::future::ready;
use std::sync::Arc;

use api::request::{EventStream, Reply, Request};
use api::status::Status;
use async_trait::async_trait;
use client::Api;
use futures_util::future::BoxFuture;

use crate::aggregation::{Aggregation, Remote};
use crate::authz::{Attributes, Authorizer};
use crate::registry::Core;
use crate::usage::{self, Usage};

/// All of it, behind the one door.
pub(crate) struct Whole {
    /// What is kept in the store.
    pub core: Core,
    /// What others serve.
    pub aggregation: Arc<Aggregation>,
    /// What is used at this moment.
    pub usage: Usage,
    /// Whether callers may.
    pub authorizer: Arc<dyn Authorizer>,
}

impl Whole {
    /// Asks whoever else serves it.
    async fn ask(&self, other: &Remote, request: Request) -> Result<Reply, Status> {
        self.authorizer.authorize(&Attributes::of(&request)).await?;
        self.aggregation.call(other, request).await
    }

    /// Tells what is used.
    async fn measure(&self, request: &Request) -> Result<Reply, Status> {
        self.authorizer.authorize(&Attributes::of(request)).await?;
        self.usage.answer(request).await
    }
}

#[async_trait]
impl Api for Whole {
    // Written out: what the registry carries out is passed on as it is, not wrapped once more.
    fn call<'s, 'f>(&'s self, request: Request) -> BoxFuture<'f, Result<Reply, Status>>
    where
        's: 'f,
        Self: 'f,
    {
        let (place, others) = (&request.resource, self.aggregation.others());
        if place.plural.is_empty() {
            return Box::pin(ready(others.resources(place)));
        }
        match others.serving(&place.group, &place.version) {
            Some(other) => Box::pin(async move { self.ask(&other, request).await }),
            None if place.group == usage::GROUP => Box::pin(async move { self.measure(&request).await }),
            None => self.core.call(request),
        }
    }

    async fn watch(&self, request: Request) -> Result<EventStream, Status> {
        let place = &request.resource;
        if place.group == usage::GROUP
            || self
                .aggregation
                .others()
                .serving(&place.group, &place.version)
                .is_some()
        {
            // Over the network such watches go on as they are; nobody in this process asks for one.
            return Err(Status::method_not_allowed(&place.group, &place.plural, "watch"));
        }
        self.core.watch(request).await
    }
}
