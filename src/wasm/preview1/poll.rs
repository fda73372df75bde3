//! `poll_oneoff` where one of the descriptors is a socket.

use super::errno::Errno;
use super::memory::{Guest, Pointer, offset};
use super::table::{Ready, Table};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// Sizes of `subscription` and `event`.
const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;

/// Most subscriptions of one call: each takes memory of the host's.
const SUBSCRIPTIONS_MAX: u32 = 16 * 1024;

/// `eventtype`.
const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;

/// `subclockflags`.
const ABSOLUTE: u16 = 1;

/// What a module asked to be told.
struct Subscription {
    userdata: [u8; 8],
    kind: u8,
    awaited: Awaited,
}

enum Awaited {
    Time(Pin<Box<Sleep>>),
    Socket(i32, Ready),
    /// What cannot be awaited beside a socket: told at once.
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
    table: &mut Table,
    list: Pointer,
    events: Pointer,
    count: i32,
) -> wasmtime::Result<Result<u32, Errno>> {
    if count as u32 > SUBSCRIPTIONS_MAX {
        return Ok(Err(Errno::INVAL));
    }
    let mut wanted = Vec::new();
    for number in 0..count as u32 {
        wanted.push(subscription(
            guest,
            table,
            offset(list, number, SUBSCRIPTION_BYTES)?,
        )?);
    }
    let told = std::future::poll_fn(|cx| {
        let told: Vec<_> = wanted
            .iter_mut()
            .filter_map(|one| Some((one.userdata, one.kind, one.told(table, cx)?)))
            .collect();
        match told.is_empty() {
            true => Poll::Pending,
            false => Poll::Ready(told),
        }
    });
    let told = told.await;
    for (number, (userdata, kind, result)) in told.iter().enumerate() {
        let mut event = [0; EVENT_BYTES as usize];
        event[..8].copy_from_slice(userdata);
        let error = result.err().map_or(0, |error| error.0 as u16);
        event[8..10].copy_from_slice(&error.to_le_bytes());
        event[10] = *kind;
        // How much there is to read is not known before it is read.
        event[16] = u8::from(*kind != CLOCK && result.is_ok());
        guest.write(offset(events, number as u32, EVENT_BYTES)?, &event)?;
    }
    Ok(Ok(told.len() as u32))
}

impl Subscription {
    fn told(&mut self, table: &mut Table, cx: &mut Context<'_>) -> Option<Result<(), Errno>> {
        let polled = match &mut self.awaited {
            Awaited::Time(end) => end.as_mut().poll(cx).map(Ok),
            Awaited::Socket(fd, what) => table.poll_ready(*fd, *what, cx),
            Awaited::Nothing(error) => Poll::Ready(Err(*error)),
        };
        match polled {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }
}

fn subscription(guest: &Guest<'_>, table: &Table, at: Pointer) -> wasmtime::Result<Subscription> {
    let userdata = guest.read(at)?;
    let [kind] = guest.read(offset(at, 1, 8)?)?;
    let fd = guest.u32(offset(at, 1, 16)?)? as i32;
    let awaited = match kind {
        CLOCK => {
            let nanoseconds = u64::from_le_bytes(guest.read(offset(at, 1, 24)?)?);
            let flags = u16::from_le_bytes(guest.read(offset(at, 1, 40)?)?);
            match flags & ABSOLUTE {
                0 => Awaited::Time(Box::pin(tokio::time::sleep(Duration::from_nanos(nanoseconds)))),
                _ => Awaited::Nothing(Errno::NOTSUP),
            }
        }
        FD_READ if table.has(fd) => Awaited::Socket(fd, Ready::ToRead),
        FD_WRITE if table.has(fd) => Awaited::Socket(fd, Ready::ToWrite),
        FD_READ | FD_WRITE => Awaited::Nothing(Errno::NOTSUP),
        _ => Awaited::Nothing(Errno::INVAL),
    };
    Ok(Subscription {
        userdata,
        kind,
        awaited,
    })
}
