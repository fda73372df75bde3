//! Asking a container: by running a program in it, by HTTP, TCP or gRPC. Used
//! by probes and by lifecycle hooks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Probe};
use oci::ExecSpec;

use super::http::{self, Target};
use super::{Timings, grpc};
use crate::runtime::{Runtime, RuntimeError};

/// As much of a program's output as a failed probe's event shows.
const OUTPUT_BYTES_MAX: usize = 10 * 1024;
/// How long an HTTP hook may take.
const HOOK_TIMEOUT: Duration = Duration::from_secs(30);
const PROBE_AGENT: &str = "kube-probe/1.36";
const HOOK_AGENT: &str = "kube-lifecycle/1.36";

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All is well.
    Good,
    /// It is not, and why.
    Bad(String),
    /// It could not be asked: no answer at all.
    Error(String),
    /// It cannot be asked yet, which is nobody's fault.
    Later,
}

/// A running container to be asked.
#[derive(Clone)]
pub struct Subject {
    /// What runs it.
    pub runtime: Arc<dyn Runtime>,
    /// Its bare id.
    pub id: String,
    /// Its spec, for the names of ports.
    pub container: Arc<Container>,
    /// The pod's address.
    pub ip: IpAddr,
}

impl Subject {
    /// Asks once, as a probe says.
    pub async fn probe(&self, probe: &Probe) -> Answer {
        let timeout = Timings::of(probe).timeout;
        if let Some(exec) = &probe.exec {
            return self
                .exec_probe(exec.command.as_deref().unwrap_or_default(), timeout)
                .await;
        }
        if let Some(action) = &probe.http_get {
            let target = match Target::of(action, &self.container, self.ip, PROBE_AGENT) {
                Ok(target) => target,
                Err(error) => return Answer::Error(error),
            };
            return match target.get(timeout).await {
                Ok((code, _)) if (200..400).contains(&code) => Answer::Good,
                Ok((code, _)) => Answer::Bad(format!("HTTP probe failed with statuscode: {code}")),
                Err(error) => Answer::Bad(error),
            };
        }
        if let Some(action) = &probe.tcp_socket {
            let host = action
                .host
                .clone()
                .filter(|h| !h.is_empty())
                .unwrap_or_else(|| self.ip.to_string());
            let port = match http::port(&action.port, &self.container) {
                Ok(port) => port,
                Err(error) => return Answer::Error(error),
            };
            return match tokio::time::timeout(timeout, http::connect(&host, port)).await {
                Ok(Ok(_)) => Answer::Good,
                Ok(Err(error)) => Answer::Bad(error),
                Err(_) => Answer::Bad(format!("dial tcp {host}:{port}: i/o timeout")),
            };
        }
        if let Some(action) = &probe.grpc {
            let service = action.service.as_deref().unwrap_or_default();
            let Ok(port) = u16::try_from(action.port) else {
                return Answer::Error(format!("invalid port number: {}", action.port));
            };
            return match grpc::check(self.ip, port, service, timeout).await {
                Ok(()) => Answer::Good,
                Err(error) => Answer::Bad(error),
            };
        }
        Answer::Error(format!("missing probe handler for {}", self.container.name))
    }

    async fn exec_probe(&self, command: &[String], timeout: Duration) -> Answer {
        match tokio::time::timeout(timeout, self.exec(command)).await {
            Ok(Ok((0, _))) => Answer::Good,
            Ok(Ok((_, output))) => Answer::Bad(output),
            // The program is not there: that is an answer of the container's.
            Ok(Err(RuntimeError::Start(error))) => Answer::Bad(error),
            Ok(Err(error)) => Answer::Error(error.to_string()),
            Err(_) => {
                let (command, after) = (command.join(" "), api::go::duration(timeout));
                Answer::Bad(format!("command {command:?} timed out after {after}"))
            }
        }
    }

    /// Runs a program in the container to its end: exit code and output.
    async fn exec(&self, command: &[String]) -> Result<(i32, String), RuntimeError> {
        let spec = ExecSpec {
            args: command.to_vec(),
            tty: false,
            stdin: false,
        };
        // Held to the end: dropping it early kills the program, which is what a timeout wants.
        let mut process = self.runtime.exec(&self.id, &spec).await?;
        let mut output = Vec::new();
        while let Some(chunk) = process.output.recv().await {
            let room = OUTPUT_BYTES_MAX.saturating_sub(output.len());
            output.extend(chunk.bytes.iter().take(room));
        }
        let exit = (&mut process.exit).await;
        let code = exit.map_err(|_| RuntimeError::Other("the program's end was not seen".to_owned()))?;
        Ok((code?, String::from_utf8_lossy(&output).into_owned()))
    }

    /// Carries out a lifecycle hook.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn hook(&self, handler: &LifecycleHandler) -> Result<(), String> {
        if let Some(exec) = &handler.exec {
            let command = exec.command.as_deref().unwrap_or_default();
            return match self.exec(command).await {
                Ok((0, _)) => Ok(()),
                Ok((code, output)) => Err(format!(
                    "command '{}' exited with {code}: {output}",
                    command.join(" ")
                )),
                Err(error) => Err(error.to_string()),
            };
        }
        if let Some(action) = &handler.http_get {
            let target = Target::of(action, &self.container, self.ip, HOOK_AGENT)?;
            // Any answer is one: Kubernetes does not look at its code.
            return target.get(HOOK_TIMEOUT).await.map(drop);
        }
        if let Some(sleep) = &handler.sleep {
            tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
            return Ok(());
        }
        Err("invalid handler: it says nothing to do".to_owned())
    }
}
