//! `poll_oneoff` where one of the descriptors is a socket. Sockets are waited for here; clocks and files are
//! wasmtime-wasi's, which is asked about them in a memory of its own, at the same time.

use super::errno::Errno;
use super::memory::{Guest, Pointer, offset};
use super::table::{Ready, Table};
use std::pin::pin;
use std::task::{Context, Poll};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::wasi_snapshot_preview1 as library;
use wiggle::GuestMemory;

/// Sizes of `subscription` and `event`.
const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;

/// Most subscriptions of one call: each takes memory of the host's.
const SUBSCRIPTIONS_MAX: u32 = 16 * 1024;

/// `eventtype`.
const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;

type Event = [u8; EVENT_BYTES as usize];

/// What a module asked to be told of a socket.
struct Subscription {
    userdata: [u8; 8],
    kind: u8,
    awaited: Awaited,
}

enum Awaited {
    Socket(i32, Ready),
    /// There is no such thing to wait for: told at once.
    Nothing(Errno),
}

/// Whether one of the subscriptions is for a socket.
pub(super) fn concerns(
    guest: &Guest<'_>,
    table: &Table,
    list: Pointer,
    count: i32,
) -> wasmtime::Result<bool> {
    for number in 0..count as u32 {
        let at = offset(list, number, SUBSCRIPTION_BYTES)?;
        let [kind] = guest.read(offset(at, 1, 8)?)?;
        let fd = guest.u32(offset(at, 1, 16)?)? as i32;
        if kind != CLOCK && table.has(fd) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Waits until something has happened, and writes down what; how much that is.
pub(super) async fn poll(
    guest: &mut Guest<'_>,
    p1: &mut WasiP1Ctx,
    table: &mut Table,
    (list, events, count): (Pointer, Pointer, i32),
) -> wasmtime::Result<Result<u32, Errno>> {
    if count as u32 > SUBSCRIPTIONS_MAX {
        return Ok(Err(Errno::INVAL));
    }
    let (mut sockets, mut others) = (Vec::new(), Others::default());
    for number in 0..count as u32 {
        let at = offset(list, number, SUBSCRIPTION_BYTES)?;
        match subscription(guest, table, at)? {
            Some(socket) => sockets.push(socket),
            None => others.add(guest.read(at)?),
        }
    }
    let (mut told, answered) = {
        let mut others = pin!(others.happen(p1));
        std::future::poll_fn(|cx| {
            let told: Vec<Event> = sockets.iter().filter_map(|one| one.told(table, cx)).collect();
            match others.as_mut().poll(cx) {
                Poll::Ready(code) => Poll::Ready((told, Some(code))),
                Poll::Pending if told.is_empty() => Poll::Pending,
                Poll::Pending => Poll::Ready((told, None)),
            }
        })
        .await
    };
    match answered.transpose()? {
        None => {}
        Some(0) => told.extend(others.events()),
        Some(code) => return Ok(Err(Errno(code))),
    }
    for (number, event) in told.iter().enumerate() {
        guest.write(offset(events, number as u32, EVENT_BYTES)?, event)?;
    }
    Ok(Ok(told.len() as u32))
}

impl Subscription {
    fn told(&self, table: &mut Table, cx: &mut Context<'_>) -> Option<Event> {
        let polled = match self.awaited {
            Awaited::Socket(fd, what) => table.poll_ready(fd, what, cx),
            Awaited::Nothing(error) => Poll::Ready(Err(error)),
        };
        let Poll::Ready(result) = polled else {
            return None;
        };
        let mut event = Event::default();
        event[..8].copy_from_slice(&self.userdata);
        let error = result.err().map_or(0, |error| error.0 as u16);
        event[8..10].copy_from_slice(&error.to_le_bytes());
        event[10] = self.kind;
        // How much there is to read is not known before it is read.
        event[16] = u8::from(result.is_ok());
        Some(event)
    }
}

/// What is to be waited for here; None: somebody else does.
fn subscription(guest: &Guest<'_>, table: &Table, at: Pointer) -> wasmtime::Result<Option<Subscription>> {
    let userdata = guest.read(at)?;
    let [kind] = guest.read(offset(at, 1, 8)?)?;
    let fd = guest.u32(offset(at, 1, 16)?)? as i32;
    let awaited = match kind {
        FD_READ if table.has(fd) => Awaited::Socket(fd, Ready::ToRead),
        FD_WRITE if table.has(fd) => Awaited::Socket(fd, Ready::ToWrite),
        CLOCK | FD_READ | FD_WRITE => return Ok(None),
        _ => Awaited::Nothing(Errno::INVAL),
    };
    Ok(Some(Subscription {
        userdata,
        kind,
        awaited,
    }))
}

/// Subscriptions for clocks and files, and, once something has happened, what: subscriptions, room for as many events,
/// and how many events there are.
#[derive(Default)]
struct Others {
    memory: Vec<u8>,
    count: u32,
}

impl Others {
    fn add(&mut self, subscription: [u8; SUBSCRIPTION_BYTES as usize]) {
        self.memory.extend(subscription);
        self.count += 1;
    }

    fn events_at(&self) -> u32 {
        self.count * SUBSCRIPTION_BYTES
    }

    fn told_at(&self) -> u32 {
        self.events_at() + self.count * EVENT_BYTES
    }

    /// Waits until something has happened; wasmtime-wasi's own answer. It may be dropped before.
    async fn happen(&mut self, p1: &mut WasiP1Ctx) -> wasmtime::Result<i32> {
        if self.count == 0 {
            return std::future::pending().await;
        }
        let (events, told) = (self.events_at() as i32, self.told_at() as i32);
        self.memory.resize(told as usize + 4, 0);
        let mut memory = GuestMemory::Unshared(&mut self.memory);
        library::poll_oneoff(p1, &mut memory, 0, events, self.count as i32, told).await
    }

    fn events(&self) -> Vec<Event> {
        let at = |from: u32| self.memory.get(from as usize..).unwrap_or_default();
        let told = at(self.told_at())
            .first_chunk()
            .map_or(0, |told| u32::from_le_bytes(*told));
        let (events, _) = at(self.events_at()).as_chunks();
        events.iter().take(told as usize).copied().collect()
    }
}
