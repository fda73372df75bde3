//! The API without kubectl: exact bodies, headers and tokens.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;

use super::Cluster;

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub code: u16,
    /// The body, null if it is not JSON.
    pub body: Value,
}

impl Answer {
    /// The message of a `Status`.
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    /// Fails unless this is a `Status` with that code, reason and text.
    #[track_caller]
    pub fn is(&self, code: u16, reason: &str, words: &[&str]) {
        assert_eq!(
            (self.code, self.body["reason"].as_str()),
            (code, Some(reason)),
            "{}",
            self.body
        );
        assert_eq!(self.body["kind"], "Status", "{}", self.body);
        super::assert_has(self.message(), words);
    }
}

/// Who asks.
pub enum As<'a> {
    /// The holder of `admin.kubeconfig`.
    Admin,
    /// Nobody.
    Anonymous,
    /// The holder of a token.
    Token(&'a str),
    /// The same, who says more in headers.
    TokenWith(&'a str, &'a [&'a str]),
    /// The holder of a certificate and its key (files), who may say more in headers.
    Certificate(&'a Path, &'a Path, &'a [&'a str]),
}

impl Cluster {
    /// Sends a request with a body of some content type (empty: none).
    pub fn call(&self, who: &As, method: &str, path: &str, content_type: &str, body: &str) -> Answer {
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "-k",
            "--max-time",
            "20",
            "-X",
            method,
            "-w",
            "\n%{http_code}",
        ]);
        match who {
            As::Admin => {
                let (cert, key) = self.admin_files();
                command.arg("--cert").arg(cert).arg("--key").arg(key);
            }
            As::Certificate(cert, key, _) => {
                command.arg("--cert").arg(cert).arg("--key").arg(key);
            }
            As::Anonymous => {}
            As::Token(token) | As::TokenWith(token, _) => {
                command.args(["-H", &format!("Authorization: Bearer {token}")]);
            }
        }
        if let As::TokenWith(_, headers) | As::Certificate(_, _, headers) = who {
            command.args(headers.iter().flat_map(|header| ["-H", header]));
        }
        if !content_type.is_empty() {
            command.args([
                "-H",
                &format!("Content-Type: {content_type}"),
                "--data-binary",
                "@-",
            ]);
        }
        command.arg(format!("https://127.0.0.1:{}{path}", self.port));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl");
        // A request without a body is not read from here.
        let _ = child.stdin.take().expect("stdin").write_all(body.as_bytes());
        let out = child.wait_with_output().expect("curl");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let (body, code) = text.rsplit_once('\n').unwrap_or(("", "0"));
        Answer {
            code: code.parse().unwrap_or(0),
            body: serde_json::from_str(body).unwrap_or_default(),
        }
    }

    /// POSTs JSON as the admin.
    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.call(&As::Admin, "POST", path, "application/json", body)
    }

    /// What curl, with further arguments, says of a path that the admin reads.
    pub fn curled(&self, args: &[&str], path: &str) -> String {
        let (cert, key) = self.admin_files();
        let out = Command::new("curl")
            .args(["-sS", "-k", "--max-time", "20", "--cert"])
            .arg(cert)
            .arg("--key")
            .arg(key)
            .args(args)
            .arg(format!("https://127.0.0.1:{}{path}", self.port))
            .output()
            .expect("curl");
        String::from_utf8(out.stdout).expect("a text")
    }

    /// Reads a path as the admin for as long as the server goes on answering, such as a watch.
    pub fn stream(&self, path: &str) -> Child {
        let (cert, key) = self.admin_files();
        let mut command = Command::new("curl");
        command
            .args(["-sS", "-k", "-N", "--cert"])
            .arg(cert)
            .arg("--key")
            .arg(key);
        let url = format!("https://127.0.0.1:{}{path}", self.port);
        command
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command.spawn().expect("curl")
    }

    /// What a series of `/metrics` shows, by its name with its labels.
    pub fn series(&self, series: &str) -> Result<f64, String> {
        let text = self.try_ok(&["get", "--raw", "/metrics"])?;
        let mut lines = text
            .lines()
            .filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = lines.next().and_then(|value| value.trim().parse().ok());
        value.ok_or_else(|| format!("there is no {series}"))
    }

    /// Makes a service account of the namespace `default` that may edit there; its token.
    pub fn editor(&self, name: &str) -> String {
        let token = self.account(name);
        let subject = format!("--serviceaccount=default:{name}");
        self.ok(&["create", "rolebinding", name, "--clusterrole=edit", &subject]);
        token
    }

    /// Makes a service account of the namespace `default`; its token.
    pub fn account(&self, name: &str) -> String {
        self.ok(&["create", "serviceaccount", name]);
        self.ok(&["create", "token", name]).trim().to_owned()
    }

    /// Changes to the protocol `echo` at a path, in which every byte must come back.
    pub fn echoes(&self, path: &str) {
        let mut stream = self.secured();
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        stream.get_mut().write_all(head.as_bytes()).expect("a request");
        let mut said = String::new();
        while !said.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut said).expect("an answer") > 0, "{said}");
        }
        super::assert_has(&said, &["HTTP/1.1 101"]);
        stream.get_mut().write_all(b"ahoy").expect("an open connection");
        let mut back = [0; 4];
        stream.read_exact(&mut back).expect("an echo");
        assert_eq!(&back, b"ahoy");
    }

    /// A connection as the admin.
    fn secured(&self) -> BufReader<rustls::StreamOwned<rustls::ClientConnection, TcpStream>> {
        let authority = self.dir.join("pki").join("serving-ca.crt");
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(authority).expect("the authority"))
            .expect("a certificate");
        let (cert, key) = self.admin_files();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS")
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(cert).expect("a certificate")],
                PrivateKeyDer::from_pem_file(key).expect("a key"),
            )
            .expect("a certificate and its key");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let connection = rustls::ClientConnection::new(Arc::new(config), name).expect("TLS");
        let socket = TcpStream::connect(("127.0.0.1", self.port)).expect("the API");
        BufReader::new(rustls::StreamOwned::new(connection, socket))
    }

    /// Certificate and key of the admin, as files.
    pub fn admin_files(&self) -> (PathBuf, PathBuf) {
        let unpack = |field: &str, name: &str| {
            let file = self.home().join(name);
            if !file.exists() {
                let path = format!("jsonpath={{.users[0].user.{field}}}");
                let text = self.ok(&["config", "view", "--raw", "-o", &path]);
                // Others may ask at the same moment: whole, or not there at all.
                let half = tempfile::NamedTempFile::new_in(self.home()).expect(name);
                std::fs::write(half.path(), base64(&text)).expect(name);
                half.persist(&file).expect(name);
            }
            file
        };
        (
            unpack("client-certificate-data", "admin.crt"),
            unpack("client-key-data", "admin.key"),
        )
    }
}

/// The head of the answer to a GET, in small letters; as the admin without a token.
pub fn head(cluster: &Cluster, token: Option<&str>, path: &str) -> String {
    let mut command = Command::new("curl");
    command.args(["-sS", "-k", "-o", "/dev/null", "-D", "-"]);
    match token {
        Some(token) => command.args(["-H", &format!("Authorization: Bearer {token}")]),
        None => {
            let (certificate, key) = cluster.admin_files();
            command.arg("--cert").arg(certificate).arg("--key").arg(key)
        }
    };
    let url = format!("https://127.0.0.1:{}{path}", cluster.port);
    let out = command.arg(url).output().expect("curl");
    String::from_utf8_lossy(&out.stdout).to_ascii_lowercase()
}

fn base64(text: &str) -> Vec<u8> {
    let mut child = Command::new("base64")
        .arg("-d")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("base64");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(text.as_bytes())
        .expect("base64");
    child.wait_with_output().expect("base64").stdout
}
