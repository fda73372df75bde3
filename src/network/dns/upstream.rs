//! Asking the machine's own name servers about everything that is not the
//! cluster's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base::{Random, SystemRandom};
use hickory_proto::op::{Message, OpCode, Query};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// How long one server may take. Clients ask again after five seconds.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Servers that are tried for one question; more, and the client has left.
const SERVERS_MAX: usize = 2;
/// Questions under way at once; more are refused, so that a dead upstream
/// does not fill the memory.
const PENDING_MAX: usize = 512;
/// How often to look whether the list of servers has changed: machines at the
/// edge change networks.
const REREAD: Duration = Duration::from_secs(5);
const PORT: u16 = 53;

/// The servers of a `resolv.conf`.
#[derive(Debug)]
pub(super) struct Upstream {
    path: PathBuf,
    /// Ourselves: a question must not come back.
    own: Ipv4Addr,
    pending: Semaphore,
    // A std mutex: nothing awaits while it is held.
    servers: Mutex<Servers>,
}

#[derive(Debug, Default)]
struct Servers {
    list: Vec<SocketAddr>,
    looked: Option<Instant>,
    modified: Option<SystemTime>,
}

impl Upstream {
    pub(super) fn new(path: PathBuf, own: Ipv4Addr) -> Upstream {
        Upstream {
            path,
            own,
            pending: Semaphore::new(PENDING_MAX),
            servers: Mutex::default(),
        }
    }

    /// The first answer that a server gives to `query`; `None` if none does.
    pub(super) async fn ask(&self, query: &Query) -> Option<Message> {
        let _permit = self.pending.try_acquire().ok()?;
        for server in self.servers().into_iter().take(SERVERS_MAX) {
            match tokio::time::timeout(TIMEOUT, exchange(server, query)).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%server, %error, "name server failed"),
                Err(_) => tracing::debug!(%server, "name server is silent"),
            }
        }
        None
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.looked.is_none_or(|looked| looked.elapsed() > REREAD) {
            servers.looked = Some(Instant::now());
            let modified = std::fs::metadata(&self.path).and_then(|m| m.modified()).ok();
            if modified.is_none() || modified != servers.modified {
                servers.modified = modified;
                let text = std::fs::read_to_string(&self.path).unwrap_or_default();
                servers.list = parse(&text, self.own);
            }
        }
        servers.list.clone()
    }
}

/// The name servers in a `resolv.conf`, without `own`.
fn parse(text: &str, own: Ipv4Addr) -> Vec<SocketAddr> {
    let mut list = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        // A scope (`fe80::1%eth0`) cannot be kept in an address without asking the kernel.
        let Some(Ok(ip)) = words.next().map(|word| word.parse::<IpAddr>()) else {
            continue;
        };
        if ip != IpAddr::V4(own) {
            list.push(SocketAddr::new(ip, PORT));
        }
    }
    list
}

/// By UDP, and by TCP if the answer does not fit.
async fn exchange(server: SocketAddr, query: &Query) -> io::Result<Message> {
    let mut question = Message::query();
    question.metadata.id = SystemRandom.number() as u16;
    question.metadata.op_code = OpCode::Query;
    question.metadata.recursion_desired = true;
    question.add_query(query.clone());
    let bytes = question.to_vec().map_err(io::Error::other)?;
    let answer = by_udp(server, &bytes, &question).await?;
    if answer.metadata.truncation {
        by_tcp(server, &bytes, &question).await
    } else {
        Ok(answer)
    }
}

async fn by_udp(server: SocketAddr, bytes: &[u8], question: &Message) -> io::Result<Message> {
    let any: SocketAddr = if server.is_ipv4() {
        ([0; 4], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0u8; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What does not fit may be forged: wait for the right one.
        if let Some(answer) = check(&buffer[..length], question) {
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, bytes: &[u8], question: &Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let mut answer = vec![0u8; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    check(&answer, question).ok_or_else(|| io::Error::other("answer to another question"))
}

fn check(bytes: &[u8], question: &Message) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let same = answer.metadata.id == question.metadata.id && answer.queries == question.queries;
    same.then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::{Name, RecordType};

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 10);

    #[test]
    fn servers_of_a_resolv_conf() {
        let text = "# x\nsearch a b\nnameserver 192.0.2.1\nnameserver 10.43.0.10\nnameserver fd00::1 \nnameserver\nnameserver what\n";
        let expected: Vec<SocketAddr> =
            vec!["192.0.2.1:53".parse().unwrap(), "[fd00::1]:53".parse().unwrap()];
        assert_eq!(parse(text, OWN), expected);
    }

    #[test]
    fn answers_must_fit_the_question() {
        let mut question = Message::query();
        question.metadata.id = 7;
        question.add_query(Query::query(
            Name::from_ascii("a.example.").unwrap(),
            RecordType::A,
        ));
        let mut answer = question.clone();
        assert!(check(&answer.to_vec().unwrap(), &question).is_some());
        answer.metadata.id = 8;
        assert!(check(&answer.to_vec().unwrap(), &question).is_none());
        assert!(check(&[0; 3], &question).is_none());
    }

    #[tokio::test]
    async fn without_servers_there_is_no_waiting() {
        let upstream = Upstream::new("/nonexistent/resolv.conf".into(), OWN);
        let query = Query::query(Name::from_ascii("a.example.").unwrap(), RecordType::A);
        let asked = tokio::time::timeout(Duration::from_millis(100), upstream.ask(&query)).await;
        assert!(asked.unwrap().is_none());
    }
}
