//! The receiving half: takes in connections from other members.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Semaphore;

use super::{COMPLETE, PATIENCE, PATIENCE_INSTALLING, Stream, blocking, timely};
use crate::codec::Malformed;
use crate::driver::{Input, Slot};
use crate::history::History;
use crate::membership::Whoami;
use crate::shipment::Arrival;
use crate::state::Meta;
use crate::wire::{self, Greeting, Piece, Purpose};

/// Bytes read in one go: one reading for a message, or for several.
const READ_BYTES: usize = 64 << 10;
/// Memory set aside for a frame before its bytes come.
const EXPECTED_BYTES: usize = 1 << 20;

/// The receiving half: takes in connections from other members.
#[derive(Clone)]
pub struct Door {
    me: Whoami,
    inputs: Slot,
    /// The way to the state, as long as the store is open.
    state: History,
    /// Held while a snapshot is taken in: there is room for one at a time.
    taking: Arc<Semaphore>,
}

impl Door {
    /// A door to the member `me`, whose state takes in snapshots.
    pub fn new(me: Whoami, inputs: Slot, state: History) -> Door {
        let taking = Arc::new(Semaphore::new(1));
        Door {
            me,
            inputs,
            state,
            taking,
        }
    }

    /// Serves a connection from the member `from`, which is certain, until it
    /// ends. The error says why it was not served any longer.
    pub async fn serve(&self, from: u64, stream: Box<dyn Stream>) -> io::Result<()> {
        let mut stream: Box<dyn Stream> = Box::new(BufReader::with_capacity(READ_BYTES, stream));
        let mut greeting = [0; wire::GREETING_BYTES];
        timely(PATIENCE, stream.read_exact(&mut greeting)).await?;
        let greeting = Greeting::decode(&greeting).map_err(io::Error::other)?;
        self.check(from, &greeting).map_err(io::Error::other)?;
        let body = timely(PATIENCE, read_frame(&mut stream)).await?;
        let peer = wire::hello(body).map_err(invalid)?;
        if peer.id == from && !peer.address.is_empty() {
            let _ = self.inputs.send(Input::Met(peer));
        }
        match greeting.purpose {
            Purpose::Parcels => {
                let ended = self.take_parcels(from, stream).await;
                let _ = self.inputs.send(Input::HungUp(from));
                ended
            }
            Purpose::Snapshot => self.take_snapshot(from, stream).await,
        }
    }

    fn check(&self, from: u64, greeting: &Greeting) -> Result<(), String> {
        let Whoami { cluster, member } = self.me;
        match greeting {
            greeting if greeting.cluster != cluster => Err(format!(
                "it belongs to cluster {:x}, this server to {cluster:x}",
                greeting.cluster
            )),
            greeting if greeting.to != member => {
                Err(format!("it wants member {:x}, this is {member:x}", greeting.to))
            }
            greeting if greeting.from != from => Err(format!(
                "it says that it is member {:x}, but its certificate is that of {from:x}",
                greeting.from
            )),
            _ => Ok(()),
        }
    }

    async fn take_parcels(&self, from: u64, mut stream: Box<dyn Stream>) -> io::Result<()> {
        loop {
            let parcel = wire::parcel(read_frame(&mut stream).await?).map_err(invalid)?;
            if self.inputs.send(Input::Parcel(from, parcel)).is_err() {
                return Ok(());
            }
        }
    }

    async fn take_snapshot(&self, from: u64, mut stream: Box<dyn Stream>) -> io::Result<()> {
        let Piece::Head(message, meta) = read_piece(&mut stream).await? else {
            return Err(invalid(Malformed("a snapshot does not begin with its head")));
        };
        let meta = Meta::decode(meta).map_err(io::Error::other)?;
        let fits = (message.from, message.to) == (from, self.me.member) && meta.cluster == self.me.cluster;
        if !fits {
            return Err(invalid(Malformed(
                "a snapshot is of another group, or for another member",
            )));
        }
        let Ok(taking) = self.taking.clone().try_acquire_owned() else {
            return Err(io::Error::other("another snapshot is being taken in"));
        };
        let state = self.state.clone();
        let mut import = blocking(move || state.import())
            .await?
            .map_err(io::Error::other)?;
        let (mut count, compacted) = (0, meta.compacted);
        loop {
            match read_piece(&mut stream).await? {
                Piece::Portion(versions) => {
                    count += versions.len() as u64;
                    import = blocking(move || import.add(versions, compacted).map(|()| import))
                        .await?
                        .map_err(io::Error::other)?;
                }
                Piece::End(sent) if sent == count => break,
                _ => return Err(invalid(Malformed("a snapshot is not complete"))),
            }
        }
        let install = blocking(move || import.finish())
            .await?
            .map_err(io::Error::other)?;
        let arrival = Arrival {
            message: *message,
            meta,
            // Whether it is installed or refused: only then there is room for the next.
            install: Box::new(move |meta| {
                let installed = install(meta);
                drop(taking);
                installed
            }),
        };
        let _ = self.inputs.send(Input::Arrival(Box::new(arrival)));
        stream.write_u8(COMPLETE).await?;
        stream.flush().await
    }
}

async fn read_frame(stream: &mut Box<dyn Stream>) -> io::Result<Bytes> {
    let mut header = [0; wire::FRAME_HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    let (length, crc) = wire::frame_header(header).map_err(invalid)?;
    // Grows as the bytes come: a length alone takes no memory.
    let mut body = Vec::with_capacity(length.min(EXPECTED_BYTES));
    let read = timely(
        PATIENCE_INSTALLING,
        (&mut *stream).take(length as u64).read_to_end(&mut body),
    )
    .await?;
    if read < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    wire::check_body(&body, crc).map_err(invalid)?;
    Ok(body.into())
}

async fn read_piece(stream: &mut Box<dyn Stream>) -> io::Result<Piece> {
    let body = timely(PATIENCE_INSTALLING, read_frame(stream)).await?;
    wire::piece(body).map_err(invalid)
}

fn invalid(error: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.0)
}
