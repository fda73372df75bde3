//! Clients that ask a web server so many times a second and note whatever goes wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than any answer takes that is not lost.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Clients at work; see [`Load::end`].
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
    began: Instant,
}

struct Shared {
    address: SocketAddr,
    stop: AtomicBool,
    answered: AtomicU64,
    began: Instant,
    failures: Mutex<Vec<String>>,
}

/// What became of it all.
pub struct Outcome {
    /// Requests that were answered well.
    pub answered: u64,
    /// All others: when, by which client, and what happened.
    pub failures: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl Load {
    /// Asks `address` that many times a second, a quarter of it on connections that are kept.
    pub fn start(address: SocketAddr, per_second: u32) -> Load {
        const CLIENTS: u32 = 40;
        let began = Instant::now();
        let shared = Arc::new(Shared {
            address,
            stop: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            began,
            failures: Mutex::default(),
        });
        let every = Duration::from_secs(1) * CLIENTS / per_second;
        let client = |n: u32| {
            let shared = shared.clone();
            // Spread over the interval, so that they do not all ask at once.
            let first = began + every * n / CLIENTS;
            std::thread::spawn(move || shared.run(n, first, every, n.is_multiple_of(4)))
        };
        Load {
            clients: (0..CLIENTS).map(client).collect(),
            shared: shared.clone(),
            began,
        }
    }

    /// Fails with what went wrong so far, if anything has.
    #[track_caller]
    pub fn well(&self, during: &str) {
        // A copy: the lock must not be held by whoever panics.
        let failures = self.shared.failures.lock().expect("no client panics").clone();
        let rate = self.shared.answered.load(Ordering::Relaxed) as f64 / self.began.elapsed().as_secs_f64();
        eprintln!("{during}: {rate:.0} requests/s so far, {} failed", failures.len());
        let shown = failures.len().min(20);
        assert!(failures.is_empty(), "{during}: {:#?}", &failures[..shown]);
    }

    /// Ends the clients; what became of their requests.
    pub fn end(self) -> Outcome {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client");
        }
        let failures = std::mem::take(&mut *self.shared.failures.lock().expect("no client panics"));
        Outcome {
            answered: self.shared.answered.load(Ordering::Relaxed),
            failures,
            took: self.began.elapsed(),
        }
    }
}

impl Shared {
    fn run(&self, client: u32, first: Instant, every: Duration, keep: bool) {
        let mut kept = None;
        let mut next = first;
        while !self.stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if next > now {
                std::thread::sleep(next - now);
            } else if now - next > Duration::from_secs(1) {
                // The machine is too busy for this rate: what was missed is not made up for.
                next = now;
            }
            next += every;
            match self.ask(&mut kept, keep) {
                Ok(()) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                Err(why) => {
                    let how = if keep { "kept connection" } else { "new connection" };
                    let text = format!("{:?} client {client}, {how}: {why}", self.began.elapsed());
                    self.failures.lock().expect("no client panics").push(text);
                }
            }
        }
    }

    /// One request; `kept` is the connection for the next one, unless the server has closed it.
    fn ask(&self, kept: &mut Option<BufReader<TcpStream>>, keep: bool) -> Result<(), String> {
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.address, TIMEOUT);
                let stream = stream.map_err(|error| format!("connecting: {error}"))?;
                let timed = stream.set_read_timeout(Some(TIMEOUT));
                timed.map_err(|error| error.to_string())?;
                BufReader::new(stream)
            }
        };
        let connection = if keep { "keep-alive" } else { "close" };
        let request = format!("GET / HTTP/1.1\r\nHost: web\r\nConnection: {connection}\r\n\r\n");
        let sent = stream.get_mut().write_all(request.as_bytes());
        sent.map_err(|error| format!("sending: {error}"))?;
        let stays = answer(&mut stream).map_err(|error| format!("receiving: {error}"))?;
        *kept = (keep && stays).then_some(stream);
        Ok(())
    }
}

/// Reads one whole answer, which must be good; whether the connection stays.
fn answer(stream: &mut BufReader<TcpStream>) -> std::io::Result<bool> {
    let broken = |what: &str| std::io::Error::other(what.to_owned());
    let mut status = String::new();
    if stream.read_line(&mut status)? == 0 {
        return Err(broken("closed without an answer"));
    }
    if !status.contains(" 200 ") {
        return Err(broken(&status));
    }
    let (mut length, mut chunked, mut close) = (0, false, false);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(broken("closed within the head"));
        }
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(text) = line.strip_prefix("content-length:") {
            length = text.trim().parse().map_err(|_| broken("a bad length"))?;
        }
        chunked |= line == "transfer-encoding: chunked";
        close |= line == "connection: close";
    }
    let body = if chunked {
        chunks(stream)?
    } else {
        exactly(stream, length)?
    };
    if !String::from_utf8_lossy(&body).contains(" from ") {
        return Err(broken("somebody else's answer"));
    }
    Ok(!close)
}

fn chunks(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        body.extend(exactly(stream, length)?);
        exactly(stream, 2)?;
        if length == 0 {
            return Ok(body);
        }
    }
}

fn exactly(stream: &mut BufReader<TcpStream>, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
