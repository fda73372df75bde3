//! Requests from this process, recorded like those from outside.

use std::sync::Arc;

use api::request::{EventStream, Reply, Request};
use api::status::Status;
use async_trait::async_trait;
use base::{Random, SystemRandom};
use client::{Api, ApiRef};
use futures_util::StreamExt;

use super::policy::{About, Stage};
use super::{Audit, Outside, Trail};

/// The API, every call of which leaves a trail.
pub struct Audited {
    api: ApiRef,
    audit: Audit,
}

impl Audited {
    /// `api` with a log, or `api` itself where nothing is recorded.
    pub fn wrap(api: ApiRef, audit: &Audit) -> ApiRef {
        if !audit.is_on() {
            return api;
        }
        Arc::new(Self {
            api,
            audit: audit.clone(),
        })
    }

    fn begin(&self, request: &Request) -> Option<Trail> {
        let outside = Outside {
            id: SystemRandom.uuid(),
            uri: uri(request),
            sources: vec!["127.0.0.1".to_owned()],
            agent: concat!("coracle/", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let trail = self
            .audit
            .begin(outside, about(request), request.user.clone(), None)?;
        trail.follow(&request.notes);
        if trail.wants_bodies()
            && let Some(body) = super::object(&request.body, &request.content_type, None, "")
        {
            trail.asked(body);
        }
        Some(trail)
    }
}

#[async_trait]
impl Api for Audited {
    async fn call(&self, request: Request) -> Result<Reply, Status> {
        let trail = self.begin(&request);
        let result = self.api.call(request).await;
        if let Some(trail) = trail {
            match &result {
                Ok(reply) => {
                    trail.answered(&reply.body);
                    trail.at(Stage::ResponseComplete, Some(reply.code));
                }
                Err(status) => refused(&trail, status),
            }
        }
        result
    }

    async fn watch(&self, request: Request) -> Result<EventStream, Status> {
        let trail = self.begin(&request);
        let result = self.api.watch(request).await;
        let Some(trail) = trail else { return result };
        match result {
            Ok(events) => {
                trail.at(Stage::ResponseStarted, Some(200));
                let ending = Ending::of(trail, 200);
                Ok(events.inspect(move |_| ending.goes_on()).boxed())
            }
            Err(status) => {
                refused(&trail, &status);
                Err(status)
            }
        }
    }
}

fn refused(trail: &Trail, status: &Status) {
    trail.failed(status);
    trail.at(Stage::ResponseComplete, Some(status.code));
}

/// Records the end of an answer that takes its time, however it comes.
pub(crate) struct Ending {
    trail: Trail,
    code: u16,
}

impl Ending {
    pub(crate) fn of(trail: Trail, code: u16) -> Self {
        Self { trail, code }
    }

    /// Called by what holds this for each part of the answer, so that it is held until the last.
    pub(crate) fn goes_on(&self) {}
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.trail.at(Stage::ResponseComplete, Some(self.code));
    }
}

fn about(request: &Request) -> About {
    let resource = &request.resource;
    About {
        verb: request.verb.name().to_owned(),
        is_resource: true,
        group: resource.group.clone(),
        version: resource.version.clone(),
        plural: resource.plural.clone(),
        subresource: request.subresource.clone(),
        namespace: request.namespace.clone(),
        name: request.name.clone(),
        ..About::default()
    }
}

/// The path that the request would have had from outside.
fn uri(request: &Request) -> String {
    let resource = &request.resource;
    let mut uri = match resource.group.as_str() {
        "" => format!("/api/{}", resource.version),
        group => format!("/apis/{group}/{}", resource.version),
    };
    let in_namespace = !request.namespace.is_empty() && resource.plural != "namespaces";
    if in_namespace {
        uri.push_str("/namespaces/");
        uri.push_str(&request.namespace);
    }
    for part in [&resource.plural, &request.name, &request.subresource] {
        if !part.is_empty() {
            uri.push('/');
            uri.push_str(part);
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use api::request::{ResourceRef, User, Verb};

    use super::*;

    #[test]
    fn a_request_from_here_has_a_path_too() {
        let resource = ResourceRef::new("apps", "v1", "deployments");
        let mut request = Request::new(User::default(), Verb::Update, resource, "shop", "web");
        request.subresource = "status".into();
        assert_eq!(
            uri(&request),
            "/apis/apps/v1/namespaces/shop/deployments/web/status"
        );
        assert_eq!(about(&request).verb, "update");
    }
}
