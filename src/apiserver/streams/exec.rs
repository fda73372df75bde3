//! `pods/NAME/exec` and `pods/NAME/attach`: a client's channels, over SPDY or a
//! WebSocket, joined to the agent's frames.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use bytes::Bytes;
use client::link::frames::{self, CLOSE, Decoder, ERROR, RESIZE, STDERR, STDIN, STDOUT};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{Method, Response};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::mpsc;

use super::quiet::Wire;
use super::spdy::{Session, Stream, Writer};
use super::upgrade::{self, Wanted};
use super::websocket::{self, Framing};
use super::{Incoming, link, pod};
use crate::http::path::ResourcePath;
use crate::http::query::Query;
use crate::http::{Door, End};
use crate::nodes::Body;

const WEBSOCKET_PROTOCOLS: [&str; 6] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];
const SPDY_PROTOCOLS: [&str; 5] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
    "",
];
/// A SPDY client opens its streams right after the upgrade.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
const WAITING: usize = 64;
/// How long a client is given to take the news of a broken end.
const NEWS_MAX: Duration = Duration::from_secs(2);

/// Which channels the client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Channels {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Channels {
    fn of(query: &Query) -> Result<Self, Status> {
        let tty = query.flag("tty");
        let channels = Self {
            stdin: query.flag("stdin"),
            stdout: query.flag("stdout"),
            // With a terminal there is only one output.
            stderr: query.flag("stderr") && !tty,
            tty,
        };
        if channels.stdin || channels.stdout || channels.stderr {
            return Ok(channels);
        }
        Err(Status::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ))
    }
}

/// Runs a command in a container, or attaches to what runs there.
pub async fn answer(
    door: &Arc<Door>,
    path: &ResourcePath,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    let channels = Channels::of(&incoming.query)?;
    let (mut request, until) = (incoming.request, incoming.until);
    let wanted = upgrade::required(request.version(), request.headers())?;
    let (protocol, response) = match wanted {
        Wanted::WebSocket => {
            let protocol = upgrade::choose(request.headers(), &SEC_WEBSOCKET_PROTOCOL, &WEBSOCKET_PROTOCOLS)?;
            (protocol, upgrade::to_websocket(request.headers(), protocol)?)
        }
        Wanted::Spdy => {
            let protocol = upgrade::choose(request.headers(), &upgrade::STREAM_PROTOCOL, &SPDY_PROTOCOLS)?;
            (protocol, upgrade::to_spdy(protocol))
        }
    };
    let (to_node, from_node) = dial(door, path, &incoming.query, channels).await?;
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(connection) = upgraded.await else { return };
        let (connection, used) = Wire::of(connection);
        let client = match wanted {
            Wanted::WebSocket => over_websocket(connection, protocol, channels).await,
            Wanted::Spdy => over_spdy(Session::start(connection), protocol, channels).await,
        };
        let Some(client) = client else { return };
        let cut = async {
            tokio::select! {
                () = used.quiet() => "the connection was idle for too long",
                end = until.over() => match end {
                    End::Stop => "the server is shutting down",
                    End::Distrusted => "the client's certificate is trusted no more",
                },
            }
        };
        join(client, to_node, from_node, cut).await;
    });
    Ok(response)
}

/// Starts the command on its node, so that what goes wrong there is still an HTTP answer.
async fn dial(
    door: &Door,
    path: &ResourcePath,
    query: &Query,
    channels: Channels,
) -> Result<(mpsc::Sender<Bytes>, Body), Status> {
    let object = pod::get(door, "pods", &path.namespace, &path.name).await?;
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        let what = if path.subresource == "exec" {
            "exec into"
        } else {
            "attach to"
        };
        return Err(Status::bad_request(format!(
            "cannot {what} a container in a completed pod; current phase is {phase}"
        )));
    }
    let container = pod::container(&object, query.get("container").unwrap_or_default())?;
    let node = pod::assigned(&object)?;
    let mut pairs: Vec<(&str, &str)> = query.all("command").map(|word| ("command", word)).collect();
    if path.subresource == "exec" && pairs.is_empty() {
        return Err(Status::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    let switches = [
        ("stdin", channels.stdin),
        ("stdout", channels.stdout),
        ("stderr", channels.stderr),
        ("tty", channels.tty),
    ];
    pairs.extend(
        switches
            .iter()
            .filter(|(_, on)| *on)
            .map(|(name, _)| (*name, "true")),
    );
    let uri = link::uri(
        &[&path.subresource, &path.namespace, &path.name, &container],
        &pairs,
    );
    let (sender, body) = link::channel();
    let answer = link::ask(door, node, Method::POST, &uri, body).await?;
    Ok((sender, answer.into_body()))
}

/// A client, whatever it speaks.
struct Client {
    /// What it sends; `CLOSE` ends a channel. Closed when the client is gone.
    from: mpsc::Receiver<(u8, Bytes)>,
    to: Outputs,
    /// Whether the end is told as a whole `v1.Status` rather than as words.
    status_json: bool,
}

enum Outputs {
    WebSocket {
        sender: websocket::Sender,
        half_close: bool,
    },
    Spdy {
        writers: HashMap<u8, Writer>,
        done: tokio::sync::oneshot::Sender<()>,
    },
}

impl Outputs {
    async fn send(&mut self, channel: u8, bytes: Bytes) -> bool {
        match self {
            Outputs::WebSocket { sender, .. } => sender.send(channel, &bytes).await,
            Outputs::Spdy { writers, .. } => match writers.get(&channel) {
                Some(writer) => writer.write(bytes).await.is_ok(),
                None => true,
            },
        }
    }

    async fn close(&mut self, channel: u8) -> bool {
        match self {
            Outputs::WebSocket {
                sender,
                half_close: true,
            } => sender.send(CLOSE, &[channel]).await,
            Outputs::WebSocket { .. } => true,
            Outputs::Spdy { writers, .. } => match writers.get(&channel) {
                Some(writer) => writer.finish().await.is_ok(),
                None => true,
            },
        }
    }

    async fn end(self) {
        match self {
            Outputs::WebSocket { mut sender, .. } => sender.close().await,
            Outputs::Spdy { writers, done } => {
                for writer in writers.values() {
                    let _ = writer.finish().await;
                }
                // The session is waited for by the task that owns it.
                let _ = done.send(());
            }
        }
    }
}

/// Carries bytes both ways until the command has ended, the client is gone, or `cut` says why it is to end.
async fn join(
    client: Client,
    to_node: mpsc::Sender<Bytes>,
    from_node: Body,
    cut: impl Future<Output = &'static str>,
) {
    let Client {
        mut from,
        mut to,
        status_json,
    } = client;
    let upward = async move {
        while let Some((channel, bytes)) = from.recv().await {
            // Channels that only the server writes are no business of the client.
            if !matches!(channel, STDIN | RESIZE | CLOSE) {
                continue;
            }
            if to_node.send(frames::encode(channel, &bytes)).await.is_err() {
                // The command takes no more input, but what it says is still wanted.
                std::future::pending::<()>().await;
            }
        }
    };
    let downward = async {
        tokio::select! {
            () = download(&mut to, from_node, status_json) => {}
            why = cut => {
                // A connection that just ends is a success to clients of SPDY. One that takes nothing is not waited for.
                let why = failure(why);
                let _ = tokio::time::timeout(NEWS_MAX, tell(&mut to, &why, status_json)).await;
            }
        }
        to.end().await;
    };
    tokio::select! {
        () = upward => {}
        () = downward => {}
    }
}

async fn download(to: &mut Outputs, mut from_node: Body, status_json: bool) {
    let mut decoder = Decoder::default();
    let mut told = false;
    loop {
        loop {
            let (channel, bytes) = match decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return tell(to, &failure(error.to_string()), status_json).await,
            };
            let alive = match channel {
                STDOUT | STDERR => to.send(channel, bytes).await,
                ERROR => {
                    told = true;
                    tell(to, &bytes, status_json).await;
                    true
                }
                CLOSE => to.close(bytes.first().copied().unwrap_or(CLOSE)).await,
                _ => true,
            };
            if !alive {
                return;
            }
        }
        match from_node.frame().await {
            Some(Ok(frame)) => decoder.push(&frame.into_data().unwrap_or_default()),
            Some(Err(error)) if !told => return tell(to, &failure(error), status_json).await,
            // How the command ended, and what it said last, is known to nobody.
            None if !told => {
                let why = failure("the node's stream closed before the command's end was known");
                return tell(to, &why, status_json).await;
            }
            _ => return,
        }
    }
}

fn failure(why: impl std::fmt::Display) -> Bytes {
    Status::internal(why).to_value().to_string().into()
}

/// Tells how it ended: old protocols want words, and only of failures.
async fn tell(to: &mut Outputs, status: &Bytes, status_json: bool) {
    if status_json {
        to.send(ERROR, status.clone()).await;
        return;
    }
    let value: Value = serde_json::from_slice(status).unwrap_or_default();
    if value["status"] != "Success" {
        let words = value["message"].as_str().unwrap_or("unknown error").to_owned();
        to.send(ERROR, words.into()).await;
    }
}

async fn over_websocket(connection: Wire, protocol: &str, channels: Channels) -> Option<Client> {
    let socket = websocket::socket(connection).await;
    let (mut sender, mut receiver) = websocket::channels(socket, Framing::of(protocol));
    // An empty message says that the connection stands, on the first channel there is.
    let first = if channels.stdout {
        STDOUT
    } else if channels.stderr {
        STDERR
    } else {
        ERROR
    };
    if !sender.send(first, b"").await {
        return None;
    }
    let (send, from) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        // Once nobody listens any more, the connection goes with this half of it.
        let closed = send.clone();
        let pass = async {
            while let Some(message) = receiver.next().await {
                if send.send(message).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = pass => {}
            () = closed.closed() => {}
        }
    });
    let to = Outputs::WebSocket {
        sender,
        half_close: protocol.starts_with("v5."),
    };
    Some(Client {
        from,
        to,
        status_json: protocol.starts_with("v5.") || protocol.starts_with("v4."),
    })
}

async fn over_spdy(mut session: Session, protocol: &str, channels: Channels) -> Option<Client> {
    let resizes = channels.tty && (protocol.starts_with("v4.") || protocol.starts_with("v3."));
    let wanted = [
        (ERROR, "error", true),
        (STDIN, "stdin", channels.stdin),
        (STDOUT, "stdout", channels.stdout),
        (STDERR, "stderr", channels.stderr),
        (RESIZE, "resize", resizes),
    ];
    let expected: Vec<(u8, &str)> = wanted.iter().filter(|w| w.2).map(|w| (w.0, w.1)).collect();
    let gather = gather(&mut session, &expected);
    let streams = tokio::time::timeout(STREAMS_TIMEOUT, gather)
        .await
        .ok()
        .flatten()?;
    let (send, from) = mpsc::channel(WAITING);
    let mut writers = HashMap::new();
    for (channel, stream) in streams {
        writers.insert(channel, stream.writer.clone());
        if matches!(channel, STDIN | RESIZE) {
            tokio::spawn(forward(channel, stream, send.clone()));
        }
    }
    let (done, ended) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        // The sender is held for as long as the client is there: a closed stdin does not end it.
        let _client_is_there = send;
        tokio::select! {
            _ = ended => session.close().await,
            () = async { while session.accept().await.is_some() {} } => {}
        }
    });
    let to = Outputs::Spdy { writers, done };
    Some(Client {
        from,
        to,
        status_json: protocol.starts_with("v4."),
    })
}

/// The streams that the client opens, by channel, once all are there.
async fn gather(session: &mut Session, expected: &[(u8, &str)]) -> Option<HashMap<u8, Stream>> {
    let mut streams = HashMap::new();
    while streams.len() < expected.len() {
        let stream = session.accept().await?;
        let kind = stream.header("streamtype");
        if let Some((channel, _)) = expected.iter().find(|(_, name)| *name == kind) {
            streams.insert(*channel, stream);
        }
    }
    Some(streams)
}

async fn forward(channel: u8, mut stream: Stream, send: mpsc::Sender<(u8, Bytes)>) {
    while let Some(bytes) = stream.received.recv().await {
        if send.send((channel, bytes)).await.is_err() {
            return;
        }
    }
    let _ = send.send((CLOSE, Bytes::copy_from_slice(&[channel]))).await;
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::spdy_for_tests;
    use super::*;

    /// What a client of SPDY hears on its error channel and its standard output.
    async fn told(from_node: Body, cut: impl Future<Output = &'static str>) -> (String, String) {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let opened = spdy_for_tests::open(&[(1, "error"), (3, "stdout")]);
        theirs.write_all(&opened).await.unwrap();
        let channels = Channels {
            stdout: true,
            ..Channels::default()
        };
        let client = over_spdy(Session::start(ours), "v4.channel.k8s.io", channels).await;
        let (to_node, _input) = mpsc::channel(1);
        join(client.unwrap(), to_node, from_node, cut).await;
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.unwrap();
        let of = |stream| spdy_for_tests::data_of(&mut BytesMut::from(&heard[..]), stream);
        let [error, output] = [of(1), of(3)].map(|bytes| String::from_utf8(bytes).unwrap());
        (error, output)
    }

    fn saying(bytes: impl Into<Bytes>) -> Body {
        Full::new(bytes.into()).map_err(|never| match never {}).boxed()
    }

    #[tokio::test]
    async fn an_end_without_a_status_is_no_success() {
        let said = saying(frames::encode(STDOUT, b"half"));
        let (error, output) = told(said, std::future::pending()).await;
        assert_eq!(output, "half");
        assert!(error.contains(r#""status":"Failure""#), "{error}");
        assert!(error.contains("stream closed"), "{error}");
    }

    #[tokio::test]
    async fn a_status_is_passed_on_as_it_is() {
        let end = br#"{"metadata":{},"status":"Success"}"#;
        let said = [frames::encode(STDOUT, b"all"), frames::encode(ERROR, end)].concat();
        let (error, output) = told(saying(said), std::future::pending()).await;
        assert_eq!((error.as_bytes(), output.as_str()), (&end[..], "all"));
    }

    #[tokio::test]
    async fn a_server_that_stops_says_so() {
        let (_node, from_node) = link::channel();
        let (error, _) = told(from_node, async { "stopping" }).await;
        assert!(error.contains("stopping"), "{error}");
    }

    #[test]
    fn a_terminal_has_one_output() {
        let channels = Channels::of(&Query::parse("stdin=true&stdout=true&stderr=true&tty=true")).unwrap();
        assert_eq!(
            channels,
            Channels {
                stdin: true,
                stdout: true,
                stderr: false,
                tty: true
            }
        );
        assert_eq!(Channels::of(&Query::parse("command=ls")).unwrap_err().code, 400);
    }
}
