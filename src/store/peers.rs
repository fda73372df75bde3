//! The way to the other members: a connection to each for parcels, in which
//! they arrive in order or not at all (`peers/line.rs`), and one for each snapshot.
//!
//! Who is at the other end is certified below this (mutual TLS): callers hand
//! in streams and say whose they are. Here the group and the ids are checked,
//! and that every frame is whole.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::driver::{Input, Slot, Transport};
use crate::membership::{Peer, Whoami};
use crate::parcel::Parcel;
use crate::shipment::Shipment;
use crate::wire::{self, Greeting, Piece, Purpose};

mod door;
mod line;
mod stream;

pub use door::Door;
use line::Line;
pub use stream::{Dialer, Dialling, Stream};

/// So many callers that are not in the roster are remembered.
const MET_MAX: usize = 16;
/// Waits between attempts to reach a member: doubling, from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Longest that dialling, a write or the answer to a snapshot may take.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_INSTALLING: Duration = Duration::from_secs(120);
/// What the receiver of a snapshot answers when it is complete.
const COMPLETE: u8 = 1;

/// What every connection needs.
#[derive(Clone)]
struct Context {
    me: Whoami,
    /// Where the others find this member.
    here: Peer,
    dialer: Arc<dyn Dialer>,
    inputs: Slot,
    runtime: Handle,
}

/// See the module. The sending half, which the driver has.
pub struct Peers {
    context: Context,
    links: HashMap<u64, Link>,
    /// The members.
    roster: Vec<Peer>,
    /// Who has called, and may not be in the roster here: a new leader, or
    /// anybody as long as this member is about to join.
    met: HashMap<u64, Peer>,
}

struct Link {
    peer: Peer,
    line: Arc<Line>,
    task: JoinHandle<()>,
}

impl Peers {
    /// Sends for the member `me`, which is found at `here`, on the runtime given.
    pub fn new(me: Whoami, here: &Peer, dialer: Arc<dyn Dialer>, inputs: Slot, runtime: Handle) -> Peers {
        let here = Peer {
            id: me.member,
            ..here.clone()
        };
        Peers {
            context: Context {
                me,
                here,
                dialer,
                inputs,
                runtime,
            },
            links: HashMap::new(),
            roster: vec![],
            met: HashMap::new(),
        }
    }

    /// Gives everybody who is known a link, and nobody else.
    fn refresh(&mut self) {
        let me = self.context.me.member;
        let listed = |id: &u64| self.roster.iter().any(|peer| peer.id == *id);
        let met = self.met.values().filter(|peer| !listed(&peer.id));
        let known = self.roster.iter().chain(met).filter(|peer| peer.id != me);
        let known: Vec<Peer> = known.cloned().collect();
        self.links.retain(|_, link| {
            let kept = known.contains(&link.peer);
            if !kept {
                link.task.abort();
            }
            kept
        });
        for peer in known {
            if !self.links.contains_key(&peer.id) {
                let line = Arc::<Line>::default();
                let work = carry(self.context.clone(), peer.clone(), line.clone());
                let task = self.context.runtime.spawn(work);
                self.links.insert(peer.id, Link { peer, line, task });
            }
        }
    }
}

impl Transport for Peers {
    fn send(&mut self, to: u64, parcel: Parcel) {
        if self.links.get(&to).is_some_and(|link| !link.line.say(parcel)) {
            let _ = self.context.inputs.send(Input::Unreachable(to));
        }
    }

    fn ship(&mut self, shipment: Shipment) {
        let to = shipment.message.to;
        let context = self.context.clone();
        let Some(peer) = self.links.get(&to).map(|link| link.peer.clone()) else {
            let _ = context.inputs.send(Input::Shipped(to, false));
            return;
        };
        self.context.runtime.spawn(async move {
            let sent = send_snapshot(&context, &peer, shipment).await;
            if let Err(error) = &sent {
                warn!(member = peer.name, %error, "sending a snapshot failed");
            }
            let _ = context.inputs.send(Input::Shipped(to, sent.is_ok()));
        });
    }

    fn peers(&mut self, peers: &[Peer]) {
        self.roster = peers.to_vec();
        self.refresh();
    }

    fn meet(&mut self, peer: Peer) {
        if self.met.len() < MET_MAX || self.met.contains_key(&peer.id) {
            self.met.insert(peer.id, peer);
            self.refresh();
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.links.values().for_each(|link| link.task.abort());
    }
}

/// Keeps a connection to a member and sends what comes, for as long as it is one.
async fn carry(context: Context, peer: Peer, line: Arc<Line>) {
    let mut wait = RETRY.0;
    loop {
        // Dialled only when there is something to say.
        line.wanted().await;
        let error = match connect(&context, &peer, Purpose::Parcels).await {
            Ok(stream) => {
                wait = RETRY.0;
                line.open(stream);
                send_parcels(&line).await
            }
            Err(error) => error,
        };
        debug!(member = peer.name, address = peer.address, %error, "connection to another server ended");
        // What waited is lost: Raft says it again, and better.
        line.close();
        let _ = context.inputs.send(Input::Unreachable(peer.id));
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

async fn connect(context: &Context, peer: &Peer, purpose: Purpose) -> io::Result<Box<dyn Stream>> {
    let mut stream = timely(PATIENCE, context.dialer.dial(peer)).await?;
    let greeting = Greeting {
        purpose,
        cluster: context.me.cluster,
        from: context.me.member,
        to: peer.id,
    };
    let mut bytes = greeting.encode().to_vec();
    wire::put_frame(&mut bytes, |out| wire::put_hello(out, &context.here));
    timely(PATIENCE, stream.write_all(&bytes)).await?;
    Ok(stream)
}

/// Sends until that fails; returns why.
async fn send_parcels(line: &Line) -> io::Error {
    loop {
        if let Err(error) = timely(PATIENCE, line.push()).await {
            return error;
        }
        if line.is_done()
            && let Err(ended) = line.rest().await
        {
            return ended;
        }
    }
}

async fn send_snapshot(context: &Context, peer: &Peer, shipment: Shipment) -> io::Result<()> {
    let Shipment {
        message,
        meta,
        mut export,
    } = shipment;
    info!(member = peer.name, entry = meta.applied, "sending a snapshot");
    let mut stream = connect(context, peer, Purpose::Snapshot).await?;
    send_piece(&mut stream, &Piece::Head(Box::new(message), meta.encode().into())).await?;
    let mut count = 0;
    loop {
        let (portion, rest) = blocking(move || (export.next(), export)).await?;
        export = rest;
        let versions = portion.map_err(io::Error::other)?;
        if versions.is_empty() {
            break;
        }
        count += versions.len() as u64;
        send_piece(&mut stream, &Piece::Portion(versions)).await?;
    }
    send_piece(&mut stream, &Piece::End(count)).await?;
    match timely(PATIENCE_INSTALLING, stream.read_u8()).await? {
        COMPLETE => Ok(()),
        _ => Err(io::Error::other("it was refused")),
    }
}

async fn send_piece(stream: &mut Box<dyn Stream>, piece: &Piece) -> io::Result<()> {
    let mut buffer = vec![];
    wire::put_frame(&mut buffer, |out| wire::put_piece(out, piece));
    let written = async {
        stream.write_all(&buffer).await?;
        stream.flush().await
    };
    timely(PATIENCE, written).await
}

async fn timely<T>(patience: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(patience, what)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}
