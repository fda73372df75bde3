//! A registry in this process that misbehaves on request: for the scenarios,
//! and for the tests of the crate that pulls from it.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What goes wrong with one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// No answer at all, the connection stays open.
    Hang,
    /// The body ends after so many bytes.
    BreakAfter(usize),
    /// One byte at a time, with a pause after each.
    Drip(Duration),
    /// A status, perhaps with `Retry-After`.
    Status(u16, Option<&'static str>),
    /// Other bytes than were asked for, of the same length.
    OtherBytes,
    /// More bytes than were announced in the manifest.
    TooMany,
    /// Sends elsewhere: to the same path below another root, where it is served.
    Redirect,
}

/// How one has to say who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// User and password with each request.
    Basic,
    /// A token, given for user and password.
    Bearer,
}

#[derive(Default)]
struct State {
    address: String,
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, (String, Vec<u8>)>,
    /// By a part of the path: what happens to the next requests, in order.
    faults: BTreeMap<String, Vec<Fault>>,
    door: Option<(Door, String)>,
    requests: Vec<String>,
}

/// The registry; its threads end with the process.
#[derive(Clone)]
pub struct Hostile {
    /// `127.0.0.1:PORT`.
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Hostile {
    /// Starts one that behaves so far.
    pub fn start() -> Hostile {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let state = State {
            address: address.clone(),
            ..State::default()
        };
        let hostile = Hostile {
            address,
            state: Arc::new(Mutex::new(state)),
        };
        let own = hostile.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                std::thread::spawn(move || drop(own.serve(stream)));
            }
        });
        hostile
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the registry's state")
    }

    /// Keeps content; its descriptor.
    pub fn blob(&self, media_type: &str, content: &[u8]) -> Value {
        let digest = digest(content);
        self.lock().blobs.insert(digest.clone(), content.to_vec());
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// Keeps a manifest under a tag and its digest; the reference to pull it by, and its descriptor.
    pub fn manifest(&self, name: &str, tag: &str, media_type: &str, manifest: &Value) -> (String, Value) {
        let bytes = manifest.to_string().into_bytes();
        let digest = digest(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        for at in [tag, digest.as_str()] {
            let entry = (media_type.to_owned(), bytes.clone());
            self.lock()
                .manifests
                .insert(format!("/v2/{name}/manifests/{at}"), entry);
        }
        (format!("{}/{name}:{tag}", self.address), descriptor)
    }

    /// From now on tells of these manifests (descriptors) as what refers to that digest.
    pub fn refer(&self, name: &str, digest: &str, entries: &[Value]) {
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries});
        let entry = (kind.to_owned(), index.to_string().into_bytes());
        self.lock()
            .manifests
            .insert(format!("/v2/{name}/referrers/{digest}"), entry);
    }

    /// The manifest that is kept under a tag.
    pub fn content_of(&self, name: &str, tag: &str) -> Vec<u8> {
        let state = self.lock();
        let found = state.manifests.get(&format!("/v2/{name}/manifests/{tag}"));
        found
            .map(|(_, bytes)| bytes.clone())
            .expect("a manifest of that name")
    }

    /// From now on the next requests whose path has this part go wrong in these ways.
    pub fn fail(&self, part: &str, faults: &[Fault]) {
        self.lock().faults.insert(part.to_owned(), faults.to_vec());
    }

    /// From now on nobody gets anything without this user and password.
    pub fn close(&self, door: Door, user: &str, password: &str) {
        self.lock().door = Some((door, base64(&format!("{user}:{password}"))));
    }

    /// What was asked for, with the range if there was one.
    pub fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else {
                break;
            };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let range = headers.get("range").cloned().unwrap_or_default();
        self.lock()
            .requests
            .push(format!("{target} {range}").trim().to_owned());
        if let Some(answer) = self.at_the_door(&path, headers.get("authorization")) {
            return stream.write_all(answer.as_bytes());
        }
        let fault = self.fault(&path);
        let found = self.content(path.trim_start_matches("/elsewhere"));
        let Some((media_type, mut body)) = found else {
            let text = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            return stream
                .write_all(head("404 Not Found", "", text.len()).as_bytes())
                .and_then(|()| stream.write_all(text.as_bytes()));
        };
        let from = range
            .strip_prefix("bytes=")
            .and_then(|r| r.trim_end_matches('-').parse::<usize>().ok());
        let status = if from.is_some() {
            "206 Partial Content"
        } else {
            "200 OK"
        };
        body.drain(..from.unwrap_or(0).min(body.len()));
        let kind = format!("Content-Type: {media_type}\r\n");
        let length = body.len();
        match fault {
            None => {
                stream.write_all(head(status, &kind, length).as_bytes())?;
                stream.write_all(&body)
            }
            Some(Fault::Hang) => {
                // Until the other side gives up.
                let mut rest = [0; 1];
                stream.read(&mut rest).map(drop)
            }
            Some(Fault::BreakAfter(bytes)) => {
                stream.write_all(head(status, &kind, length).as_bytes())?;
                stream.write_all(&body[..bytes.min(length)])
            }
            Some(Fault::Drip(pause)) => {
                stream.write_all(head(status, &kind, length).as_bytes())?;
                for byte in body {
                    stream.write_all(&[byte])?;
                    std::thread::sleep(pause);
                }
                Ok(())
            }
            Some(Fault::Status(code, after)) => {
                let after = after
                    .map(|after| format!("Retry-After: {after}\r\n"))
                    .unwrap_or_default();
                stream.write_all(head(&format!("{code} No"), &after, 0).as_bytes())
            }
            Some(Fault::OtherBytes) => {
                stream.write_all(head(status, &kind, length).as_bytes())?;
                stream.write_all(&vec![b'x'; length])
            }
            Some(Fault::TooMany) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                stream.write_all(&body)?;
                stream.write_all(&body)
            }
            Some(Fault::Redirect) => {
                let to = format!("Location: http://{}/elsewhere{target}\r\n", self.address);
                stream.write_all(head("307 Temporary Redirect", &to, 0).as_bytes())
            }
        }
    }

    /// The refusal of who does not say who they are, or a token for who does.
    fn at_the_door(&self, path: &str, authorization: Option<&String>) -> Option<String> {
        let state = self.lock();
        let (door, pair) = state.door.as_ref()?;
        let (basic, bearer) = (format!("Basic {pair}"), "Bearer let-me-in".to_owned());
        if path == "/token" {
            let known = authorization == Some(&basic);
            let body = if known { r#"{"token":"let-me-in"}"# } else { "" };
            let status = if known { "200 OK" } else { "401 Unauthorized" };
            return Some(head(status, "", body.len()) + body);
        }
        let (wanted, challenge) = match door {
            Door::Basic => (basic, "Basic realm=\"r\"".to_owned()),
            Door::Bearer => {
                let realm = format!("Bearer realm=\"http://{}/token\",service=\"s\"", state.address);
                (bearer, realm)
            }
        };
        let refused = authorization != Some(&wanted);
        refused.then(|| {
            head(
                "401 Unauthorized",
                &format!("WWW-Authenticate: {challenge}\r\n"),
                0,
            )
        })
    }

    fn fault(&self, path: &str) -> Option<Fault> {
        let mut state = self.lock();
        let faults = state
            .faults
            .iter_mut()
            .find(|(part, faults)| path.contains(part.as_str()) && !faults.is_empty());
        faults.map(|(_, faults)| faults.remove(0))
    }

    fn content(&self, path: &str) -> Option<(String, Vec<u8>)> {
        let state = self.lock();
        let blob = path
            .rsplit_once("/blobs/")
            .and_then(|(_, digest)| state.blobs.get(digest));
        let blob = blob.map(|bytes| ("application/octet-stream".to_owned(), bytes.clone()));
        blob.or_else(|| state.manifests.get(path).cloned())
    }
}

fn head(status: &str, more: &str, length: usize) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{more}Content-Length: {length}\r\n\r\n")
}

/// `sha256:…`
pub fn digest(content: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(content))
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let at = |n: usize| chunk.get(n).copied().unwrap_or(0) as usize;
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..4 {
            let is_padding = n > chunk.len();
            out.push(if is_padding {
                '='
            } else {
                DIGITS[bits >> (18 - 6 * n) & 63] as char
            });
        }
    }
    out
}
