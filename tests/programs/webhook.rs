//! A webhook server for the scenarios: what it does is in the path that it is asked under.
//!
//! `webhook ADDRESS:PORT FOLDER NAME…` makes itself a certificate for the names, writes it to `FOLDER/ca.crt`,
//! and every request to `FOLDER/requests`, one a line.

#[path = "serving.rs"]
mod serving;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use serving::Request;

/// How long a request is held at most.
const HELD_MAX: Duration = Duration::from_secs(25);

fn main() {
    let mut args = std::env::args().skip(1);
    let address = args.next().expect("ADDRESS:PORT");
    let folder = PathBuf::from(args.next().expect("FOLDER"));
    let config = serving::tls(&folder, args.collect(), None);
    serving::serve(&address, config, move |_, request| {
        Some(answered(request, &folder))
    });
}

fn answered(request: &Request, folder: &Path) -> (u16, String) {
    if request.method != "POST" {
        return (405, "reviews are posted".to_owned());
    }
    let review: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    note(folder, request, &review);
    let path = request.path.split('?').next().unwrap_or_default();
    answer(path, &review, folder)
}

fn note(folder: &Path, asked: &Request, review: &Value) {
    let request = &review["request"];
    let mut line = json!({
        "path": asked.path, "authorization": asked.headers.get("authorization"), "operation": request["operation"], "resource": request["resource"]["resource"],
        "part": request["subResource"], "name": request["name"], "dryRun": request["dryRun"],
        "user": request["userInfo"]["username"], "kind": request["object"]["kind"],
        "version": request["object"]["apiVersion"],
    });
    // What an audit log sends is a list of its own.
    if review["items"].is_array() {
        line["items"] = review["items"].clone();
    }
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("requests"));
    writeln!(file.expect("FOLDER/requests"), "{line}").expect("FOLDER/requests");
}

fn answer(path: &str, review: &Value, folder: &Path) -> (u16, String) {
    let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let uid = &review["request"]["uid"];
    let allowed = || json!({"uid": uid, "allowed": true});
    let response = match words.as_slice() {
        ["deny"] => {
            json!({"uid": uid, "allowed": false, "status": {"code": 403, "message": "not on my watch"}})
        }
        ["deny-silently"] => json!({"uid": uid, "allowed": false}),
        ["warn"] => json!({"uid": uid, "allowed": true, "warnings": ["that will end badly"]}),
        ["note"] => {
            json!({"uid": uid, "allowed": true, "warnings": ["you are watched"], "auditAnnotations": {"seen": "yes"}})
        }
        ["stranger"] => json!({"uid": "somebody else", "allowed": true}),
        ["slow"] => {
            std::thread::sleep(Duration::from_secs(20));
            allowed()
        }
        ["hold"] => {
            // Until the scenario lets go, or has forgotten it.
            let lasts = std::time::Instant::now();
            while !folder.join("released").exists() && lasts.elapsed() < HELD_MAX {
                std::thread::sleep(Duration::from_millis(20));
            }
            allowed()
        }
        ["broken"] => return (500, "out of order".to_owned()),
        ["append", letter] => patched(uid, review, letter),
        ["convert"] => return (200, converted(review).to_string()),
        _ => allowed(),
    };
    let answer = json!({
        "apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response,
    });
    (200, answer.to_string())
}

/// Appends a letter to the annotation `order`, unless it ends in that letter: what was asked twice and changed
/// by nobody in between stays as it is.
fn patched(uid: &Value, review: &Value, letter: &str) -> Value {
    let annotations = &review["request"]["object"]["metadata"]["annotations"];
    let order = annotations["order"].as_str().unwrap_or_default();
    if order.ends_with(letter) {
        return json!({"uid": uid, "allowed": true});
    }
    let order = format!("{order}{letter}");
    let patch = match annotations.is_object() {
        true => json!([{"op": "add", "path": "/metadata/annotations/order", "value": order}]),
        false => json!([{"op": "add", "path": "/metadata/annotations", "value": {"order": order}}]),
    };
    json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())})
}

/// Boats: `v1` has `spec.crew`, `v2` has `spec.rowers` and `spec.cox`.
fn converted(review: &Value) -> Value {
    let request = &review["request"];
    let wanted = request["desiredAPIVersion"].as_str().unwrap_or_default();
    let objects = request["objects"].as_array().into_iter().flatten().cloned();
    let objects: Vec<Value> = objects.map(|boat| convert(boat, wanted)).collect();
    let sinking = objects.iter().any(|boat| boat["spec"]["sinking"] == true);
    let result = match sinking {
        true => json!({"status": "Failure", "message": "a sinking boat stays as it is"}),
        false => json!({"status": "Success"}),
    };
    json!({
        "apiVersion": review["apiVersion"], "kind": "ConversionReview",
        "response": {"uid": request["uid"], "result": result, "convertedObjects": objects},
    })
}

fn convert(mut boat: Value, wanted: &str) -> Value {
    let count = |value: &Value| value.as_i64().unwrap_or(0);
    let spec = boat["spec"].take();
    let sinking = spec["sinking"].clone();
    boat["spec"] = match wanted.ends_with("/v2") {
        true => json!({"rowers": (count(&spec["crew"]) - 1).max(0), "cox": count(&spec["crew"]) > 0}),
        false => json!({"crew": count(&spec["rowers"]) + i64::from(spec["cox"] == true)}),
    };
    if !sinking.is_null() {
        boat["spec"]["sinking"] = sinking;
    }
    boat["apiVersion"] = wanted.into();
    boat
}
