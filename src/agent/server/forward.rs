//! TCP connections on the server's behalf: into a pod's own localhost for
//! `kubectl port-forward`, and to an address that this node reaches.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use api::status::Status;
use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::body::{Body, BoxError, streamed};
use super::query::Query;
use super::service::Target;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const BLOCK_BYTES: usize = 32 * 1024;

pub(super) async fn answer(target: &Target, query: &Query, input: Body) -> Result<Response<Body>, Status> {
    let port = query
        .get("port")
        .and_then(|p| p.parse::<u16>().ok())
        .filter(|p| *p > 0);
    let port = port.ok_or_else(|| Status::bad_request("port is not a port number"))?;
    let (ip, netns) = {
        let view = target.view.borrow();
        (view.ip, view.netns.clone())
    };
    let ip = ip.ok_or_else(|| Status::bad_request("the pod is not running"))?;
    let stream = connect(ip, netns.as_deref(), port).await.map_err(|error| {
        let text = format!("failed to connect to localhost:{port} inside the pod: {error}");
        Status::new(500, "InternalError", text)
    })?;
    Ok(carry(stream, input))
}

/// Connects to an address from where the node stands.
pub(super) async fn dial(address: &str, input: Body) -> Result<Response<Body>, Status> {
    let address: SocketAddr = address
        .parse()
        .map_err(|_| Status::bad_request(format!("{address:?} is no address with a port")))?;
    let failed = |why: String| Status::unavailable(format!("dial tcp {address}: {why}"));
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(carry(stream, input)),
        Ok(Err(error)) => Err(failed(format!("connect: {error}"))),
        Err(_) => Err(failed("i/o timeout".to_owned())),
    }
}

/// Goes on with the connection: what comes in there becomes the answer's body.
fn carry(stream: TcpStream, input: Body) -> Response<Body> {
    let _ = stream.set_nodelay(true);
    let (sender, receiver) = mpsc::channel(8);
    let (read, write) = stream.into_split();
    tokio::spawn(outward(read, sender));
    tokio::spawn(inward(input, write));
    Response::new(streamed(receiver))
}

/// The pod's own localhost first, where it has one, as with Kubernetes; then its address.
async fn connect(ip: IpAddr, netns: Option<&Path>, port: u16) -> io::Result<TcpStream> {
    if let Some(path) = netns {
        let path = path.to_owned();
        let local = tokio::task::spawn_blocking(move || local(&path, port)).await;
        if let Ok(Ok(stream)) = local {
            stream.set_nonblocking(true)?;
            return TcpStream::from_std(stream);
        }
    }
    let connecting = TcpStream::connect(SocketAddr::new(ip, port));
    tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}

fn local(netns: &Path, port: u16) -> io::Result<std::net::TcpStream> {
    let netns = sys::netns::open(netns)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    // Connecting to a loopback address succeeds or fails at once.
    sys::netns::with(&netns, || std::net::TcpStream::connect(address))?
}

async fn outward(mut read: tokio::net::tcp::OwnedReadHalf, out: mpsc::Sender<Result<Bytes, BoxError>>) {
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let read = tokio::select! {
            read = read.read(&mut block) => read,
            () = out.closed() => return,
        };
        match read {
            Ok(0) => return,
            Ok(n) => {
                let bytes = Bytes::copy_from_slice(block.get(..n).unwrap_or_default());
                if out.send(Ok(bytes)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let _ = out.send(Err(error.into())).await;
                return;
            }
        }
    }
}

async fn inward(mut input: Body, mut write: tokio::net::tcp::OwnedWriteHalf) {
    while let Some(Ok(frame)) = input.frame().await {
        if let Ok(bytes) = frame.into_data()
            && write.write_all(&bytes).await.is_err()
        {
            return;
        }
    }
    let _ = write.shutdown().await;
}
