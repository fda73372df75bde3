//! As much of an HTTP/2 client as the load needs: one call after the other on each stream of a connection, on one
//! thread, without a task or a channel per call. What the load costs is taken from the servers, which share its
//! processors; with a client library it was as much as a server.
//!
//! Answers' headers are not read: that a call was done is seen by its message, which a failed one does not have.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use bytes::{Buf, BufMut, BytesMut};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frames' sorts.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW: u8 = 8;
/// Flags.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
/// What either side may send before it is told to go on.
const FIRST_WINDOW: i64 = 65_535;
/// What servers may send us, in all and on one stream.
const OUR_WINDOW: u32 = 1 << 30;
const FRAME_HEADER: usize = 9;

/// A connection on which the same path is called.
pub struct Connection {
    stream: TcpStream,
    path: &'static str,
    authority: String,
    received: BytesMut,
    out: Vec<u8>,
    /// Bytes that may be sent still.
    window: i64,
    /// Bytes that were taken since the server was last told to go on.
    taken: u32,
    /// The next stream's number.
    next: u32,
    open: HashMap<u32, Call>,
}

/// A call on its way.
struct Call {
    asked: Instant,
    /// Of the answer's message.
    bytes: usize,
}

impl Connection {
    /// Connects, to call `path`.
    pub async fn open(address: &str, path: &'static str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut out = PREFACE.to_vec();
        put_frame(&mut out, SETTINGS, 0, 0, 6);
        // The window of each stream.
        out.put_u16(4);
        out.put_u32(OUR_WINDOW);
        put_frame(&mut out, WINDOW, 0, 0, 4);
        out.put_u32(OUR_WINDOW - FIRST_WINDOW as u32);
        Ok(Self {
            stream,
            path,
            authority: address.to_owned(),
            received: BytesMut::with_capacity(64 << 10),
            out,
            window: FIRST_WINDOW,
            taken: 0,
            next: 1,
            open: HashMap::new(),
        })
    }

    /// Keeps `clients` calls under way, each of which asks anew when it is answered, until `question` gives no more.
    /// Answers have at least `answer_bytes`. How long each took.
    pub async fn work<M: Message>(
        mut self,
        clients: usize,
        answer_bytes: usize,
        mut question: impl FnMut() -> Option<M>,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut latencies = vec![];
        let mut next = question();
        while next.is_some() || !self.open.is_empty() {
            while self.open.len() < clients
                && let Some(message) = next.take_if(|message| self.fits(message))
            {
                self.ask(&message);
                next = question();
            }
            self.stream.write_all(&self.out).await?;
            self.out.clear();
            let read = self.stream.read_buf(&mut self.received).await?;
            ensure!(read > 0, "the server has hung up");
            while let Some(call) = self.take_frame()? {
                ensure!(call.bytes >= answer_bytes, "{}: no answer", self.path);
                latencies.push(call.asked.elapsed());
            }
        }
        Ok(latencies)
    }

    fn fits(&self, message: &impl Message) -> bool {
        self.window >= message.encoded_len() as i64 + 5
    }

    fn ask(&mut self, message: &impl Message) {
        let (stream, length) = (self.next, message.encoded_len());
        self.next += 2;
        let head = self.head();
        put_frame(&mut self.out, HEADERS, END_HEADERS, stream, head.len());
        self.out.extend(head);
        put_frame(&mut self.out, DATA, END_STREAM, stream, length + 5);
        self.out.put_u8(0);
        self.out.put_u32(length as u32);
        message.encode_raw(&mut self.out);
        self.window -= length as i64 + 5;
        let asked = Instant::now();
        self.open.insert(stream, Call { asked, bytes: 0 });
    }

    /// A request's headers: whole for the first, which has the server remember them, then by their numbers.
    fn head(&self) -> Vec<u8> {
        // POST, and http.
        let mut head = vec![0x83, 0x86];
        if self.next > 3 {
            // The latest has number 62.
            head.extend([0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]);
            return head;
        }
        let mut remembered = |name: u8, value: &str| {
            head.extend([0x40 | name, value.len() as u8]);
            head.extend(value.as_bytes());
        };
        remembered(4, self.path);
        remembered(1, &self.authority);
        remembered(31, "application/grpc");
        head.extend([0x40, 2]);
        head.extend(b"te");
        head.push(8);
        head.extend(b"trailers");
        head
    }

    /// Takes frames until one ends a call, or there is no whole one left.
    fn take_frame(&mut self) -> anyhow::Result<Option<Call>> {
        while let Some(header) = self.received.first_chunk::<FRAME_HEADER>() {
            let [a, b, c, sort, flags, stream @ ..] = *header;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if self.received.len() < FRAME_HEADER + length {
                break;
            }
            let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
            self.received.advance(FRAME_HEADER);
            let body = self.received.split_to(length);
            match sort {
                DATA => self.data(stream, flags, &body),
                SETTINGS if flags & ACK == 0 => put_frame(&mut self.out, SETTINGS, ACK, 0, 0),
                PING if flags & ACK == 0 => {
                    put_frame(&mut self.out, PING, ACK, 0, body.len());
                    self.out.extend(&body);
                }
                // Calls are so short that the window of a stream is never shut.
                WINDOW if stream == 0 => self.window += i64::from(number(&body)),
                RESET | GO_AWAY => bail!("{}: the server broke off: {body:?}", self.path),
                _ => {}
            }
            if matches!(sort, DATA | HEADERS) && flags & END_STREAM != 0 {
                return Ok(self.open.remove(&stream));
            }
        }
        Ok(None)
    }

    fn data(&mut self, stream: u32, flags: u8, body: &[u8]) {
        let padding = match body.first() {
            Some(padding) if flags & PADDED != 0 => 1 + usize::from(*padding),
            _ => 0,
        };
        if let Some(call) = self.open.get_mut(&stream) {
            call.bytes += body.len().saturating_sub(padding);
        }
        self.taken += body.len() as u32;
        if self.taken > OUR_WINDOW / 2 {
            put_frame(&mut self.out, WINDOW, 0, 0, 4);
            self.out.put_u32(self.taken);
            self.taken = 0;
        }
    }
}

/// Begins a frame of `length` bytes.
fn put_frame(out: &mut Vec<u8>, sort: u8, flags: u8, stream: u32, length: usize) {
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[sort, flags]);
    out.put_u32(stream);
}

fn number(body: &[u8]) -> u32 {
    body.first_chunk::<4>()
        .map_or(0, |bytes| u32::from_be_bytes(*bytes))
        & 0x7fff_ffff
}
