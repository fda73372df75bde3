//! Outbound requests through `wasi:http/outgoing-handler`.

use std::io::Read;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, IncomingResponse, OutgoingRequest, Scheme};

/// GETs a URL; gives `HTTP STATUS`, a blank line and the body.
pub fn get(url: &str) -> Result<Vec<u8>, String> {
    let request = request(url)?;
    let future = handle(request, None).map_err(|error| format!("{url}: {error:?}"))?;
    future.subscribe().block();
    let response = match future.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(error))) => return Err(format!("{url}: {error:?}")),
        _ => return Err(format!("{url}: no answer")),
    };
    let mut out = format!("HTTP {}\n\n", response.status()).into_bytes();
    out.extend(body(&response)?);
    Ok(out)
}

fn request(url: &str) -> Result<OutgoingRequest, String> {
    let (scheme, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (Scheme::Http, rest),
        (_, Some(rest)) => (Scheme::Https, rest),
        _ => return Err(format!("not an http url: {url}")),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let request = OutgoingRequest::new(Fields::new());
    let set = request
        .set_scheme(Some(&scheme))
        .and_then(|()| request.set_authority(Some(authority)));
    set.and_then(|()| request.set_path_with_query(Some(path)))
        .map_err(|()| format!("bad url: {url}"))?;
    Ok(request)
}

fn body(response: &IncomingResponse) -> Result<Vec<u8>, String> {
    let body = response.consume().map_err(|()| "no body".to_string())?;
    let mut stream = body.stream().map_err(|()| "no body".to_string())?;
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}
