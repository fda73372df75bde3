//! Whether this node has the runtime that a pod's class names.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;

use super::PodContext;
use crate::objects::{away, within_patience};
use crate::pods::spec;

/// Handlers that stand for what every node of ours does: which runtime a container
/// gets is found from its image, whatever class the pod names.
const HANDLERS: [&str; 9] = [
    "coracle", "runc", "crun", "youki", "wasm", "wasmtime", "wasmedge", "spin", "slight",
];

/// Refuses a pod whose class names a handler that nobody has here.
///
/// # Errors
/// The text for the event.
pub async fn check(context: &PodContext, pod: &Pod) -> Result<(), String> {
    let Some(name) = spec::spec(pod)
        .runtime_class_name
        .as_deref()
        .filter(|n| !n.is_empty())
    else {
        return Ok(());
    };
    match within_patience(context.node.client.get::<RuntimeClass>("", name)).await {
        Ok(class) if HANDLERS.contains(&class.handler.as_str()) => Ok(()),
        Ok(class) => Err(format!(
            "no runtime for {:?} is configured: this node knows {}",
            class.handler,
            HANDLERS.join(", ")
        )),
        // It was asked for when the pod was made; a pod that comes back without a server has run here before.
        Err(status) if away(&status) => Ok(()),
        Err(status) => Err(format!("failed to get sandbox runtime: {}", status.message)),
    }
}
