//! What the answers are given from.

use std::sync::{Arc, OnceLock};

use api::status::Status;

use crate::certificate::Certificate;
use crate::context::Context;
use crate::pods::table::{PodTable, PodView};

/// The node's side of the link to the API server. Cheap to clone.
#[derive(Clone)]
pub struct LinkService {
    pub(crate) table: PodTable,
    /// Empty until the node's network is up.
    pub(crate) context: Arc<OnceLock<Arc<Context>>>,
    pub(crate) certificate: Certificate,
}

/// A pod that was asked for.
pub(super) struct Target {
    pub(super) view: tokio::sync::watch::Receiver<PodView>,
    pub(super) container: String,
}

impl Target {
    /// The id of the running container, with its scheme.
    pub(super) fn running(&self) -> Result<String, Status> {
        let view = self.view.borrow();
        let found = view
            .containers
            .get(&self.container)
            .and_then(|c| c.container_id.clone());
        found.ok_or_else(|| {
            let text = format!(
                "unable to upgrade connection: container not found ({:?})",
                self.container
            );
            Status::new(500, "InternalError", text)
        })
    }
}

impl LinkService {
    pub(super) fn node(&self) -> Result<&Arc<Context>, Status> {
        self.context
            .get()
            .ok_or_else(|| Status::unavailable("the node is still starting"))
    }

    /// The pod, and the container: the one named, or the first.
    pub(super) fn target(&self, namespace: &str, name: &str, container: &str) -> Result<Target, Status> {
        let view = self
            .table
            .find(namespace, name)
            .ok_or_else(|| Status::not_found("", "pods", name))?;
        let first = || {
            let view = view.borrow();
            crate::pods::spec::main_containers(&view.pod)
                .next()
                .map(|c| c.name.clone())
                .unwrap_or_default()
        };
        let container = if container.is_empty() {
            first()
        } else {
            container.to_owned()
        };
        Ok(Target { view, container })
    }
}
