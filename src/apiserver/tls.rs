//! TLS on the listening side.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ResolvesServerCert;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CipherSuite, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};

use crate::pki::PkiError;

/// The TLS settings of the API's port: HTTP/2 and HTTP/1.1, client certificates welcome.
/// `clients` are those who sign them.
pub fn server_config(
    clients: &[CertificateDer<'_>],
    serving: Arc<dyn ResolvesServerCert>,
) -> Result<ServerConfig, PkiError> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| cost(suite.suite(), has_aes()));
    let provider = Arc::new(provider);
    let algorithms = provider.signature_verification_algorithms;
    let subject = |ca: &CertificateDer<'_>| {
        let parsed = x509_parser::parse_x509_certificate(ca).ok();
        parsed.map(|(_, ca)| DistinguishedName::from(ca.subject().as_raw().to_vec()))
    };
    let verifier = AnyClientCert {
        hints: clients.iter().filter_map(subject).collect(),
        algorithms,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(serving);
    // As Go's servers do: most clients say what is strongest, which costs a third more and protects no better.
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Whether the processor encrypts by itself.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// The place of a cipher suite among others, the cheapest first.
fn cost(suite: CipherSuite, has_aes: bool) -> u8 {
    let name = suite.as_str().unwrap_or_default();
    match (has_aes, name.contains("CHACHA20"), name.contains("AES_128")) {
        (_, true, _) => u8::from(has_aes) * 2,
        (true, _, small) => u8::from(!small),
        (false, _, small) => 1 + u8::from(!small),
    }
}

/// Takes any client certificate whose key the client holds. Whether it proves anything is
/// for authentication to say: a handshake that fails cannot tell the client "401
/// Unauthorized", and a client with an outdated certificate may still have a good token.
#[derive(Debug)]
struct AnyClientCert {
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyClientCert {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_cipher_comes_first() {
        let order = |has_aes| {
            let mut suites = [
                CipherSuite::TLS13_AES_256_GCM_SHA384,
                CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
                CipherSuite::TLS13_AES_128_GCM_SHA256,
            ];
            suites.sort_by_key(|suite| cost(*suite, has_aes));
            suites
        };
        assert_eq!(order(true)[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(order(true)[2], CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        assert_eq!(order(false)[0], CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    }
}
