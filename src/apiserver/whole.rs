//! The API as callers see it, whoever serves what: the registry, those who extend the API, and what is measured.

use std::sync::Arc;

use api::request::{EventStream, Reply, Request};
use api::status::Status;
use async_trait::async_trait;
use client::Api;

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

#[async_trait]
impl Api for Whole {
    async fn call(&self, request: Request) -> Result<Reply, Status> {
        let place = &request.resource;
        if place.plural.is_empty() {
            return self.aggregation.others().resources(place);
        }
        let other = self.aggregation.others().serving(&place.group, &place.version);
        if other.is_none() && place.group != usage::GROUP {
            return self.core.call(request).await;
        }
        self.authorizer.authorize(&Attributes::of(&request)).await?;
        match other {
            Some(other) => self.aggregation.call(&other, request).await,
            None => self.usage.answer(&request).await,
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
