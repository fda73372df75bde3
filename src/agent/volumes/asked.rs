//! The tokens of a pod that a driver wants to be told.

use client::Client;
use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};
use k8s_openapi::api::storage::v1::TokenRequest;
use serde_json::json;

use super::Tokens;
use crate::moment::Moment;

/// Who asks for tokens, for which volume.
pub struct Asked<'a> {
    /// The API.
    pub client: &'a Client,
    /// The pod whose tokens they are.
    pub pod: &'a Pod,
    /// The volume.
    pub volume: &'a str,
    /// Those that the pod has.
    pub tokens: &'a Tokens,
    /// The present.
    pub now: Moment,
}

impl Asked<'_> {
    /// The tokens for those audiences, as drivers read them: a JSON object by audience. `None` if none are wanted.
    ///
    /// # Errors
    /// When one is not to be had.
    pub async fn for_driver(&self, wanted: &[TokenRequest]) -> Result<Option<String>, String> {
        if wanted.is_empty() {
            return Ok(None);
        }
        let projections: Vec<_> = wanted.iter().map(projection).collect();
        let had = self
            .tokens
            .get(
                self.client,
                self.pod,
                self.volume,
                projections.iter(),
                |_| None,
                self.now,
            )
            .await?;
        let texts = had.into_iter().map(|(audience, token)| {
            let expires = self.tokens.expires(self.volume, &audience);
            (audience, json!({"token": token, "expirationTimestamp": expires}))
        });
        let all: serde_json::Map<_, _> = texts.collect();
        Ok(Some(serde_json::Value::Object(all).to_string()))
    }
}

/// The audience stands for the path of a file.
fn projection(wanted: &TokenRequest) -> ServiceAccountTokenProjection {
    ServiceAccountTokenProjection {
        audience: Some(wanted.audience.clone()),
        expiration_seconds: wanted.expiration_seconds,
        path: wanted.audience.clone(),
    }
}
