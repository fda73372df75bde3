//! The pod to which connections are forwarded.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use tokio::sync::mpsc;

use super::super::link;
use crate::body::Body;
use crate::http::Door;

/// Where the connections lead.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) door: Arc<Door>,
    pub(super) node: String,
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) uid: String,
}

impl Target {
    /// Opens a connection to a port of the pod: the way there and the way back.
    pub(super) async fn dial(&self, port: &str) -> Result<(mpsc::Sender<Bytes>, Body), String> {
        port.parse::<u16>()
            .map_err(|_| format!("could not parse port {port:?}"))?;
        let uri = link::uri(&["portforward", &self.namespace, &self.pod], &[("port", port)]);
        let (to_pod, body) = link::channel();
        let answer = link::ask(&self.door, &self.node, Method::POST, &uri, body).await;
        answer
            .map(|answer| (to_pod, answer.into_body()))
            .map_err(|status| status.message)
    }

    /// What a client is told when a connection fails.
    pub(super) fn failure(&self, port: &str, why: &str) -> String {
        let Self { pod, uid, .. } = self;
        format!(
            "an error occurred forwarding {port} -> {port}: error forwarding port {port} to pod {pod}, uid {uid}: {why}"
        )
    }
}
