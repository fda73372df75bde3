//! What the scenarios' own servers have in common: TLS, and HTTP/1.1 by hand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// TLS with a certificate for these names, which is written to `FOLDER/ca.crt`. With a file of authorities, clients may
/// show certificates of theirs.
pub fn tls(folder: &Path, names: Vec<String>, authorities: Option<&Path>) -> ServerConfig {
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("TLS");
    let builder = match authorities {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for authority in CertificateDer::pem_file_iter(file).expect("a file of authorities") {
                roots.add(authority.expect("PEM")).expect("an authority");
            }
            let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(clients.allow_unauthenticated().build().expect("a verifier"))
        }
    };
    let config = builder
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate and its key");
    // Appears whole: whoever waits for it must not read half of it.
    std::fs::write(folder.join("ca.tmp"), made.cert.pem()).expect("FOLDER");
    std::fs::rename(folder.join("ca.tmp"), folder.join("ca.crt")).expect("FOLDER");
    config
}

/// A client's connection.
pub type Stream = BufReader<StreamOwned<ServerConnection, TcpStream>>;

/// Answers whoever connects, for good. `answer` gives a code and a body, or `None` when it has used the connection
/// itself and is done with it.
pub fn serve<F>(address: &str, config: ServerConfig, answer: F)
where
    F: Fn(&mut Stream, &Request) -> Option<(u16, String)> + Send + Sync + 'static,
{
    let listener = TcpListener::bind(address).expect("an address to listen on");
    let (config, answer) = (Arc::new(config), Arc::new(answer));
    for stream in listener.incoming().flatten() {
        let (config, answer) = (config.clone(), answer.clone());
        std::thread::spawn(move || {
            let connection = ServerConnection::new(config).expect("TLS");
            converse(
                &mut BufReader::new(StreamOwned::new(connection, stream)),
                &*answer,
            );
        });
    }
}

/// Answers the requests of one connection, one after another.
fn converse(stream: &mut Stream, answer: impl Fn(&mut Stream, &Request) -> Option<(u16, String)>) {
    while let Some(request) = request(stream) {
        let Some((code, body)) = answer(stream, &request) else {
            return;
        };
        if !respond(stream.get_mut(), code, &body) || request.is_last() {
            return;
        }
    }
}

/// A request.
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers by their names in lower case; values of several of one name are joined by commas.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// Whether the client wants no other answer over this connection.
    fn is_last(&self) -> bool {
        let connection = self.headers.get("connection");
        connection.is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Reads the next request; `None` at the connection's end.
fn request(stream: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = header.trim().split_once(':') else {
            break;
        };
        let value = value.trim();
        let values = headers.entry(name.to_ascii_lowercase()).or_default();
        *values = if values.is_empty() {
            value.to_owned()
        } else {
            format!("{values},{value}")
        };
    }
    let length = headers
        .get("content-length")
        .map_or(Some(0), |text| text.parse().ok())?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        headers,
        body,
    })
}

/// Writes an answer; `false` when nobody waits for it any more.
fn respond(stream: &mut impl Write, code: u16, answer: &str) -> bool {
    let head = format!(
        "HTTP/1.1 {code} Whatever\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        answer.len()
    );
    let written = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(answer.as_bytes()));
    written.and_then(|()| stream.flush()).is_ok()
}
