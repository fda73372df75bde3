//! The sending end of a connection to a member, shared by the driver and the task that keeps it.
//!
//! What fits into the connection at once is written by the driver itself: to wake a task for it would take longer than
//! the write does, and as much of a processor. What does not fit waits for the task, and so does what is large.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::stream::{Stream, closed};
use crate::parcel::Parcel;
use crate::wire;

/// Parcels that wait for one member at most; more are lost, as by a bad network.
const QUEUE_MAX: usize = 4096;
/// Bytes written in one go.
const BATCH_BYTES: usize = 1 << 20;
/// A parcel that is larger is left to the task: to copy it, or to encrypt it, would keep the driver.
const SMALL_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Default)]
pub struct Line {
    inner: Mutex<Inner>,
    /// Something waits for the task.
    more: Notify,
}

#[derive(Default)]
struct Inner {
    stream: Option<Box<dyn Stream>>,
    waiting: VecDeque<Parcel>,
    /// Encoded; the first `written` bytes of it are gone.
    bytes: Vec<u8>,
    written: usize,
}

impl Line {
    /// Sends a parcel now, or soon; false if too many wait.
    pub fn say(&self, parcel: Parcel) -> bool {
        let mut inner = self.lock();
        if inner.waiting.len() >= QUEUE_MAX {
            return false;
        }
        let at_once = inner.is_idle() && parcel.weight() <= SMALL_BYTES;
        inner.waiting.push_back(parcel);
        // An error shows again when the task asks, which then says what became of the connection.
        if !at_once
            || !matches!(
                inner.push(&mut Context::from_waker(Waker::noop())),
                Poll::Ready(Ok(()))
            )
        {
            drop(inner);
            self.more.notify_one();
        }
        true
    }

    /// Waits until there is something to say.
    pub async fn wanted(&self) {
        while self.lock().waiting.is_empty() {
            self.more.notified().await;
        }
    }

    /// From now on this is the connection.
    pub fn open(&self, stream: Box<dyn Stream>) {
        self.lock().stream = Some(stream);
    }

    /// The connection has ended; what waited is lost.
    pub fn close(&self) {
        let lost = std::mem::take(&mut *self.lock());
        drop(lost);
    }

    /// Writes what waits, one batch of it at least.
    pub async fn push(&self) -> io::Result<()> {
        poll_fn(|context| self.lock().push(context)).await
    }

    /// Waits until something waits for the task; the error is the end of the connection.
    pub async fn rest(&self) -> io::Result<()> {
        tokio::select! {
            () = self.more.notified() => Ok(()),
            ended = poll_fn(|context| self.lock().ended(context)) => Err(ended),
        }
    }

    /// Whether the connection has been given everything.
    pub fn is_done(&self) -> bool {
        self.lock().is_done()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.written == self.bytes.len()
    }

    fn is_idle(&self) -> bool {
        self.stream.is_some() && self.is_done()
    }

    /// Writes one batch.
    fn push(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.written == self.bytes.len() {
            self.encode();
        }
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(closed()));
        };
        while self.written < self.bytes.len() {
            let written = Pin::new(&mut *stream).poll_write(context, &self.bytes[self.written..]);
            match std::task::ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        Pin::new(stream).poll_flush(context)
    }

    fn encode(&mut self) {
        // One huge batch must not hold its memory for ever.
        if self.bytes.capacity() > BATCH_BYTES {
            self.bytes = vec![];
        }
        self.bytes.clear();
        self.written = 0;
        while self.bytes.len() < BATCH_BYTES
            && let Some(parcel) = self.waiting.pop_front()
        {
            wire::put_frame(&mut self.bytes, |out| wire::put_parcel(out, &parcel));
        }
    }

    /// Nothing is ever said back: what can be read is the other end going away.
    fn ended(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(closed());
        };
        let mut unexpected = [0];
        let read = Pin::new(stream).poll_read(context, &mut ReadBuf::new(&mut unexpected));
        read.map(|read| read.err().unwrap_or_else(closed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, DuplexStream};

    use super::*;
    use crate::parcel::Forwarded;
    use crate::peers::send_parcels;

    /// One that is told from others by its term.
    fn parcel(term: u64, bytes: usize) -> Parcel {
        let data = vec![0; bytes];
        let call = Forwarded {
            number: 0,
            membership: false,
            data,
        };
        Parcel::Forward {
            term,
            calls: vec![call],
        }
    }

    async fn arrived(far: &mut DuplexStream) -> u64 {
        let mut header = [0; wire::FRAME_HEADER_BYTES];
        far.read_exact(&mut header).await.expect("a header");
        let (length, _) = wire::frame_header(header).expect("a header");
        let mut body = vec![0; length];
        far.read_exact(&mut body).await.expect("a body");
        match wire::parcel(body.into()).expect("a parcel") {
            Parcel::Forward { term, .. } => term,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_fits_needs_no_task() {
        let (line, (near, mut far)) = (Line::default(), tokio::io::duplex(1000));
        line.open(Box::new(near));
        for term in 0..10 {
            assert!(line.say(parcel(term, 100)));
            assert!(line.is_done());
            assert_eq!(arrived(&mut far).await, term);
        }
    }

    /// Some fit and some do not, some are large, and some wait for the connection.
    #[tokio::test]
    async fn parcels_arrive_in_order_whoever_writes_them() {
        const COUNT: u64 = 400;
        let (line, (near, mut far)) = (Arc::<Line>::default(), tokio::io::duplex(1000));
        assert!(line.say(parcel(0, 10)));
        line.wanted().await;
        line.open(Box::new(near));
        let carrier = line.clone();
        let carrying = tokio::spawn(async move { send_parcels(&carrier).await });
        let speaker = std::thread::spawn(move || {
            for term in 1..COUNT {
                let bytes = [10, 700, 5000, 2 * SMALL_BYTES][term as usize % 4];
                assert!(line.say(parcel(term, bytes)));
            }
        });
        for term in 0..COUNT {
            assert_eq!(arrived(&mut far).await, term);
        }
        speaker.join().expect("who has said all");
        drop(far);
        carrying.await.expect("why it ended");
    }

    #[test]
    fn what_is_too_much_is_lost() {
        let line = Line::default();
        (0..QUEUE_MAX as u64).for_each(|term| assert!(line.say(parcel(term, 0))));
        assert!(!line.say(parcel(0, 0)));
        line.close();
        assert!(line.is_done() && line.say(parcel(0, 0)));
    }
}
