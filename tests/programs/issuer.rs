//! Somebody who knows users, for the scenarios: an issuer of tokens (OpenID Connect), and a webhook that knows tokens.
//!
//! `issuer ADDRESS:PORT FOLDER NAME…` makes itself a certificate for the names and writes it to `FOLDER/ca.crt`. It
//! answers with the files `FOLDER/discovery` and `FOLDER/keys`, and TokenReviews with `FOLDER/user` if the token is what
//! `FOLDER/token` says. What it is asked it writes to `FOLDER/requests`.

#[path = "serving.rs"]
mod serving;

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use serving::Request;

fn main() {
    let mut args = std::env::args().skip(1);
    let address = args.next().expect("ADDRESS:PORT");
    let folder = PathBuf::from(args.next().expect("FOLDER"));
    let listener = TcpListener::bind(address).expect("an address to listen on");
    let config = Arc::new(serving::tls(&folder, args.collect(), None));
    for stream in listener.incoming().flatten() {
        let (config, folder) = (config.clone(), folder.clone());
        std::thread::spawn(move || serve(stream, config, &folder));
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, folder: &Path) {
    let connection = ServerConnection::new(config).expect("TLS");
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    while let Some(request) = serving::request(&mut stream) {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("requests"));
        writeln!(
            file.expect("FOLDER/requests"),
            "{} {}",
            request.method,
            request.path
        )
        .expect("FOLDER/requests");
        let (code, answer) = answer(&request, folder);
        if !serving::respond(stream.get_mut(), code, &answer) || request.is_last() {
            return;
        }
    }
}

fn answer(request: &Request, folder: &Path) -> (u16, String) {
    let file = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    match request.path.as_str() {
        "/.well-known/openid-configuration" => (200, file("discovery")),
        "/keys" => (200, file("keys")),
        "/review" => (
            200,
            review(&request.body, &file("token"), &file("user")).to_string(),
        ),
        _ => (404, "{}".to_owned()),
    }
}

fn review(body: &[u8], token: &str, user: &str) -> Value {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let known = !token.is_empty() && asked["spec"]["token"] == token;
    let status = match known {
        true => {
            json!({"authenticated": true, "user": serde_json::from_str::<Value>(user).expect("FOLDER/user"),
            "audiences": asked["spec"]["audiences"]})
        }
        false => json!({"authenticated": false, "error": "a stranger"}),
    };
    json!({"apiVersion": asked["apiVersion"], "kind": "TokenReview", "status": status})
}
