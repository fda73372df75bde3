//! The end of an agent to which another one succeeds.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ::wasm::Instance;

use super::WasmRuntime;
use super::containers::Stage;
use crate::handover::{Legacy, Owner};

impl WasmRuntime {
    /// Ends the guests that serve somebody, gives what they have begun that long, and returns the sockets on which they
    /// listened. Nobody hears of these ends.
    pub async fn leave(&self, grace: Duration) -> Legacy {
        self.leaving.store(true, Ordering::SeqCst);
        let running: Vec<(Owner, Instance)> = {
            let state = self.containers.lock();
            let started = state
                .containers
                .values()
                .filter_map(|container| match &container.stage {
                    Stage::Started(started) => Some((container.owner(), started.instance.clone())),
                    _ => None,
                });
            started.collect()
        };
        let (mut legacy, mut serving) = (Legacy::new(), Vec::new());
        for (owner, instance) in running {
            match instance.sockets() {
                // It serves nobody, and ends with the process.
                Ok(sockets) if sockets.is_empty() => continue,
                Ok(sockets) => legacy.push((owner, sockets)),
                Err(error) => {
                    tracing::warn!(pod = owner.pod, %error, "a guest's sockets are not handed over")
                }
            }
            instance.stop(grace);
            serving.push(instance);
        }
        for instance in &serving {
            instance.wait().await;
        }
        legacy
    }
}
