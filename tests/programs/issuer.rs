//! Somebody who knows users, for the scenarios: an issuer of tokens (OpenID Connect), and a webhook that knows tokens
//! and says who may do what.
//!
//! `issuer ADDRESS:PORT FOLDER NAME…` makes itself a certificate for the names and writes it to `FOLDER/ca.crt`. It
//! answers with the files `FOLDER/discovery` and `FOLDER/keys`, and TokenReviews with `FOLDER/user` if the token is what
//! `FOLDER/token` says, and SubjectAccessReviews by `FOLDER/verdicts`. What it is asked it writes to `FOLDER/requests`.

#[path = "serving.rs"]
mod serving;

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use serving::Request;

fn main() {
    let mut args = std::env::args().skip(1);
    let address = args.next().expect("ADDRESS:PORT");
    let folder = PathBuf::from(args.next().expect("FOLDER"));
    let config = serving::tls(&folder, args.collect(), None);
    serving::serve(&address, config, move |_, request| {
        note(request, &folder);
        Some(answer(request, &folder))
    });
}

fn note(request: &Request, folder: &Path) {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("requests"));
    let line = format!("{} {}", request.method, request.path);
    writeln!(file.expect("FOLDER/requests"), "{line}").expect("FOLDER/requests");
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
        "/authorize" => (200, access(&request.body, &file("verdicts")).to_string()),
        _ => (404, "{}".to_owned()),
    }
}

/// What `FOLDER/verdicts` says about a verb on a resource: `allow`, `deny`, or nothing.
fn access(body: &[u8], verdicts: &str) -> Value {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let about = &asked["spec"]["resourceAttributes"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let question = format!(
        "{} {} {}",
        text(&asked["spec"]["user"]),
        text(&about["verb"]),
        text(&about["resource"])
    );
    let verdicts: Value = serde_json::from_str(verdicts).expect("FOLDER/verdicts");
    let status = match verdicts[&question].as_str() {
        Some("allow") => json!({"allowed": true, "reason": "a friend"}),
        Some("deny") => json!({"allowed": false, "denied": true, "reason": "not today"}),
        _ => json!({"allowed": false}),
    };
    json!({"apiVersion": asked["apiVersion"], "kind": "SubjectAccessReview", "status": status})
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
