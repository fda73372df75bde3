//! The standard streams of a container: what it prints goes to its log and to who listens, what a client types goes to
//! it.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

use super::{Container, Typed, io};
use crate::log::Log;
use crate::shim::outputs::{self, Ends, Far, Input, Near, NearEnd};
use crate::shim::reaper::Ending;
use crate::spec::{Chunk, OciError};

/// How long output is still read after the main process has ended: what it
/// left behind may go on writing for ever.
const DRAIN_MAX: Duration = Duration::from_secs(10);

impl Container {
    /// The streams of a process.
    pub(super) fn ends(&self, tty: bool, stdin: bool) -> Result<Ends, OciError> {
        // Not in the pod's folder: socket paths have room for 107 characters only.
        let console = format!("/tmp/coracle-{}-{}", std::process::id(), short(&self.spec.id));
        let first = self.surroundings.users.as_ref().map_or(0, |users| users.first);
        let owner = first.saturating_add(self.identity.uid);
        let ends = outputs::ends(tty.then(|| console.into()), stdin, owner);
        ends.map_err(io("making streams"))
    }

    /// A builder with streams.
    pub(super) fn connect(&self) -> Result<(ContainerBuilder, NearEnd), OciError> {
        let builder = ContainerBuilder::new(self.spec.id.clone(), SyscallType::default())
            .with_root_path(self.surroundings.dir.join("runtime"))
            .map_err(|error| OciError::Create(error.to_string()))?;
        let ends = self.ends(self.spec.tty, self.spec.stdin)?;
        Ok(match ends.far {
            Far::Console(listener) => (
                builder.with_console_socket(Some(ends.console)),
                NearEnd::Terminal(listener),
            ),
            Far::Pipes {
                stdin,
                stdout,
                stderr,
            } => (
                builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr),
                NearEnd::Pipes(ends.near),
            ),
        })
    }

    /// Carries output to the log and to who listens, until the process has ended.
    pub(super) async fn attend(
        self: Rc<Self>,
        near: Near,
        log: Log,
        ended: tokio::sync::oneshot::Receiver<Ending>,
    ) {
        let log = Rc::new(RefCell::new(log));
        let mut pumps = Vec::new();
        let (tell, told) = watch::channel(false);
        for (stream, mut output) in near.outputs {
            let (me, log, mut told) = (self.clone(), log.clone(), told.clone());
            pumps.push(tokio::task::spawn_local(async move {
                let mut buffer = vec![0; 16 << 10];
                while let n @ 1.. = output.rest(&mut buffer, &mut told).await {
                    let bytes = buffer.get(..n).unwrap_or_default();
                    if let Err(error) = log.borrow_mut().write(jiff::Timestamp::now(), stream, bytes) {
                        eprintln!("shim: cannot write the log of {}: {error}", me.spec.name);
                    }
                    // Nobody may be listening.
                    let _ = me.output.send(Chunk {
                        stream,
                        bytes: bytes::Bytes::copy_from_slice(bytes),
                    });
                }
            }));
        }
        if let Some(input) = near.stdin {
            let (sender, receiver) = mpsc::channel(16);
            *self.input.borrow_mut() = Some(sender);
            tokio::task::spawn_local(feed(input, near.terminal.clone(), receiver));
        }
        let ending = ended.await.unwrap_or(Ending {
            code: 137,
            signal: Some(9),
        });
        self.input.borrow_mut().take();
        tell.send_replace(true);
        let drained = async {
            for pump in &mut pumps {
                // A pump that failed has nothing more to carry.
                let _ = pump.await;
            }
        };
        let _ = tokio::time::timeout(DRAIN_MAX, drained).await;
        pumps.iter().for_each(|pump| pump.abort());
        let _ = log.borrow_mut().finish(jiff::Timestamp::now());
        self.end(ending);
    }
}

/// Carries what is typed to the process.
pub(in crate::shim) async fn feed(
    mut input: Input,
    terminal: Option<Rc<AsyncFd<OwnedFd>>>,
    mut typed: mpsc::Receiver<Typed>,
) {
    while let Some(what) = typed.recv().await {
        match what {
            Typed::Bytes(bytes) => {
                if input.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Typed::Size(size) => {
                if let Some(terminal) = &terminal {
                    outputs::resize(terminal, size);
                }
            }
            Typed::End => break,
        }
    }
    input.end().await;
}

fn short(id: &str) -> String {
    id.chars().take(12).collect()
}
