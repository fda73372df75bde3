//! Port-forwarding for clients that speak neither SPDY nor its tunnel (the Python
//! and JavaScript ones): port number i has channel 2i for data and 2i+1 for
//! errors, and each channel begins with the port in two bytes, low byte first.

use api::status::Status;
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use super::super::websocket::{Receiver, Sender};
use super::target::Target;
use crate::http::query::Query;

/// A channel is one byte, and each port has two.
const PORTS_MAX: usize = 127;
const WAITING: usize = 64;

/// The ports that are asked for.
pub(super) fn ports(query: &Query) -> Result<Vec<u16>, Status> {
    let texts: Vec<&str> = query.all("ports").flat_map(|text| text.split(',')).collect();
    if texts.is_empty() || texts.len() > PORTS_MAX {
        return Err(Status::bad_request("query parameter \"ports\" is required"));
    }
    let port = |text: &&str| match text.trim().parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(Status::bad_request(format!("unable to parse {text:?} as a port"))),
    };
    texts.iter().map(port).collect()
}

/// Forwards until the client is gone or every connection has ended.
pub(super) async fn serve(sender: Sender, receiver: Receiver, ports: &[u16], target: &Target) {
    let (out, outgoing) = mpsc::channel(WAITING);
    let mut inputs = Vec::new();
    let mut connections: Vec<BoxFuture<'_, ()>> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let (input, received) = mpsc::channel(WAITING);
        inputs.push(input);
        // At most PORTS_MAX of them, so that the channel fits.
        let channel = u8::try_from(index * 2).unwrap_or(u8::MAX - 1);
        let way = Way {
            channel,
            out: out.clone(),
        };
        connections.push(Box::pin(connection(target.clone(), *port, way, received)));
    }
    drop(out);
    tokio::select! {
        // Ends once all connections have let go of their way out.
        () = write(sender, outgoing) => {}
        () = read(receiver, inputs) => {}
        () = async { join_all(connections).await; std::future::pending::<()>().await } => {}
    }
}

/// The way back to the client.
struct Way {
    channel: u8,
    out: mpsc::Sender<(u8, Bytes)>,
}

impl Way {
    async fn data(&self, bytes: Bytes) -> bool {
        self.out.send((self.channel, bytes)).await.is_ok()
    }

    async fn error(&self, bytes: Bytes) -> bool {
        self.out.send((self.channel + 1, bytes)).await.is_ok()
    }
}

async fn write(mut sender: Sender, mut outgoing: mpsc::Receiver<(u8, Bytes)>) {
    while let Some((channel, bytes)) = outgoing.recv().await {
        if !sender.send(channel, &bytes).await {
            return;
        }
    }
    sender.close().await;
}

async fn read(mut receiver: Receiver, inputs: Vec<mpsc::Sender<Bytes>>) {
    while let Some((channel, bytes)) = receiver.next().await {
        // Clients have nothing to say on error channels.
        let input = inputs.get(usize::from(channel / 2)).filter(|_| channel % 2 == 0);
        if let Some(input) = input {
            // A connection that has ended takes no more, but others may.
            let _ = input.send(bytes).await;
        }
    }
}

async fn connection(target: Target, port: u16, way: Way, mut received: mpsc::Receiver<Bytes>) {
    let greeting = Bytes::copy_from_slice(&port.to_le_bytes());
    if !way.data(greeting.clone()).await || !way.error(greeting).await {
        return;
    }
    let port = port.to_string();
    let (to_pod, mut from_pod) = match target.dial(&port).await {
        Ok(both) => both,
        Err(why) => {
            way.error(target.failure(&port, &why).into()).await;
            return;
        }
    };
    let upward = async {
        while let Some(bytes) = received.recv().await {
            if to_pod.send(bytes).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let downward = async {
        while let Some(Ok(frame)) = from_pod.frame().await {
            if !way.data(frame.into_data().unwrap_or_default()).await {
                return;
            }
        }
    };
    tokio::select! {
        () = upward => {}
        () = downward => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_listed_or_repeated() {
        let of = |text: &str| ports(&Query::parse(text)).map_err(|status| status.code);
        assert_eq!(of("ports=80,443&ports=8080"), Ok(vec![80, 443, 8080]));
        assert_eq!(of(""), Err(400));
        assert_eq!(of("ports=0"), Err(400));
        assert_eq!(of("ports=x"), Err(400));
    }
}
