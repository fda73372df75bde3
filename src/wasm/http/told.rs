//! What a routed program is told about its request, in headers of Spin's names.

use super::routes::Match;
use hyper::Request;
use hyper::header::{HOST, HeaderName, HeaderValue};
use std::net::SocketAddr;
use wasmtime_wasi_http::WasiBody;

/// How the headers' names begin; a client's own of that kind are taken away.
const PREFIX: &str = "spin-";

/// Tells a program how its request was matched.
pub(super) fn tell(request: &mut Request<WasiBody>, found: &Match<'_>, client: Option<SocketAddr>) {
    let host = request.headers().get(HOST).and_then(|value| value.to_str().ok());
    let host = request
        .uri()
        .authority()
        .map(|host| host.as_str())
        .or(host)
        .unwrap_or_default();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut told = vec![
        ("full-url".to_owned(), format!("http://{host}{path}")),
        ("path-info".to_owned(), found.rest.clone()),
        ("matched-route".to_owned(), found.route.to_owned()),
        ("component-route".to_owned(), found.prefix().to_owned()),
        ("raw-component-route".to_owned(), found.route.to_owned()),
    ];
    told.extend(client.map(|client| ("client-addr".to_owned(), client.to_string())));
    let named = found.named.iter();
    told.extend(named.map(|(name, value)| (format!("path-match-{name}"), value.clone())));
    let headers = request.headers_mut();
    let foreign: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(PREFIX))
        .cloned()
        .collect();
    for name in foreign {
        headers.remove(name);
    }
    for (name, value) in told {
        let name = HeaderName::try_from(format!("{PREFIX}{name}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
}
