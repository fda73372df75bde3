//! Connections that have left HTTP, and how long they may say nothing: they cost memory on two machines, and the clients
//! of many are long gone.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How long (kubelet's default for `streamingConnectionIdleTimeout`).
const QUIET_MAX: Duration = Duration::from_secs(4 * 3600);

/// A connection that has left HTTP, whose use is noticed.
pub struct Wire<IO = TokioIo<Upgraded>> {
    io: IO,
    used: Used,
}

/// When a connection was last used.
// A std lock: nothing awaits while it is held.
#[derive(Clone)]
pub struct Used(Arc<Mutex<Instant>>);

impl Wire {
    /// A connection that is used now, and what tells of its use.
    pub fn of(connection: Upgraded) -> (Self, Used) {
        Self::new(TokioIo::new(connection))
    }
}

impl<IO> Wire<IO> {
    fn new(io: IO) -> (Self, Used) {
        let used = Used(Arc::new(Mutex::new(Instant::now())));
        let wire = Self {
            io,
            used: used.clone(),
        };
        (wire, used)
    }
}

impl Used {
    /// Returns when nothing has gone over the connection for too long.
    pub async fn quiet(&self) {
        self.quiet_for(QUIET_MAX).await;
    }

    async fn quiet_for(&self, max: Duration) {
        loop {
            let end = *self.last() + max;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }

    fn last(&self) -> MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self) {
        *self.last() = Instant::now();
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Wire<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(context, into);
        if read.is_ready() {
            self.used.note();
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Wire<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        if written.is_ready() {
            self.used.note();
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, pieces);
        if written.is_ready() {
            self.used.note();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn use_puts_the_end_off() {
        let (near, mut far) = tokio::io::duplex(64);
        let (mut wire, used) = Wire::new(near);
        used.quiet_for(Duration::ZERO).await;
        let began = *used.last();
        let end = used.quiet_for(Duration::from_secs(3600));
        tokio::pin!(end);
        assert!(futures_util::poll!(end.as_mut()).is_pending());
        tokio::time::sleep(Duration::from_millis(2)).await;
        far.write_all(b"a").await.unwrap();
        assert_eq!(wire.read_u8().await.unwrap(), b'a');
        let read = *used.last();
        assert!(read > began);
        tokio::time::sleep(Duration::from_millis(2)).await;
        wire.write_all(b"b").await.unwrap();
        assert!(*used.last() > read);
    }
}
