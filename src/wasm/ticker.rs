//! The clock that interrupts guests: a thread that advances the engine's epoch
//! while guests compute, and sleeps for good while none does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::Thread;
use std::time::Duration;
use wasmtime::Engine;

/// The longest a guest keeps a thread to itself.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Ticks without a computing guest after which the thread goes to sleep. A busy
/// server would otherwise wake it for each request.
const LINGER: u32 = 10;

/// Handle on the ticking thread. The thread ends with the last handle.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    closed: AtomicBool,
}

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared::default());
        let (theirs, engine) = (shared.clone(), engine.weak());
        let advance = move || match engine.upgrade() {
            Some(engine) => {
                engine.increment_epoch();
                true
            }
            None => false,
        };
        let thread = std::thread::Builder::new()
            .name("wasm-epoch".into())
            .stack_size(64 << 10);
        let handle = thread.spawn(move || theirs.tick(advance))?;
        Ok(Ticker {
            shared,
            thread: handle.thread().clone(),
        })
    }

    /// Says that a guest computes until the answer is dropped.
    pub(crate) fn enter(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, SeqCst);
        if self.shared.asleep.swap(false, SeqCst) {
            self.thread.unpark();
        }
        Running(&self.shared)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.closed.store(true, SeqCst);
        self.thread.unpark();
    }
}

/// A guest is computing.
pub(crate) struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Shared {
    fn tick(&self, advance: impl Fn() -> bool) {
        let mut idle = 0;
        while !self.closed.load(SeqCst) && advance() {
            idle = if self.running.load(SeqCst) > 0 {
                0
            } else {
                idle + 1
            };
            if idle < LINGER {
                std::thread::sleep(TICK);
                continue;
            }
            self.asleep.store(true, SeqCst);
            // A guest that came in before this line is seen here; one that comes
            // later sees `asleep` and unparks.
            if self.running.load(SeqCst) == 0 && !self.closed.load(SeqCst) {
                std::thread::park();
            }
            self.asleep.store(false, SeqCst);
            idle = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn wait_for(what: impl Fn() -> bool) -> bool {
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if what() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }

    #[test]
    fn sleeps_without_guests_and_wakes_for_one() {
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let ticker = Ticker::start(&Engine::new(&config).unwrap()).unwrap();
        // The engine is gone, but no one asks it before the first tick's end.
        drop(ticker);
        let engine = Engine::new(&config).unwrap();
        let ticker = Ticker::start(&engine).unwrap();
        assert!(wait_for(|| ticker.shared.asleep.load(SeqCst)));
        let running = ticker.enter();
        assert!(!ticker.shared.asleep.load(SeqCst));
        drop(running);
        assert!(wait_for(|| ticker.shared.asleep.load(SeqCst)));
    }
}
