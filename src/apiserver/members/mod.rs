//! The servers of a cluster, as the API tells of them and changes them, below
//! `/apis/coracle.dev/v1`:
//!
//! | Request | What it does |
//! |---|---|
//! | `GET members`, `GET members/NAME` | shows them |
//! | `POST joins` | hands a new server what it needs ([`wire::Handover`]) |
//! | `POST members` | takes it in, as a learner |
//! | `POST members/NAME/promote` | makes a learner a voter |
//! | `POST members/NAME/lead` | hands leadership over |
//! | `DELETE members/NAME` | removes one |
//! | `GET status` | how the server is that answers |
//!
//! Any server answers; what changes the group is judged by the one that leads.
//! Roles give access as to any resource of that group.

mod answer;
pub(crate) mod endpoints;
mod gauges;
mod judge;
mod standing;
mod state;
pub mod wire;

use std::path::PathBuf;
use std::sync::Arc;

use api::status::Status;
use base::Clock;
use serde_json::Value;
use store::Store;

pub use answer::{answer, is_about};
pub use gauges::Gauges;
pub use judge::{Here, witness_names};
pub use standing::Standing;

use crate::pki::Pki;

/// What is needed to tell of the servers and to change them.
pub struct Members {
    /// The group.
    pub store: Store,
    /// The secrets that a new server gets; a witness has none, and lets nobody in.
    pub pki: Option<Arc<Pki>>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where this server is found.
    pub here: Here,
    /// Settings that all servers share, for a new one.
    pub settings: Value,
    /// The folder of this server's data.
    pub data_dir: PathBuf,
    /// What the metrics show of it.
    pub gauges: Gauges,
}

impl Members {
    /// The secrets that a new server gets.
    ///
    /// # Errors
    /// On a witness.
    pub(crate) fn secrets(&self) -> Result<&Pki, Status> {
        let none = || Status::internal("this server has no keys to hand over");
        self.pki.as_deref().ok_or_else(none)
    }

    /// Brings the gauges up to date.
    pub async fn measure(&self) {
        if let Ok(status) = self.store.status().await {
            self.gauges.update(&status, &self.here);
            let endings = self.pki.as_ref().map(|pki| pki.endings());
            self.gauges.ending(&endings.unwrap_or_default());
        }
    }
}
