//! The objects that the API's questions are asked with, and connections to ask on.

use client::{Kubeconfig, tls};
use serde_json::json;
use wire::Wire;

use crate::node::Node;

/// Where the objects are.
pub const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Bytes of an object's text.
const TEXT_BYTES: usize = 1024;

/// That many connections to the node.
pub async fn wires(node: &Node, count: usize) -> anyhow::Result<Vec<Wire>> {
    let config = Kubeconfig::read(&node.kubeconfig())?.http_config();
    let tls = tls::config(&config.ca_pem, &config.credentials, &[b"h2"])?;
    let mut wires = Vec::with_capacity(count);
    for _ in 0..count {
        wires.push(Wire::open(&config.server, tls.clone()).await?);
    }
    Ok(wires)
}

/// The text of an object; its labels and name are beside the 1 KiB.
pub fn map(number: usize, phase: &str) -> String {
    let metadata = json!({ "name": format!("bench-{number}"), "labels": { "phase": phase } });
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
        "data": { "text": "x".repeat(TEXT_BYTES), "number": number.to_string() },
    })
    .to_string()
}
