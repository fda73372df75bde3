//! Frames that follow each other, written together.
//!
//! HTTP/2 flushes after every large frame, and a frame is 16 KiB for most clients: a list of some megabytes would cost
//! hundreds of system calls, each of which sends one packet. What is written here is encrypted at once and waits until
//! there is nothing more to write in this turn, or enough of it.
//!
//! A turn also ends after so many bytes, read or sent: those who wait for one (`pace/`) would have to wait until somebody's
//! megabytes are decrypted.

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

/// What may wait. A record more must fit into what rustls keeps at most, which is 64 KiB.
const QUEUE_BYTES_MAX: usize = 40 * 1024;
/// After a smaller write probably nothing follows, and it is sent when it is flushed.
const LARGE: usize = 4 * 1024;

/// How much is read or sent before others have their turn: some tens of microseconds of decrypting.
const TURN_BYTES: usize = 64 * 1024;

/// A TLS stream on which HTTP/2 puts off a flush as long as each one is followed by another write. Other protocols
/// pass through: whoever speaks them may flush once and wait for an answer.
pub(super) struct Together<IO> {
    stream: TlsStream<IO>,
    puts_off: bool,
    /// Bytes that have been written and not sent.
    queued: usize,
    /// Whether there was a large write among them.
    large: bool,
    /// Whether something was written since the last flush.
    grown: bool,
    /// What was read and sent in this turn.
    turn: usize,
}

impl<IO> Together<IO> {
    pub fn new(stream: TlsStream<IO>) -> Self {
        Self {
            puts_off: stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            stream,
            queued: 0,
            large: false,
            grown: false,
            turn: 0,
        }
    }

    /// Gives way to others when this turn was long enough.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.turn < TURN_BYTES {
            return Poll::Ready(());
        }
        self.turn = 0;
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whatever has to wait for the other side begins another turn.
    fn waited<T>(&mut self, result: Poll<T>) -> Poll<T> {
        if result.is_pending() {
            self.turn = 0;
        }
        result
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Together<IO> {
    /// Sends all that waits.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.stream).poll_flush(context);
        ready!(self.waited(sent))?;
        self.turn += self.queued;
        (self.queued, self.large, self.grown) = (0, false, false);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Together<IO> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.puts_off {
            return Pin::new(&mut this.stream).poll_write_vectored(context, pieces);
        }
        ready!(this.poll_turn(context));
        if this.queued >= QUEUE_BYTES_MAX {
            ready!(this.poll_send(context))?;
        }
        let written = this.stream.get_mut().1.writer().write_vectored(pieces)?;
        this.queued += written;
        this.large |= written >= LARGE;
        this.grown = true;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.large && std::mem::take(&mut this.grown) && this.queued < QUEUE_BYTES_MAX {
            // A connection of HTTP/2 flushes at the end of each turn, and when it is woken: then it counts.
            context.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        this.poll_send(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It sends what waits first.
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Together<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_turn(context));
        let before = into.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, into);
        this.turn += into.filled().len() - before;
        this.waited(read)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Waker;

    use client::{Credentials, tls};
    use jiff::Timestamp;
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::config::ServerConfig;
    use crate::pki::Pki;
    use crate::tls::server_config;

    /// A pipe that counts what is written to it.
    struct Counted {
        pipe: DuplexStream,
        writes: Arc<AtomicUsize>,
    }

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.pipe).poll_read(context, into)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.pipe).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.pipe).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.pipe).poll_shutdown(context)
        }
    }

    /// Both ends of a connection that speaks `alpn`, and the count of writes.
    async fn connected(
        alpn: &[u8],
    ) -> (
        Together<Counted>,
        tokio_rustls::client::TlsStream<DuplexStream>,
        Arc<AtomicUsize>,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let config = ServerConfig::new(dir.path());
        let pki = Pki::open(&config, 6443, Timestamp::now()).unwrap();
        let serving = pki.serving(&config, Timestamp::now()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(
            server_config(pki.now().client_ca.roots(), Arc::new(serving)).unwrap(),
        ));
        let client = tls::config(pki.now().serving_ca.pem(), &Credentials::default(), &[alpn]).unwrap();
        let (near, far) = tokio::io::duplex(1 << 20);
        let writes = Arc::new(AtomicUsize::new(0));
        let near = Counted {
            pipe: near,
            writes: writes.clone(),
        };
        let name = ServerName::try_from("localhost").unwrap();
        let (server, client) = tokio::join!(
            acceptor.accept(near),
            TlsConnector::from(client).connect(name, far)
        );
        (Together::new(server.unwrap()), client.unwrap(), writes)
    }

    fn flush(stream: &mut Together<Counted>) {
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(stream).poll_flush(&mut context).is_ready());
    }

    #[tokio::test]
    async fn frames_that_follow_each_other_go_out_together() {
        let (mut stream, mut client, writes) = connected(b"h2").await;
        writes.store(0, Ordering::Relaxed);
        let frame = vec![b'x'; 16 * 1024];
        for _ in 0..2 {
            stream.write_all(&frame).await.unwrap();
            flush(&mut stream);
        }
        assert_eq!(writes.load(Ordering::Relaxed), 0, "there may be more");
        flush(&mut stream);
        assert!(writes.load(Ordering::Relaxed) > 0, "there was no more");
        for _ in 0..20 {
            stream.write_all(&frame).await.unwrap();
            flush(&mut stream);
        }
        assert!(stream.queued <= QUEUE_BYTES_MAX + frame.len());
        stream.shutdown().await.unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), 22 * frame.len());
    }

    #[tokio::test]
    async fn what_is_small_goes_out_at_once() {
        let (mut stream, mut client, _) = connected(b"h2").await;
        stream.write_all(b"small").await.unwrap();
        flush(&mut stream);
        let mut got = [0; 5];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"small");
    }

    #[tokio::test]
    async fn other_protocols_are_flushed_when_they_flush() {
        let (mut stream, mut client, _) = connected(b"http/1.1").await;
        let text = vec![b'x'; 16 * 1024];
        stream.write_all(&text).await.unwrap();
        flush(&mut stream);
        let mut got = vec![0; text.len()];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(got, text);
    }
}
