//! A KMS plugin for the scenarios: it keeps keys in a folder, and encrypts with the one that is named there.
//!
//! `kms SOCKET FOLDER` reads `FOLDER/key` (the key it encrypts with) and knows the keys `FOLDER/keys/NAME`. What it is
//! asked is written to `FOLDER/calls`, one a line.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use plugins::answer::{Answer, Asked, answer, serve, unknown};
use plugins::kms::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
};
use plugins::{Call, Status};
use sha2::{Digest, Sha256};

/// What it wants to be told again.
const NONCE: &str = "nonce.kms.example.com";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let socket = PathBuf::from(args.next().expect("SOCKET"));
    let folder = PathBuf::from(args.next().expect("FOLDER"));
    let handle = move |asked: Asked| handle(asked, folder.clone());
    serve(&socket, handle).await.expect("SOCKET");
}

async fn handle(asked: Asked, folder: PathBuf) -> Answer {
    match asked.uri().path() {
        StatusRequest::METHOD => answer(asked, |_: StatusRequest| async move { status(&folder) }).await,
        EncryptRequest::METHOD => {
            answer(asked, |request: EncryptRequest| async move {
                encrypt(&folder, &request)
            })
            .await
        }
        DecryptRequest::METHOD => {
            answer(asked, |request: DecryptRequest| async move {
                decrypt(&folder, &request)
            })
            .await
        }
        _ => unknown(&asked),
    }
}

fn note(folder: &Path, call: &str, key: &str) {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("calls"));
    writeln!(file.expect("FOLDER/calls"), "{call} {key}").expect("FOLDER/calls");
}

fn current(folder: &Path) -> String {
    let key = std::fs::read_to_string(folder.join("key")).expect("FOLDER/key");
    key.trim().to_owned()
}

fn status(folder: &Path) -> Result<StatusResponse, Status> {
    let key_id = current(folder);
    note(folder, "status", &key_id);
    let healthz = std::fs::read_to_string(folder.join("healthz")).unwrap_or_else(|_| "ok".to_owned());
    Ok(StatusResponse {
        version: "v2".to_owned(),
        healthz,
        key_id,
    })
}

fn encrypt(folder: &Path, request: &EncryptRequest) -> Result<EncryptResponse, Status> {
    let key_id = current(folder);
    note(folder, "encrypt", &key_id);
    let nonce = request.uid.clone().into_bytes();
    Ok(EncryptResponse {
        ciphertext: masked(folder, &key_id, &nonce, &request.plaintext)?,
        key_id,
        annotations: HashMap::from([(NONCE.to_owned(), nonce)]),
    })
}

fn decrypt(folder: &Path, request: &DecryptRequest) -> Result<DecryptResponse, Status> {
    note(folder, "decrypt", &request.key_id);
    let nonce = request.annotations.get(NONCE);
    let nonce = nonce.ok_or_else(|| Status::invalid_argument("the annotation is missing"))?;
    Ok(DecryptResponse {
        plaintext: masked(folder, &request.key_id, nonce, &request.ciphertext)?,
    })
}

/// At most 32 bytes under a mask that only this key and nonce give.
fn masked(folder: &Path, key: &str, nonce: &[u8], text: &[u8]) -> Result<Vec<u8>, Status> {
    let secret = std::fs::read(folder.join("keys").join(key));
    let secret = secret.map_err(|_| Status::not_found(format!("there is no key {key:?}")))?;
    let mask = Sha256::new().chain_update(secret).chain_update(nonce).finalize();
    if text.len() > mask.len() {
        return Err(Status::invalid_argument("more than a seed"));
    }
    Ok(text.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect())
}
