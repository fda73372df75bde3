//! Finding the authority of a server of which only its certificate's hash is known, as join tokens tell it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

use crate::trust;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a server's authority cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The server's URL is none.
    #[error("{0:?} is not an https URL with a host")]
    Url(String),
    /// The server cannot be reached.
    #[error("the server at {0} cannot be reached: {1}")]
    Unreachable(String, String),
    /// The server is not the one that made the token.
    #[error(
        "the server's certificate authority is not the one that the token names: wrong server, wrong token, or somebody in between"
    )]
    WrongServer,
}

/// The hash of the authority out of a join token for `role`; `None` if it is none.
pub fn ca_hash<'a>(token: &'a str, role: &str) -> Option<&'a str> {
    match token.split('.').collect::<Vec<_>>().as_slice() {
        ["coracle1", hash, given, secret] if *given == role && hash.len() == 64 && !secret.is_empty() => {
            Some(hash)
        }
        _ => None,
    }
}

/// The certificate of that hash, out of those the server shows, as PEM.
///
/// # Errors
/// See [`PinError`].
pub async fn fetch_ca(server: &str, hash: &str) -> Result<String, PinError> {
    let bad = || PinError::Url(server.to_owned());
    let uri: http::Uri = server.parse().map_err(|_| bad())?;
    let host = uri.host().ok_or_else(bad)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(443);
    let unreachable = |why: String| PinError::Unreachable(server.to_owned(), why);
    let connect = async {
        let stream = TcpStream::connect((host.as_str(), port))
            .await
            .map_err(|e| e.to_string())?;
        let name = ServerName::try_from(host.clone()).map_err(|e| e.to_string())?;
        let config = trust::anyone().map_err(|e| e.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(config);
        connector.connect(name, stream).await.map_err(|e| e.to_string())
    };
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
    let stream = connected
        .map_err(|_| unreachable("no answer".to_owned()))?
        .map_err(unreachable)?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let found = chain
        .iter()
        .find(|cert| format!("{:x}", Sha256::digest(cert.as_ref())).eq_ignore_ascii_case(hash));
    found.map(|cert| pem(cert.as_ref())).ok_or(PinError::WrongServer)
}

/// A certificate (DER) as PEM.
pub fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let hash = "a".repeat(64);
        let token = format!("coracle1.{hash}.agent.s3");
        assert_eq!(ca_hash(&token, "agent"), Some(hash.as_str()));
        assert_eq!(ca_hash(&token, "server"), None);
        assert_eq!(ca_hash("nonsense", "agent"), None);
    }
}
