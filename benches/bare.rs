//! What the API's requests would cost a server that does nothing: the same HTTP/2, TLS and sizes, answered from memory.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use client::{Kubeconfig, tls};
use tokio::time::sleep;
use wire::Wire;

use crate::node::Node;
use kit::process;

use crate::backend;

/// Where it listens, in the sandbox's own network.
const ADDRESS: &str = "127.0.0.1:8443";

/// The server; ended when dropped.
pub struct Bare(Child);

impl Bare {
    /// Starts it with the node's own certificate. Its answers have so many bytes.
    pub fn start(node: &Node, bytes: usize) -> anyhow::Result<Self> {
        let program = backend::program()?;
        let mut command = Command::new(&program);
        command.arg(ADDRESS).args(node.serving()).arg(bytes.to_string());
        let child = command.stdin(Stdio::null()).spawn();
        Ok(Self(
            child.with_context(|| format!("starting {}", program.display()))?,
        ))
    }

    /// Connections to it.
    pub async fn wires(&self, kubeconfig: &Path, count: usize) -> anyhow::Result<Vec<Wire>> {
        let config = Kubeconfig::read(kubeconfig)?.http_config();
        let tls = tls::config(&config.ca_pem, &config.credentials, &[b"h2"])?;
        let server = format!("https://{ADDRESS}");
        let mut wires = Vec::with_capacity(count);
        while wires.len() < count {
            match Wire::open(&server, tls.clone()).await {
                Ok(wire) => wires.push(wire),
                // It has not begun to listen.
                Err(_) if wires.is_empty() => sleep(Duration::from_millis(20)).await,
                Err(error) => return Err(error),
            }
        }
        Ok(wires)
    }

    /// CPU time that it has used.
    pub fn cpu(&self) -> Duration {
        process::cpu(self.0.id())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
