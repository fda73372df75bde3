//! Requests for what other servers serve: who asks and whether they may is for this server to say.

use std::sync::Arc;

use api::status::Status;
use http::Response;

use super::door::Door;
use super::handler::Incoming;
use super::{path, resource};
use crate::aggregation::Remote;
use crate::authz::Attributes;
use crate::metrics::About;
use crate::nodes::Body;

/// Passes a request on to the server behind `remote`.
pub async fn answer(
    door: &Arc<Door>,
    remote: &Remote,
    about: &About,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    let asked = attributes(&incoming);
    door.authorizer.authorize(&asked).await?;
    let _running = (asked.verb == "watch").then(|| door.counters.long_running(about));
    Ok(door
        .aggregation
        .forward(remote, &incoming.user, incoming.request)
        .await)
}

/// The question whether the user may.
fn attributes(incoming: &Incoming) -> Attributes {
    let (method, uri) = (incoming.request.method(), incoming.request.uri());
    match path::parse_foreign(uri.path()) {
        Some(found) => {
            let verb = resource::metric_verb(&found, method, &incoming.query);
            found.asked(&incoming.user, resource::rule_verb(verb, method))
        }
        None => Attributes::of_path(&incoming.user, &method.as_str().to_ascii_lowercase(), uri.path()),
    }
}
