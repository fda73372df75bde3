//! Asking a plugin over its socket.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base::{Random, SystemRandom};
use plugins::kms::{DecryptRequest, EncryptRequest, StatusRequest};
use plugins::{Call, Code, Plugin};

use super::series::Series;
use super::verdict::{Source, Told};

/// What a plugin can be asked.
#[async_trait]
pub trait Remote: Send + Sync {
    /// How it is.
    async fn status(&self) -> Result<Told, String>;
    /// To encrypt a seed.
    async fn encrypt(&self, seed: Vec<u8>) -> Result<Source, String>;
    /// To decrypt one.
    async fn decrypt(&self, source: &Source) -> Result<Vec<u8>, String>;
}

/// A plugin on a unix socket.
pub struct Socket {
    name: String,
    plugin: Plugin,
    patience: Duration,
    series: Series,
}

/// The path of a socket, of an endpoint such as `unix:///run/kms.sock`.
///
/// # Errors
/// What is wrong with it.
pub fn path(endpoint: &str) -> Result<PathBuf, String> {
    let wrong = |why: &str| Err(format!("endpoint: Invalid value: {endpoint:?}: {why}"));
    let Some(path) = endpoint.strip_prefix("unix://") else {
        return wrong("unsupported scheme, must be unix");
    };
    // `@` marks sockets without a file.
    match path.starts_with('/') || path.starts_with('@') {
        true => Ok(PathBuf::from(path)),
        false => wrong("must name a socket by its whole path, such as unix:///run/kms.sock"),
    }
}

impl Socket {
    /// The plugin called `name`, whose answers are waited for no longer than `patience`.
    pub fn new(name: &str, path: &Path, patience: Duration, series: Series) -> Self {
        Self {
            name: name.to_owned(),
            plugin: Plugin::at(path),
            patience,
            series,
        }
    }

    async fn call<C: Call>(&self, request: C) -> Result<C::Reply, String> {
        let began = Instant::now();
        let answer = self.plugin.call(request, self.patience).await;
        let code = answer.as_ref().map_or_else(|status| status.code(), |_| Code::Ok);
        self.series
            .asked(&self.name, C::METHOD, code_name(code), began.elapsed());
        answer.map_err(|status| {
            format!(
                "rpc error: code = {} desc = {}",
                code_name(code),
                status.message()
            )
        })
    }
}

/// The name of a code, as Go's library writes it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[async_trait]
impl Remote for Socket {
    async fn status(&self) -> Result<Told, String> {
        let said = self.call(StatusRequest {}).await?;
        Ok(Told {
            version: said.version,
            healthz: said.healthz,
            key_id: said.key_id,
        })
    }

    async fn encrypt(&self, seed: Vec<u8>) -> Result<Source, String> {
        let uid = SystemRandom.uuid();
        let said = self.call(EncryptRequest { plaintext: seed, uid }).await?;
        Ok(Source {
            key_id: said.key_id,
            encrypted: said.ciphertext,
            annotations: said.annotations.into_iter().collect(),
        })
    }

    async fn decrypt(&self, source: &Source) -> Result<Vec<u8>, String> {
        let request = DecryptRequest {
            ciphertext: source.encrypted.clone(),
            uid: SystemRandom.uuid(),
            key_id: source.key_id.clone(),
            annotations: source.annotations.clone().into_iter().collect(),
        };
        Ok(self.call(request).await?.plaintext)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_name_sockets() {
        assert_eq!(path("unix:///run/kms.sock"), Ok(PathBuf::from("/run/kms.sock")));
        assert!(path("unix://kms.sock").unwrap_err().contains("whole path"));
        assert!(path("https://kms").unwrap_err().contains("must be unix"));
    }

    #[tokio::test]
    async fn nobody_there_is_told_in_gos_words() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("kms.sock");
        let remote = Socket::new("p", &socket, Duration::from_secs(3), Series::default());
        let why = remote.status().await.unwrap_err();
        assert!(
            why.starts_with("rpc error: code = Unavailable desc = connection error"),
            "{why}"
        );
    }
}
