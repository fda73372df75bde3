//! A container's run, from its start to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ::oci::{ImageKind, Stream};
use ::wasm::{ExitReason, Instance, Stdin, WasmError};
use jiff::Timestamp;
use tokio::sync::watch;

use super::WasmRuntime;
use super::attach::STDIN_BUFFER_BYTES;
use super::containers::{Prepared, Started};
use super::spec::{app_part, instance_spec};
use crate::handover::Owner;
use crate::logs::writer::LogWriter;
use crate::runtime::Ending;

/// What stands in the log of a core module that could accept connections, but is given no socket.
const NOTHING_TO_ACCEPT: &str = "the program can accept connections (sock_accept), but its container names no TCP port \
     under `ports`: it gets no listening socket\n";

impl WasmRuntime {
    pub(super) async fn run(&self, origin: &Prepared) -> Result<(Started, Timestamp), WasmError> {
        let Prepared {
            programs,
            launch,
            network,
        } = origin;
        let log = LogWriter::open(&launch.log, self.clock.clone());
        let log = Arc::new(log.map_err(|source| WasmError::Io {
            context: "opening the log".into(),
            source,
        })?);
        let (stdin, near) = match launch.stdin {
            true => {
                let (near, far) = tokio::io::duplex(STDIN_BUFFER_BYTES);
                (Stdin::Pipe(Box::new(far)), Some(near))
            }
            false => (Stdin::None, None),
        };
        let owner = Owner {
            pod: launch.pod_uid.clone(),
            container: launch.name.clone(),
        };
        let instance = match (&launch.image.kind, programs.as_slice()) {
            (ImageKind::App { components }, programs) => {
                let parts = components.iter().zip(programs);
                let parts =
                    parts.map(|(part, program)| app_part(part, program, launch, network.clone(), &log));
                let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
                if let Some(first) = parts.first_mut() {
                    first.spec.inherited = self.inheritance.take(&owner);
                }
                self.host.start_app(parts).await?
            }
            (_, [program, ..]) => {
                let mut spec = instance_spec(program, launch, network.clone(), &log, stdin);
                spec.inherited = self.inheritance.take(&owner);
                if program.accepts() && spec.listen.is_empty() {
                    log.write(Stream::Stderr, NOTHING_TO_ACCEPT.as_bytes());
                }
                self.host.start(program, spec).await?
            }
            (_, []) => return Err(WasmError::Spec("the image holds no program".into())),
        };
        let started = self.clock.now();
        let end = self.watch_end(&instance, &log, started);
        Ok((
            Started {
                instance,
                log,
                stdin: Arc::new(tokio::sync::Mutex::new(near)),
                end,
            },
            started,
        ))
    }

    fn watch_end(
        &self,
        instance: &Instance,
        log: &Arc<LogWriter>,
        started: Timestamp,
    ) -> watch::Receiver<Option<Ending>> {
        let (sender, receiver) = watch::channel(None);
        let (instance, log, clock) = (instance.clone(), log.clone(), self.clock.clone());
        let leaving = self.leaving.clone();
        tokio::spawn(async move {
            let exit = instance.wait().await;
            log.finish();
            if leaving.load(Ordering::SeqCst) {
                // Until the process ends: it is not the program that has come to its end.
                std::future::pending::<()>().await;
            }
            let ending = Ending {
                code: exit.code,
                signal: 0,
                oom_killed: exit.reason == ExitReason::OomKilled,
                message: exit.message,
                started,
                finished: clock.now(),
            };
            sender.send_replace(Some(ending));
        });
        receiver
    }
}
