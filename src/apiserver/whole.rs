//! The API as callers see it, whoever serves what: the registry, those who extend the API, and what is measured.

use std::sync::Arc;

use api::request::{EventStream, Reply, Request, ResourceRef};
use api::status::Status;
use async_trait::async_trait;
use client::Api;
use futures_util::future::BoxFuture;

use crate::aggregation::Aggregation;
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
    async fn call_others(&self, request: Request) -> Result<Reply, Status> {
        let place = &request.resource;
        if place.plural.is_empty() {
            return self.aggregation.others().resources(place);
        }
        let other = self.aggregation.others().serving(&place.group, &place.version);
        self.authorizer.authorize(&Attributes::of(&request)).await?;
        match other {
            Some(other) => self.aggregation.call(&other, request).await,
            None if place.group == usage::GROUP => self.usage.answer(&request).await,
            // It was taken back at this very moment.
            None => self.core.call(request).await,
        }
    }

    fn is_of_core(&self, place: &ResourceRef) -> bool {
        let others = self.aggregation.others();
        !place.plural.is_empty()
            && place.group != usage::GROUP
            && others.serving(&place.group, &place.version).is_none()
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
        match self.is_of_core(&request.resource) {
            true => self.core.call(request),
            false => Box::pin(self.call_others(request)),
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
