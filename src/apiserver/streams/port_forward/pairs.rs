//! Port-forwarding over SPDY: an error stream and a data stream make one connection.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;

use super::super::spdy::{Session, Stream};
use super::target::Target;

/// Pairs of which only one stream has come so far.
const HALVES_MAX: usize = 256;

/// Forwards until the client is gone, or it is `over`: then what is open ends, too.
pub(super) async fn serve(mut session: Session, target: Target, over: impl Future<Output = ()>) {
    let mut pairs = Pairs::default();
    tokio::pin!(over);
    loop {
        let stream = tokio::select! {
            stream = session.accept() => stream,
            () = &mut over => break,
        };
        match stream.map(|stream| pairs.add(stream)) {
            Some(Some((data, error))) => drop(tokio::spawn(carry(target.clone(), data, error))),
            Some(None) => {}
            None => return,
        }
    }
    // The connections hear of it by their streams.
    session.close().await;
}

/// Streams that wait for the other one of their pair.
#[derive(Default)]
struct Pairs {
    waiting: HashMap<String, Stream>,
}

impl Pairs {
    /// Data and error stream of a pair that is now complete.
    fn add(&mut self, stream: Stream) -> Option<(Stream, Stream)> {
        // Clients older than request ids open the two of a port one after the other.
        let id = match stream.header("requestid") {
            "" => format!("port {}", stream.header("port")),
            id => id.to_owned(),
        };
        let is_data = stream.header("streamtype") == "data";
        match self.waiting.remove(&id) {
            Some(other) if (other.header("streamtype") == "data") != is_data => {
                Some(if is_data { (stream, other) } else { (other, stream) })
            }
            _ if self.waiting.len() >= HALVES_MAX => None,
            _ => {
                self.waiting.insert(id, stream);
                None
            }
        }
    }
}

fn carry(target: Target, data: Stream, error: Stream) -> BoxFuture<'static, ()> {
    Box::pin(carried(target, data, error))
}

async fn carried(target: Target, data: Stream, error: Stream) {
    let port = data.header("port").to_owned();
    if let Err(why) = connection(&target, &port, data).await {
        let text = target.failure(&port, &why);
        // Fails only when the client is gone, which needs no words.
        let _ = error.writer.write(text.into()).await;
    }
    let _ = error.writer.finish().await;
}

async fn connection(target: &Target, port: &str, data: Stream) -> Result<(), String> {
    let Stream {
        mut received, writer, ..
    } = data;
    let (to_pod, mut from_pod) = match target.dial(port).await {
        Ok(both) => both,
        Err(why) => {
            // The error stream says why; the data stream only ends.
            let _ = writer.reset().await;
            return Err(why);
        }
    };
    let upward = async move {
        while let Some(bytes) = received.recv().await {
            if to_pod.send(bytes).await.is_err() {
                return;
            }
        }
    };
    let downward = async {
        while let Some(frame) = from_pod.frame().await {
            let bytes: Bytes = frame.map_err(|e| e.to_string())?.into_data().unwrap_or_default();
            if writer.write(bytes).await.is_err() {
                break;
            }
        }
        let _ = writer.finish().await;
        Ok(())
    };
    // The pod's end of the connection decides: a client that has said all it wanted to say
    // still waits for the answer.
    tokio::pin!(downward);
    tokio::select! {
        ended = &mut downward => ended,
        () = upward => downward.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_paired_by_request() {
        let stream = |kind: &str, id: &str| {
            let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let headers = vec![
                pair("streamtype", kind),
                pair("port", "80"),
                pair("requestid", id),
            ];
            Stream::for_tests(headers)
        };
        let mut pairs = Pairs::default();
        assert!(pairs.add(stream("error", "0")).is_none());
        assert!(pairs.add(stream("error", "1")).is_none());
        let (data, error) = pairs.add(stream("data", "0")).unwrap();
        assert_eq!(
            (data.header("streamtype"), error.header("requestid")),
            ("data", "0")
        );
        assert_eq!(pairs.waiting.len(), 1);
    }
}
