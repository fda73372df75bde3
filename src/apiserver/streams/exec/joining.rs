//! Bytes both ways between a client and its command, and the news of how that ended.

use std::time::Duration;

use api::status::Status;
use bytes::Bytes;
use client::link::frames::{self, CLOSE, Decoder, ERROR, RESIZE, STDERR, STDIN, STDOUT};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::mpsc;

use super::speaking::{Client, Outputs};
use crate::body::Body;

/// How long a client is given to take the news of a broken end.
const NEWS_MAX: Duration = Duration::from_secs(2);

/// Carries bytes both ways until the command has ended, the client is gone, or `cut` says why it is to end.
pub(super) async fn join(
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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::super::spdy::Session;
    use super::super::super::{link, spdy_for_tests};
    use super::super::channels::Channels;
    use super::super::speaking::over_spdy;
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
}
