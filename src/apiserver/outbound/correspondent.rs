//! Somebody to whom a file in the form of a kubeconfig leads.

use std::path::Path;

use client::{Credentials, Kubeconfig};

use super::endpoint::Endpoint;

/// Where they are, and as whom they are asked.
#[derive(Clone, Debug)]
pub struct Correspondent {
    /// Where they are.
    pub endpoint: Endpoint,
    /// As whom they are asked.
    pub who: Credentials,
}

impl Correspondent {
    /// The one to whom a file leads.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(file: &Path) -> Result<Self, String> {
        let told = Kubeconfig::read(file).map_err(|error| error.to_string())?;
        let mut endpoint = Endpoint::url(&told.server)?;
        endpoint.authorities = told.ca_pem;
        if !told.tls_server_name.is_empty() {
            endpoint.server_name = told.tls_server_name;
        }
        let who = Credentials {
            cert_pem: told.client_cert_pem,
            key_pem: told.client_key_pem,
            token: told.token,
        };
        Ok(Self { endpoint, who })
    }
}
