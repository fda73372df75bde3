//! Another run of a WebAssembly container's own program beside the first: what
//! `kubectl exec`, exec probes and hooks mean there. It has the same files,
//! environment, network and limits, its own arguments and streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ::oci::{Chunk, ExecSpec, Process, Stream};
use ::wasm::{Instance, Output, ProgramKind, Stdin};
use bytes::Bytes;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::{Notify, mpsc, oneshot};

use super::WasmRuntime;
use super::attach::STDIN_BUFFER_BYTES;
use super::spec::{instance_spec, told};
use crate::runtime::{Launch, RuntimeError};

/// Most that a guest may have printed before somebody reads it: a guest cannot be made to wait.
const UNREAD_BYTES_MAX: usize = 8 << 20;
const CHUNKS_MAX: usize = 16;

impl WasmRuntime {
    /// Runs the container's program once more.
    pub(super) async fn run_again(&self, id: &str, exec: &ExecSpec) -> Result<Process, RuntimeError> {
        let started = self.containers.started(id)?;
        let origin = self
            .containers
            .lock()
            .containers
            .get(id)
            .map(|c| c.origin.clone());
        let origin = origin.ok_or_else(|| RuntimeError::NotFound(id.to_owned()))?;
        let args = arguments(&origin.launch, &exec.args)?;
        let program = match origin.programs.as_slice() {
            [program] if matches!(program.kind(), ProgramKind::Module | ProgramKind::Command) => program,
            [program] if program.kind() == ProgramKind::Library => {
                let text =
                    "the container's program is called by others of its pod and cannot be run as a command";
                return Err(RuntimeError::Unsupported(text.to_owned()));
            }
            _ => {
                let text = "the container's program answers HTTP and cannot be run as a command";
                return Err(RuntimeError::Unsupported(text.to_owned()));
            }
        };
        let (far, near) = streams(exec);
        let network = origin.network.clone();
        let mut spec = instance_spec(program, &origin.launch, network, &started.log, far.stdin);
        (spec.args, spec.stdout, spec.stderr) = (args, far.stdout, far.stderr);
        // The container's own run listens there.
        spec.listen.clear();
        // And it is the container's own run that others call.
        spec.membership
            .iter_mut()
            .for_each(|member| member.provides = false);
        let instance = self.host.start(program, spec).await;
        Ok(near.join(instance.map_err(|error| RuntimeError::Start(told(&error)))?))
    }
}

/// The arguments for another run, if the command names the container's program.
///
/// # Errors
/// What users read who asked for another program.
pub(super) fn arguments(launch: &Launch, command: &[String]) -> Result<Vec<String>, RuntimeError> {
    let own = launch.args.first().map(String::as_str).unwrap_or(&launch.name);
    let (Some(wanted), base) = (command.first(), base_name(own)) else {
        return Err(RuntimeError::Start("no command specified".to_owned()));
    };
    let names = [own, base, base.trim_end_matches(".wasm"), launch.name.as_str()];
    if names.contains(&wanted.as_str()) {
        return Ok(command.to_vec());
    }
    Err(RuntimeError::Start(format!(
        "exec: {wanted:?}: executable file not found: a WebAssembly container holds no program but its own, \
         {own:?}, which can be run again with other arguments"
    )))
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What such a run's instance is given.
pub(super) struct Far {
    /// Its standard input.
    pub(super) stdin: Stdin,
    /// Its standard output.
    pub(super) stdout: Arc<dyn Output>,
    /// Its standard error.
    pub(super) stderr: Arc<dyn Output>,
}

/// The other ends, waiting for their instance.
pub(super) struct Near {
    typed: Option<DuplexStream>,
    printed: mpsc::UnboundedReceiver<Chunk>,
    unread: Arc<Unread>,
}

#[derive(Default)]
struct Unread {
    bytes: AtomicUsize,
    overflow: Notify,
}

struct Printer {
    stream: Stream,
    sender: mpsc::UnboundedSender<Chunk>,
    unread: Arc<Unread>,
}

impl Output for Printer {
    fn write(&self, bytes: &[u8]) {
        if self.unread.bytes.fetch_add(bytes.len(), Relaxed) > UNREAD_BYTES_MAX {
            return self.unread.overflow.notify_one();
        }
        let bytes = Bytes::copy_from_slice(bytes);
        // Whoever no longer listens has ended the run.
        let _ = self.sender.send(Chunk {
            stream: self.stream,
            bytes,
        });
    }
}

/// The streams of a run that is to begin.
pub(super) fn streams(spec: &ExecSpec) -> (Far, Near) {
    let (sender, printed) = mpsc::unbounded_channel();
    let unread = Arc::<Unread>::default();
    let printer = |stream| {
        let (sender, unread) = (sender.clone(), unread.clone());
        Arc::new(Printer {
            stream,
            sender,
            unread,
        })
    };
    let (stdin, typed) = match spec.stdin {
        true => {
            let (near, far) = tokio::io::duplex(STDIN_BUFFER_BYTES);
            (Stdin::Pipe(Box::new(far)), Some(near))
        }
        false => (Stdin::None, None),
    };
    let far = Far {
        stdin,
        stdout: printer(Stream::Stdout),
        stderr: printer(Stream::Stderr),
    };
    let near = Near {
        typed,
        printed,
        unread: unread.clone(),
    };
    (far, near)
}

impl Near {
    /// Joins them to the running instance; it ends when the process is dropped.
    pub(super) fn join(self, instance: Instance) -> Process {
        let Near {
            typed,
            printed,
            unread,
        } = self;
        let (output_in, output) = mpsc::channel(CHUNKS_MAX);
        let (exit_in, exit) = oneshot::channel();
        let (resize, _) = mpsc::channel(1);
        tokio::spawn(async move {
            let code = attend(&instance, printed, &unread, output_in).await;
            let _ = exit_in.send(Ok(code));
        });
        Process {
            stdin: typed.map(type_into),
            output,
            resize,
            exit,
        }
    }
}

/// Carries what is printed until the instance has ended; its exit code.
async fn attend(
    instance: &Instance,
    mut printed: mpsc::UnboundedReceiver<Chunk>,
    unread: &Unread,
    output: mpsc::Sender<Chunk>,
) -> i32 {
    let mut end = std::pin::pin!(instance.wait());
    let exit = loop {
        tokio::select! {
            biased;
            Some(chunk) = printed.recv() => pass(chunk, unread, &output).await,
            exit = &mut end => break exit,
            () = output.closed() => instance.kill(),
            () = unread.overflow.notified() => instance.kill(),
        }
        if output.is_closed() {
            instance.kill();
            break end.await;
        }
    };
    while let Ok(chunk) = printed.try_recv() {
        pass(chunk, unread, &output).await;
    }
    exit.code
}

async fn pass(chunk: Chunk, unread: &Unread, output: &mpsc::Sender<Chunk>) {
    unread.bytes.fetch_sub(chunk.bytes.len(), Relaxed);
    let _ = output.send(chunk).await;
}

fn type_into(mut stdin: DuplexStream) -> mpsc::Sender<Bytes> {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(CHUNKS_MAX);
    tokio::spawn(async move {
        while let Some(bytes) = receiver.recv().await {
            if stdin.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    sender
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_own_program_can_be_run_again() {
        let names = |own: &str| {
            let launch = crate::runtime::suite::launch_of(own);
            move |command: &str| arguments(&launch, &[command.to_owned(), "x".to_owned()]).is_ok()
        };
        let may = names("/bin/app.wasm");
        assert!(may("/bin/app.wasm") && may("app.wasm") && may("app"));
        assert!(!may("sh"));
        let launch = crate::runtime::suite::launch_of("/bin/app.wasm");
        let error = arguments(&launch, &["sh".to_owned()]).unwrap_err().to_string();
        assert!(
            error.contains("holds no program but its own, \"/bin/app.wasm\""),
            "{error}"
        );
    }
}
