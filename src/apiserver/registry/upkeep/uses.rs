//! Writes down on which day the token of a Secret was used last.
//!
//! Every server does, for the tokens that were shown to it.

use std::sync::Arc;

use api::request::{PatchType, Verb};
use api::status::Status;
use api::tokens::LAST_USED;
use serde_json::json;

use super::PAUSE;
use crate::authn::{Used, Uses};
use crate::registry::Core;

impl Core {
    /// Labels Secrets whose tokens are used, for ever, one at a time.
    pub async fn note_uses(self, uses: Arc<Uses>) {
        loop {
            for used in uses.next().await {
                match self.note_use(&used).await {
                    Ok(()) => uses.forget(&used),
                    Err(status) => {
                        let (namespace, name) = (&used.namespace, &used.name);
                        tracing::warn!(%status, namespace, name, "could not label a secret with the day of its use");
                        // Without a leader nothing can be written; what is refused for what it is, is refused again.
                        if status.code >= 500 {
                            uses.forget(&used);
                            tokio::time::sleep(PAUSE).await;
                        }
                    }
                }
            }
        }
    }

    async fn note_use(&self, used: &Used) -> Result<(), Status> {
        let verb = Verb::Patch(PatchType::Merge);
        let mut request = self.own(verb, "", "secrets", &used.namespace, &used.name)?;
        // Not one that has come in its place.
        request.body = json!({"metadata": {"uid": used.uid, "labels": {LAST_USED: used.on.to_string()}}})
            .to_string()
            .into();
        self.carry_out_unless_changed(&request).await
    }
}
