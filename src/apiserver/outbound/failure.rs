//! What went wrong on the way to somebody whom the server calls, in the words of Go's libraries, which people
//! search for. Pure.

use std::io;

use api::status::Status;
use rustls::CertificateError;

/// A connection that could not be made.
pub fn connecting(error: &io::Error, server_name: &str) -> String {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(error) => format!("tls: {}", handshake(error, server_name)),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => error.to_string(),
    }
}

fn handshake(error: &rustls::Error, server_name: &str) -> String {
    let rustls::Error::InvalidCertificate(why) = error else {
        return error.to_string();
    };
    let why = match why {
        // A stranger may have taken the name of somebody known.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "certificate signed by unknown authority".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate has expired or is not yet valid: current time is after its end".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid: current time is before its beginning".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("certificate is valid for other names, not {server_name}")
        }
        other => other.to_string(),
    };
    format!("failed to verify certificate: x509: {why}")
}

/// What the way to a Service failed with.
pub fn resolving(status: &Status, name: &str) -> String {
    if status.is_not_found() {
        return format!("service {name:?} not found");
    }
    let said = status.message.as_str();
    said.strip_prefix("error trying to reach service: ")
        .unwrap_or(said)
        .to_owned()
}

/// An answer with a code that says no, as client-go reads it.
pub fn answered(code: u16, body: &[u8]) -> String {
    if let Ok(status) = serde_json::from_slice::<Status>(body)
        && !status.message.is_empty()
    {
        return status.message;
    }
    match code {
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 => String::from_utf8_lossy(body).trim().to_owned(),
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        406 => "the server was unable to respond with a content type that the client supports".to_owned(),
        409 => "the server reported a conflict".to_owned(),
        415 => {
            "the server was unable to process the request because it does not accept its content type".into()
        }
        429 => "the server has received too many requests and has asked us to try again later".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing \
                the request"
                .to_owned()
        }
        500.. => {
            let text = String::from_utf8_lossy(body.get(..2048).unwrap_or(body));
            format!(
                "an error on the server ({:?}) has prevented the request from succeeding",
                text.trim()
            )
        }
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_read_as_gos() {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(
            connecting(&io::Error::other(unknown), "svc.ns.svc"),
            "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        );
        assert_eq!(
            resolving(&Status::not_found("", "services", "svc"), "svc"),
            "service \"svc\" not found"
        );
        assert_eq!(
            answered(500, b"boom\n"),
            "an error on the server (\"boom\") has prevented the request from succeeding"
        );
        assert_eq!(
            answered(404, b""),
            "the server could not find the requested resource"
        );
    }
}
