//! Compiled programs: one of each, from the cache or compiled.

use crate::WasmError;
use crate::cache::open_compiled;
use crate::code::Code;
use crate::compiler::precompile;
use crate::detect::{Form, PROGRAM_BYTES_MAX, compile_error, form};
use crate::host::working::{Core, Slot};
use crate::program::Program;
use bytes::Bytes;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use wasmtime::Engine;

/// Where a program's bytes come from.
pub(super) enum Source<'a> {
    Bytes(Bytes),
    File(&'a Path),
}

impl Core {
    pub(super) async fn program(
        self: &Arc<Self>,
        digest: &str,
        source: Source<'_>,
    ) -> Result<Program, WasmError> {
        let slot = self.slot(digest);
        let mut known = slot.lock().await;
        if let Some(inner) = known.upgrade() {
            return Ok(Program { inner });
        }
        let program = match self.cached(digest).await? {
            Some(program) => program,
            None => self.compile(digest, read(source).await?).await?,
        };
        *known = Arc::downgrade(&program.inner);
        Ok(program)
    }

    fn slot(&self, digest: &str) -> Slot {
        // A std mutex: nothing awaits while it is held.
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in_use = |slot: &Slot| match slot.try_lock() {
            Ok(program) => program.strong_count() > 0 || Arc::strong_count(slot) > 1,
            Err(_) => true,
        };
        programs.retain(|_, slot| is_in_use(slot));
        programs.entry(digest.into()).or_default().clone()
    }

    async fn cached(self: &Arc<Self>, digest: &str) -> Result<Option<Program>, WasmError> {
        if self.cache.is_none() {
            return Ok(None);
        }
        self.blocking(digest, |core, digest| {
            let engine = &core.tools.base.engine;
            let Some(code) = core.cache.as_ref().and_then(|cache| cache.load(engine, digest)) else {
                return Ok(None);
            };
            Program::link(&core.tools.base, digest, code).map(Some)
        })
        .await
    }

    async fn compile(self: &Arc<Self>, digest: &str, bytes: Bytes) -> Result<Program, WasmError> {
        let form = form(&bytes)?;
        let _permit = self.compiling.acquire().await.map_err(|_| WasmError::Closed)?;
        let begin = Instant::now();
        let apart = match &self.compiler {
            Some(compiler) => Some(compiler.compile(form, &bytes).await?),
            None => None,
        };
        let program = self.blocking(digest, move |core, digest| {
            let engine = &core.tools.base.engine;
            let compiled = match apart {
                Some(compiled) => compiled,
                None => precompile(engine, form, &bytes)?,
            };
            let code = core.keep(engine, digest, form, &compiled)?;
            Program::link(&core.tools.base, digest, code)
        });
        let program = program.await?;
        program.note_compile_time(begin.elapsed());
        Ok(program)
    }

    /// Puts compiled code where it can be run from: into the cache, or into
    /// memory if there is none or its disk is full.
    fn keep(&self, engine: &Engine, digest: &str, form: Form, compiled: &[u8]) -> Result<Code, WasmError> {
        if let Some(cache) = &self.cache {
            match cache.store(engine, digest, form, compiled) {
                Ok(code) => return Ok(code),
                Err(error) => tracing::warn!(digest, %error, "cannot keep a compiled wasm program"),
            }
        }
        open_compiled(engine, form, compiled).map_err(|error| compile_error(&error))
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        digest: &str,
        work: impl FnOnce(&Core, &str) -> Result<T, WasmError> + Send + 'static,
    ) -> Result<T, WasmError> {
        let (core, digest) = (self.clone(), digest.to_string());
        let done = self.runtime().spawn_blocking(move || work(&core, &digest)).await;
        done.map_err(|_| WasmError::Engine("compiling was interrupted".into()))?
    }
}

async fn read(source: Source<'_>) -> Result<Bytes, WasmError> {
    let path = match source {
        Source::Bytes(bytes) => return Ok(bytes),
        Source::File(path) => path,
    };
    let failed = |source| WasmError::Io {
        context: format!("read {}", path.display()),
        source,
    };
    let length = tokio::fs::metadata(path).await.map_err(failed)?.len();
    if length > PROGRAM_BYTES_MAX as u64 {
        let most = PROGRAM_BYTES_MAX >> 20;
        return Err(WasmError::Unsupported(format!(
            "{length} bytes long, at most {most} MiB are compiled"
        )));
    }
    tokio::fs::read(path).await.map(Bytes::from).map_err(failed)
}
