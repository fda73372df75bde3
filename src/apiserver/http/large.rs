//! Answers that wait to be sent: how much memory they may take, and for how long when nobody reads them.
//!
//! A client says how fast it reads, down to not at all: over HTTP/2 it may ask for a thousand lists on one connection
//! and take not one byte of them. So the text of an answer, which lies in the store as long as it can, is handed over in
//! small copies, and forgotten when nothing of it was taken for a minute.

use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use api::status::Status;
use api::text::{Reading, Text};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

use super::given_up::{GivenUp, Reason};
use super::reply;
use super::shares::{Share, Shares};
use crate::body::{Body, BoxError};

/// Smaller answers are not counted; the connection itself takes more.
const SMALL: usize = 4 * 1024;
/// All that is counted may take this many bytes, and half of them for one user.
const BYTES_MAX: usize = 256 * 1024 * 1024;
/// What is handed over at once: with the head of its frame as much as a record of TLS takes.
const PIECE: usize = 16 * 1024 - FRAME_HEAD;
/// What HTTP/2 writes before each frame.
const FRAME_HEAD: usize = 9;
/// After so many pieces others have their turn.
const PIECES_TOGETHER: usize = 8;
/// An answer of which nothing was taken for this long is forgotten.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Who an answer is for. A number made of the name: every request has one, few need it, and two users who by chance
/// shared one would only share their room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reader(u64);

/// The answers that wait.
pub struct Waiting {
    names: RandomState,
    room: Arc<Shares<Reader>>,
    given_up: GivenUp,
    // A std lock: nothing awaits while it is held.
    answers: Mutex<Vec<Weak<Mutex<Answer>>>>,
}

struct Answer {
    rest: Reading,
    taken: Instant,
    room: Option<Share<Reader>>,
}

impl Waiting {
    /// None yet.
    pub fn new(given_up: GivenUp) -> Self {
        Self {
            names: RandomState::new(),
            room: Shares::new(BYTES_MAX),
            given_up,
            answers: Mutex::default(),
        }
    }

    /// The user of that name, whose answers share what one user may have.
    pub fn reader(&self, user: &str) -> Reader {
        Reader(self.names.hash_one(user))
    }

    /// The body of an answer.
    ///
    /// # Errors
    /// 429 when too much waits already.
    pub fn body(&self, reader: Reader, text: Text) -> Result<Body, Status> {
        if text.len() < SMALL {
            return Ok(reply::full(text.whole()));
        }
        let room = self.room.take(reader, text.len());
        let room = room.map_err(|_| {
            self.given_up.count(Reason::Room);
            reply::busy()
        })?;
        let answer = Arc::new(Mutex::new(Answer {
            rest: text.read(),
            taken: Instant::now(),
            room: Some(room),
        }));
        lock(&self.answers).push(Arc::downgrade(&answer));
        let sending = Sending { answer, sent: 0 };
        Ok(sending.boxed())
    }

    /// Forgets what nobody reads, for ever.
    pub async fn tend(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.forget(Instant::now());
        }
    }

    fn forget(&self, now: Instant) {
        lock(&self.answers).retain(|answer| {
            let Some(answer) = answer.upgrade() else {
                return false;
            };
            let mut answer = lock(&answer);
            let idle = now.saturating_duration_since(answer.taken) > IDLE_MAX;
            if idle {
                self.given_up.count(Reason::Unread);
                (answer.rest, answer.room) = (Text::default().read(), None);
            }
            !idle
        });
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Sending {
    answer: Arc<Mutex<Answer>>,
    /// Pieces since others had their turn.
    sent: usize,
}

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.sent == PIECES_TOGETHER {
            self.sent = 0;
            // A client that reads fast would have a thread to itself until it has everything.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let this = &mut *self;
        let mut answer = lock(&this.answer);
        if answer.room.is_none() {
            return Poll::Ready(Some(Err("nobody read this answer".into())));
        }
        if answer.rest.left() == 0 {
            return Poll::Ready(None);
        }
        let piece = answer.rest.take(PIECE);
        answer.taken = Instant::now();
        this.sent += 1;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        let answer = lock(&self.answer);
        answer.room.is_some() && answer.rest.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(lock(&self.answer).rest.left() as u64)
    }
}

#[cfg(test)]
mod tests {
    use hyper::body::Body as _;

    use super::*;

    #[tokio::test]
    async fn answers_are_sent_whole_and_forgotten_when_nobody_reads() {
        let waiting = Waiting::new(GivenUp::default());
        let text = Bytes::from(vec![b'x'; 100_000]);
        let reader = waiting.reader("a");
        let sent = waiting.body(reader, text.clone().into()).unwrap();
        assert_eq!(sent.size_hint().exact(), Some(100_000));
        assert_eq!(sent.collect().await.unwrap().to_bytes(), text);
        let mut unread = waiting.body(reader, text.into()).unwrap();
        assert!(unread.frame().await.unwrap().is_ok());
        waiting.forget(Instant::now());
        assert!(unread.frame().await.unwrap().is_ok());
        waiting.forget(Instant::now() + 2 * IDLE_MAX);
        assert!(unread.frame().await.unwrap().is_err());
        assert!(lock(&waiting.answers).is_empty());
    }

    #[test]
    fn one_user_does_not_take_all_the_room() {
        let waiting = Waiting::new(GivenUp::default());
        let large = || Text::from(Bytes::from_static(&[b'x'; 16 * 1024 * 1024]));
        let (a, b) = (waiting.reader("a"), waiting.reader("b"));
        let held: Vec<Body> = std::iter::repeat_with(|| waiting.body(a, large()))
            .map_while(Result::ok)
            .collect();
        assert_eq!(held.len(), 8);
        assert!(waiting.body(b, large()).is_ok());
        assert!(waiting.body(a, "small".into()).is_ok());
    }
}
