//! Compiling in a process of its own, with bounds: what a hostile program does
//! to the compiler (time without end, memory without end, a crash) it does to
//! that process. It also takes the compiler's memory with it when it ends.
//!
//! `PROGRAM compile-wasm FORM BYTES` reads a program from standard input and
//! writes the compiled one to standard output; `BYTES` bounds its memory. It
//! ends with 0, or with 1 and the reason on standard error.

use crate::WasmError;
use crate::detect::{Form, compile_error};
use crate::engine;
use bytes::Bytes;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The argument by which the program knows what it is to be.
pub const VERB: &str = "compile-wasm";

/// How programs are compiled apart.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// The program whose `main` calls [`compile_main`] for [`VERB`]; usually this one.
    pub program: PathBuf,
    /// Most time for one program.
    pub time_max: Duration,
    /// Most memory for one program, in bytes.
    pub memory_bytes_max: u64,
}

impl Compiler {
    /// A compiler with the usual bounds: large real programs need a tenth of them.
    pub fn new(program: impl Into<PathBuf>) -> Compiler {
        Compiler {
            program: program.into(),
            time_max: Duration::from_secs(120),
            memory_bytes_max: 2 << 30,
        }
    }

    /// Compiles, or says why not.
    pub(crate) async fn compile(&self, form: Form, bytes: &Bytes) -> Result<Vec<u8>, WasmError> {
        match tokio::time::timeout(self.time_max, self.run(form, bytes)).await {
            // The process ends with the future that waited for it.
            Err(_) => Err(WasmError::Unsupported(format!(
                "compiling it takes longer than {} s",
                self.time_max.as_secs()
            ))),
            Ok(Err(source)) => Err(WasmError::Io {
                context: "run the wasm compiler".into(),
                source,
            }),
            Ok(Ok(output)) => self.result(output),
        }
    }

    async fn run(&self, form: Form, bytes: &Bytes) -> std::io::Result<Output> {
        let mut child = Command::new(&self.program)
            .args([VERB, form.name(), &self.memory_bytes_max.to_string()])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take();
        let send = async {
            if let Some(mut stdin) = stdin {
                // One that has ended already says why by itself.
                let _ = stdin.write_all(bytes).await;
            }
        };
        let ((), output) = tokio::join!(send, child.wait_with_output());
        output
    }

    fn result(&self, output: Output) -> Result<Vec<u8>, WasmError> {
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("memory allocation of") {
            return Err(WasmError::Unsupported(format!(
                "compiling it takes more than {} MiB of memory",
                self.memory_bytes_max >> 20
            )));
        }
        match (output.status.code(), said.split_once(": ")) {
            (Some(1), Some(("invalid", text))) => Err(WasmError::Invalid(text.trim().into())),
            (Some(1), Some(("unsupported", text))) => Err(WasmError::Unsupported(text.trim().into())),
            _ => Err(WasmError::Unsupported(format!(
                "the compiler gave up on it ({}): it is too large or too deeply nested",
                output.status
            ))),
        }
    }
}

/// The compiler's `main`: to be called, before any thread exists, when the
/// program was started as `PROGRAM compile-wasm FORM BYTES`; `args` are what
/// follows the verb. Returns the exit code.
pub fn compile_main(args: &[String]) -> i32 {
    let parsed = match args {
        [form, bytes] => Form::named(form).zip(bytes.parse().ok()),
        _ => None,
    };
    let Some((form, memory_bytes_max)) = parsed else {
        eprintln!("{VERB} is started by the node and not by hand");
        return 2;
    };
    match compile(form, memory_bytes_max) {
        Ok(()) => 0,
        Err(error) => {
            let (kind, text) = match error {
                WasmError::Invalid(text) => ("invalid", text),
                WasmError::Unsupported(text) => ("unsupported", text),
                other => ("unsupported", other.to_string()),
            };
            eprintln!("{kind}: {text}");
            1
        }
    }
}

/// Gives way to everything else on this machine.
const NICE: i32 = 10;

fn compile(form: Form, memory_bytes_max: u64) -> Result<(), WasmError> {
    let io = |context: &str| {
        let context = context.to_owned();
        |source| WasmError::Io { context, source }
    };
    // Refused to nobody, and without it the compiler is merely less polite.
    let _ = sys::process::set_nice(NICE);
    let _ = sys::process::set_oom_score(1000);
    sys::process::limit_memory(memory_bytes_max).map_err(io("limit the compiler's memory"))?;
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(io("read the program"))?;
    let engine = engine::compiling()?;
    let compiled = precompile(&engine, form, &bytes)?;
    let mut out = std::io::stdout().lock();
    out.write_all(&compiled)
        .and_then(|()| out.flush())
        .map_err(io("hand over the compiled program"))
}

/// Compiles in this process.
pub(crate) fn precompile(engine: &wasmtime::Engine, form: Form, bytes: &[u8]) -> Result<Vec<u8>, WasmError> {
    let compiled = match form {
        Form::Module => engine.precompile_module(bytes),
        Form::Component => engine.precompile_component(bytes),
    };
    compiled.map_err(|error| compile_error(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// What is said of a compiler that does as the script does.
    async fn refusal(script: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("compiler");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let compiler = Compiler {
            time_max: Duration::from_secs(1),
            ..Compiler::new(program)
        };
        let bytes = Bytes::from(vec![0; 1 << 20]);
        compiler
            .compile(Form::Module, &bytes)
            .await
            .unwrap_err()
            .to_string()
    }

    #[tokio::test]
    async fn whatever_becomes_of_the_compiler_is_told() {
        let invalid = refusal("echo invalid: at offset 8: bad >&2; exit 1").await;
        assert_eq!(invalid, "invalid wasm program: at offset 8: bad");
        let slow = refusal("exec sleep 60").await;
        assert_eq!(
            slow,
            "unsupported wasm program: compiling it takes longer than 1 s"
        );
        let hungry = refusal("echo memory allocation of 99 bytes failed >&2; kill -ABRT $$").await;
        assert!(hungry.contains("takes more than 2048 MiB of memory"), "{hungry}");
        let crashed = refusal("kill -SEGV $$").await;
        assert!(crashed.contains("too large or too deeply nested"), "{crashed}");
    }
}
