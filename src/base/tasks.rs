//! Supervised background tasks: each says what its failure means, all of them
//! end when the group shuts down, and nobody outlives the group unseen.

use std::any::Any;
use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, info_span, warn};

/// How long [`Tasks::shutdown`] waits for graceful tasks before it gives up on them.
pub const GRACE: Duration = Duration::from_secs(10);

/// What the end of one task by error or panic means for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The whole group shuts down: nothing useful goes on without this task.
    Shutdown,
    /// It is logged and the others carry on.
    Log,
}

/// What a task may return: nothing, or a result whose error can be shown.
pub trait Ending: Send + 'static {
    /// The error's text, if the task failed.
    fn error(self) -> Option<String>;
}

impl Ending for () {
    fn error(self) -> Option<String> {
        None
    }
}

impl<E: Display + Send + 'static> Ending for Result<(), E> {
    fn error(self) -> Option<String> {
        self.err().map(|error| format!("{error:#}"))
    }
}

/// A group of tasks. Cheap to clone; all clones are the same group.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    token: CancellationToken,
    tracker: TaskTracker,
    failure: Arc<Mutex<Option<String>>>,
}

impl Tasks {
    /// An empty group.
    pub fn new() -> Self {
        Tasks::default()
    }

    /// A group within this one: it shuts down with its parent (which also waits
    /// for its tasks), but may be cancelled alone.
    pub fn child(&self) -> Tasks {
        Tasks {
            token: self.token.child_token(),
            tracker: self.tracker.clone(),
            failure: self.failure.clone(),
        }
    }

    /// Runs a future until it ends or the group shuts down; then it is dropped
    /// at its next await. `name` goes into every log line of the task.
    pub fn spawn<F>(&self, name: impl Into<String>, on_error: OnError, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Ending,
    {
        let token = self.token.clone();
        self.start(name.into(), on_error, async move {
            tokio::select! {
                biased;
                _ = token.cancelled() => None,
                ending = future => ending.error(),
            }
        });
    }

    /// Runs a future that has something to clean up: at shutdown it is not
    /// dropped but waited for (up to [`GRACE`]), so it must watch
    /// [`cancelled`](Self::cancelled) itself.
    pub fn spawn_graceful<F>(&self, name: impl Into<String>, on_error: OnError, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Ending,
    {
        self.start(name.into(), on_error, async move { future.await.error() });
    }

    /// A token that is cancelled when the group shuts down.
    pub fn cancelled(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Tells every task to end, without waiting.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Waits until the group shuts down, whoever asked for it, and returns the
    /// error of the task that caused it, if one did.
    pub async fn ended(&self) -> Option<String> {
        self.token.cancelled().await;
        self.lock_failure().clone()
    }

    /// Tells every task to end and waits until they have, at most [`GRACE`].
    pub async fn shutdown(&self) {
        self.token.cancel();
        self.tracker.close();
        if tokio::time::timeout(GRACE, self.tracker.wait()).await.is_err() {
            warn!(left = self.tracker.len(), "background tasks did not end in time");
        }
    }

    /// How many tasks are running.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    fn start<F>(&self, name: String, on_error: OnError, future: F)
    where
        F: Future<Output = Option<String>> + Send + 'static,
    {
        let group = self.clone();
        let span = info_span!("task", name = %name);
        let supervised = async move {
            let message = match CatchPanic(Box::pin(future)).await {
                Ok(None) => return,
                Ok(Some(message)) => message,
                Err(panic) => format!("panicked: {}", panic_text(&*panic)),
            };
            error!(error = %message, shutdown = on_error == OnError::Shutdown, "task failed");
            if on_error == OnError::Shutdown {
                group.lock_failure().get_or_insert(format!("{name}: {message}"));
                group.token.cancel();
            }
        };
        self.tracker.spawn(supervised.instrument(span));
    }

    fn lock_failure(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.failure
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Turns a panic inside the future into a value, so that the supervisor can
/// apply the task's failure policy to it.
struct CatchPanic<F>(Pin<Box<F>>);

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.0.as_mut();
        match std::panic::catch_unwind(AssertUnwindSafe(|| inner.poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[tokio::test]
    async fn shutdown_drops_plain_and_awaits_graceful_tasks() {
        let tasks = Tasks::new();
        tasks.spawn("endless", OnError::Log, std::future::pending::<()>());
        let cleaned = Arc::new(AtomicBool::new(false));
        let (token, seen) = (tasks.cancelled(), cleaned.clone());
        tasks.spawn_graceful("careful", OnError::Log, async move {
            token.cancelled().await;
            tokio::task::yield_now().await;
            seen.store(true, Ordering::SeqCst);
        });
        assert_eq!(tasks.running(), 2);
        tasks.shutdown().await;
        assert!(cleaned.load(Ordering::SeqCst));
        assert_eq!(tasks.running(), 0);
        assert_eq!(tasks.ended().await, None);
    }

    #[tokio::test]
    async fn a_fatal_error_or_panic_ends_the_group_and_is_told() {
        let tasks = Tasks::new();
        tasks.spawn("unimportant", OnError::Log, async { Err::<(), _>("shrug") });
        tasks.spawn("vital", OnError::Shutdown, async {
            if true {
                panic!("boom");
            }
        });
        assert_eq!(tasks.ended().await.as_deref(), Some("vital: panicked: boom"));
    }

    #[tokio::test]
    async fn a_child_ends_alone_but_also_with_its_parent() {
        let parent = Tasks::new();
        let (one, two) = (parent.child(), parent.child());
        one.cancel();
        one.ended().await;
        assert!(!parent.cancelled().is_cancelled());
        parent.cancel();
        two.ended().await;
    }
}
