//! A server that extends the API, for the scenarios: `boats.example.com/v1` with one kind, kept in memory.
//!
//! `extension ADDRESS:PORT FOLDER AUTHORITIES NAME…` makes itself a certificate for the names and writes it to
//! `FOLDER/ca.crt`. It answers only who comes with a certificate that AUTHORITIES (a file) have signed for
//! `front-proxy-client`, and writes down in each boat who the headers say has built it.

#[path = "serving.rs"]
mod serving;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex};

use serde_json::{Value, json};
use serving::{Request, Stream};

const GROUP_VERSION: &str = "boats.example.com/v1";
const ROOT: &str = "/apis/boats.example.com/v1";

/// Every boat, and every change so far.
#[derive(Default)]
struct Harbour {
    events: Mutex<Vec<(&'static str, Value)>>,
    changed: Condvar,
}

impl Harbour {
    fn boats(&self) -> Vec<Value> {
        let mut boats: Vec<Value> = Vec::new();
        for (event, boat) in self.events.lock().expect("a lock").iter() {
            boats.retain(|known| known["metadata"]["name"] != boat["metadata"]["name"]);
            if *event != "DELETED" {
                boats.push(boat.clone());
            }
        }
        boats
    }

    fn add(&self, event: &'static str, mut boat: Value) -> Value {
        let mut events = self.events.lock().expect("a lock");
        boat["metadata"]["resourceVersion"] = (events.len() + 1).to_string().into();
        events.push((event, boat.clone()));
        self.changed.notify_all();
        boat
    }

    /// The events after the first `seen`; waits for one.
    fn after(&self, seen: usize) -> Vec<(&'static str, Value)> {
        let events = self.events.lock().expect("a lock");
        let events = self
            .changed
            .wait_while(events, |events| events.len() <= seen)
            .expect("a lock");
        events.iter().skip(seen).cloned().collect()
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let address = args.next().expect("ADDRESS:PORT");
    let folder = PathBuf::from(args.next().expect("FOLDER"));
    let authorities = PathBuf::from(args.next().expect("AUTHORITIES"));
    let config = serving::tls(&folder, args.collect(), Some(&authorities));
    let harbour = Harbour::default();
    serving::serve(&address, config, move |stream, request| {
        respond(stream, request, &harbour)
    });
}

/// The answer, unless it is one without an end.
fn respond(stream: &mut Stream, request: &Request, harbour: &Harbour) -> Option<(u16, String)> {
    if !is_front_proxy(stream) {
        return Some((401, status(401, "who are you?")));
    }
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    if query.contains("watch=") {
        watch(stream.get_mut(), harbour);
        return None;
    }
    if path.ends_with("/echo") {
        echo(stream);
        return None;
    }
    if path.ends_with("/hang") {
        // Until the other side gives up.
        let _ = stream.read(&mut [0]);
        return None;
    }
    Some(answer(request, path, harbour))
}

fn is_front_proxy(stream: &Stream) -> bool {
    let chain = stream.get_ref().conn.peer_certificates().unwrap_or_default();
    let leaf = chain
        .first()
        .and_then(|der| x509_parser::parse_x509_certificate(der).ok());
    leaf.is_some_and(|(_, leaf)| {
        leaf.subject()
            .iter_common_name()
            .any(|name| name.as_str() == Ok("front-proxy-client"))
    })
}

/// Every event there was and will be.
fn watch(stream: &mut impl Write, harbour: &Harbour) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut text = head.to_owned();
    let mut seen = 0;
    loop {
        if stream
            .write_all(text.as_bytes())
            .and_then(|()| stream.flush())
            .is_err()
        {
            return;
        }
        text.clear();
        for (event, boat) in harbour.after(seen) {
            let line = format!("{}\n", json!({"type": event, "object": boat}));
            text.push_str(&format!("{:x}\r\n{line}\r\n", line.len()));
            seen += 1;
        }
    }
}

/// Changes to a protocol in which every byte comes back.
fn echo(stream: &mut Stream) {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    let mut byte = [0];
    let started = stream.get_mut().write_all(head.as_bytes());
    while started.is_ok() && stream.get_mut().flush().is_ok() && stream.read_exact(&mut byte).is_ok() {
        if stream.get_mut().write_all(&byte).is_err() {
            return;
        }
    }
}

fn status(code: u16, message: &str) -> String {
    let reason = match code {
        401 => "Unauthorized",
        409 => "AlreadyExists",
        _ => "NotFound",
    };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message,
        "reason": reason})
    .to_string()
}

fn answer(request: &Request, path: &str, harbour: &Harbour) -> (u16, String) {
    match path {
        ROOT => return (200, resources().to_string()),
        "/openapi/v2" => return (200, openapi_v2().to_string()),
        "/openapi/v3" => {
            let url = format!("/openapi/v3{ROOT}?hash=AB");
            return (
                200,
                json!({"paths": {&ROOT[1..]: {"serverRelativeURL": url}}}).to_string(),
            );
        }
        _ => {}
    }
    if path == format!("/openapi/v3{ROOT}") {
        return (200, openapi_v3().to_string());
    }
    let below: Vec<&str> = path
        .strip_prefix(ROOT)
        .unwrap_or_default()
        .trim_matches('/')
        .split('/')
        .collect();
    match (request.method.as_str(), below.as_slice()) {
        ("GET", ["boats"] | ["namespaces", _, "boats"]) => {
            let mut boats = harbour.boats();
            if let [_, namespace, _] = below.as_slice() {
                boats.retain(|boat| boat["metadata"]["namespace"] == *namespace);
            }
            let list = json!({"kind": "BoatList", "apiVersion": GROUP_VERSION, "metadata": {"resourceVersion": "1"},
                "items": boats});
            (200, list.to_string())
        }
        ("POST", ["namespaces", namespace, "boats"]) => build(request, namespace, harbour),
        (method, ["namespaces", _, "boats", name]) => one(method, name, harbour),
        _ => (
            404,
            status(404, "the server could not find the requested resource"),
        ),
    }
}

fn one(method: &str, name: &str, harbour: &Harbour) -> (u16, String) {
    let Some(boat) = harbour
        .boats()
        .into_iter()
        .find(|boat| boat["metadata"]["name"] == name)
    else {
        return (
            404,
            status(404, &format!("boats.boats.example.com \"{name}\" not found")),
        );
    };
    match method {
        "DELETE" => (200, harbour.add("DELETED", boat).to_string()),
        _ => (200, boat.to_string()),
    }
}

fn build(request: &Request, namespace: &str, harbour: &Harbour) -> (u16, String) {
    let mut boat: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let name = boat["metadata"]["name"].clone();
    if harbour
        .boats()
        .iter()
        .any(|known| known["metadata"]["name"] == name)
    {
        return (409, status(409, "there is such a boat"));
    }
    boat["metadata"]["namespace"] = namespace.into();
    boat["metadata"]["uid"] = format!("uid-of-{}", name.as_str().unwrap_or_default()).into();
    boat["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    let said: Value = request
        .headers
        .iter()
        .filter(|(header, _)| header.starts_with("x-remote-") || *header == "authorization")
        .map(|(header, value)| (header.clone(), Value::from(value.as_str())))
        .collect::<serde_json::Map<_, _>>()
        .into();
    boat["builder"] = said;
    (201, harbour.add("ADDED", boat).to_string())
}

fn resources() -> Value {
    let verbs = json!(["create", "delete", "get", "list", "watch"]);
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": [
        {"name": "boats", "singularName": "boat", "namespaced": true, "kind": "Boat", "verbs": verbs,
            "shortNames": ["bt"]},
        {"name": "boats/echo", "singularName": "", "namespaced": true, "kind": "Boat", "verbs": ["create", "get"]},
    ]})
}

fn boat() -> Value {
    json!({"type": "object", "description": "A boat is what floats.",
        "properties": {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
            "crew": {"type": "integer", "description": "How many row."}, "builder": {"type": "object"}},
        "x-kubernetes-group-version-kind": [{"group": "boats.example.com", "version": "v1", "kind": "Boat"}]})
}

/// What there is at the path of all boats, in either form.
fn paths() -> Value {
    let action = |verb: &str| {
        json!({"x-kubernetes-action": verb, "responses": {"200": {"description": "OK"}},
            "x-kubernetes-group-version-kind": {"group": "boats.example.com", "version": "v1", "kind": "Boat"}})
    };
    json!({format!("{ROOT}/namespaces/{{namespace}}/boats"): {"get": action("list"), "post": action("post")}})
}

fn openapi_v2() -> Value {
    json!({"swagger": "2.0", "info": {"title": "Boats", "version": "v1"}, "paths": paths(),
        "definitions": {"com.example.boats.v1.Boat": boat()}})
}

fn openapi_v3() -> Value {
    json!({"openapi": "3.0.0", "info": {"title": "Boats", "version": "v1"}, "paths": paths(),
        "components": {"schemas": {"com.example.boats.v1.Boat": boat()}}})
}
