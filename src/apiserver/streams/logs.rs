//! `pods/NAME/log`.

use std::sync::Arc;

use api::status::{FieldError, Status};
use futures_util::StreamExt;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{Method, Response};

use super::upgrade::{self, Wanted};
use super::websocket::{self, Framing};
use super::{Incoming, link, pod};
use crate::body::Body;
use crate::http::path::ResourcePath;
use crate::http::query::Query;
use crate::http::{Door, reply};

const SWITCHES: [&str; 3] = ["follow", "previous", "timestamps"];
const VALUES: [&str; 5] = ["tailLines", "sinceSeconds", "sinceTime", "limitBytes", "stream"];

/// Streams a container's log.
pub async fn answer(
    door: &Arc<Door>,
    path: &ResourcePath,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    if incoming.request.method() != Method::GET {
        let text = "the server does not allow this method on the requested resource";
        return Err(Status::new(405, "MethodNotAllowed", text));
    }
    let query = options(&incoming.query, &path.name)?;
    let object = pod::get(door, "pods", &path.namespace, &path.name).await?;
    let container = pod::container(&object, incoming.query.get("container").unwrap_or_default())?;
    let node = pod::node(&object);
    if node.is_empty() {
        return Ok(reply::text(200, ""));
    }
    let pairs: Vec<(&str, &str)> = query.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let uri = link::uri(&["logs", &path.namespace, &path.name, &container], &pairs);
    let answer = link::ask(door, node, Method::GET, &uri, link::nothing()).await?;
    match upgrade::wanted(incoming.request.version(), incoming.request.headers()) {
        Some(Wanted::WebSocket) => over_websocket(incoming, answer.into_body()),
        _ => {
            let mut response = reply::text(200, "");
            *response.body_mut() = answer.into_body();
            Ok(response)
        }
    }
}

/// What is passed on to the agent, checked.
fn options(query: &Query, name: &str) -> Result<Vec<(&'static str, String)>, Status> {
    let mut errors = Vec::new();
    let mut least = |field: &str, least: i64| -> Result<(), Status> {
        match query.number::<i64>(field)? {
            Some(number) if number < least => {
                let detail = match least {
                    0 => "must be greater than or equal to 0",
                    _ => "must be greater than 0",
                };
                errors.push(FieldError::invalid(field, number, detail));
                Ok(())
            }
            _ => Ok(()),
        }
    };
    least("tailLines", 0)?;
    least("sinceSeconds", 1)?;
    least("limitBytes", 1)?;
    if query.get("sinceSeconds").is_some() && query.get("sinceTime").is_some() {
        errors.push(FieldError::forbidden(
            "",
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    if !errors.is_empty() {
        return Err(Status::invalid("", "PodLogOptions", name, &errors));
    }
    let on = SWITCHES
        .iter()
        .filter(|key| query.flag(key))
        .map(|key| (*key, "true".to_owned()));
    let given = VALUES
        .iter()
        .filter_map(|key| Some((*key, query.get(key)?.to_owned())));
    Ok(on.chain(given).collect())
}

fn over_websocket(incoming: Incoming, log: Body) -> Result<Response<Body>, Status> {
    let ours = ["binary.k8s.io", "base64.binary.k8s.io", ""];
    let protocol = upgrade::choose(incoming.request.headers(), &SEC_WEBSOCKET_PROTOCOL, &ours)?;
    let framing = Framing::of(protocol);
    let pieces = http_body_util::BodyStream::new(log)
        .take_while(|frame| std::future::ready(frame.is_ok()))
        .map(move |frame| framing.plain(frame.ok().and_then(|f| f.into_data().ok()).unwrap_or_default()));
    websocket::stream(incoming.request, protocol, pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked_and_passed_on() {
        let query = Query::parse("follow=true&tailLines=5&previous=false&container=c&timestamps=1");
        let passed = options(&query, "web").unwrap();
        assert_eq!(
            passed,
            [
                ("follow", "true".into()),
                ("timestamps", "true".into()),
                ("tailLines", "5".into())
            ]
        );
        let wrong = options(&Query::parse("tailLines=-1"), "web").unwrap_err();
        assert_eq!(
            wrong.message,
            r#"PodLogOptions "web" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"#
        );
        assert_eq!(
            options(&Query::parse("tailLines=x"), "web").unwrap_err().code,
            400
        );
    }
}
