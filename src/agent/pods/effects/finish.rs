//! The very end: the pod leaves the API.

use std::sync::Arc;

use client::DeleteOptions;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::PodContext;
use crate::pods::report;
use crate::pods::spec;

/// Writes the last status and removes the pod with no grace left; `orphaned`:
/// it is gone from the API already.
///
/// # Errors
/// The text for the log; it is tried again.
pub async fn finalize(
    context: Arc<PodContext>,
    pod: Arc<Pod>,
    status: Value,
    orphaned: bool,
) -> Result<(), String> {
    if orphaned {
        return Ok(());
    }
    let client = &context.node.client;
    match report::send(client, &pod, spec::uid(&pod), status).await {
        Ok(()) => {}
        Err(error) if error.is_not_found() || error.is_conflict() => return Ok(()),
        Err(error) => return Err(error.to_string()),
    }
    let uid = Some(spec::uid(&pod).to_owned());
    let options = DeleteOptions {
        grace_seconds: Some(0),
        uid,
        ..DeleteOptions::default()
    };
    match client
        .delete::<Pod>(spec::namespace(&pod), spec::name(&pod), &options)
        .await
    {
        Ok(()) => Ok(()),
        // Gone already, or another pod has the name by now.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
