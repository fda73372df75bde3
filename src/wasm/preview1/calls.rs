//! The functions of preview 1 that concern sockets.

use super::errno::{Errno, code};
use super::memory::{Guest, Pointer};
use super::table::{Stat, Table};
use super::{WASI, poll};
use crate::state::ModuleState;
use std::net::Shutdown;
use wasmtime::{AsContextMut, Caller, Extern, Linker, Memory};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as library, WasiSnapshotPreview1};
use wiggle::GuestMemory;

/// `fdflags`.
const NONBLOCK: i32 = 4;
/// `filetype`.
const SOCKET_STREAM: u8 = 6;
/// `sdflags`.
const SHUT_READ: i32 = 1;
const SHUT_WRITE: i32 = 2;
/// `riflags`.
const RECV_PEEK: i32 = 1;
/// `preopentype` of what is no folder. C libraries and Go look for folders from
/// descriptor 3 on, pass over other types, and stop where there is nothing.
const NO_FOLDER: u8 = 1;

/// `rights` to look at flags, set these and poll; and those of the two sorts of sockets besides.
const RIGHTS_ANY: u64 = 1 << 3 | 1 << 21 | 1 << 27;
const RIGHTS_LISTENER: u64 = RIGHTS_ANY | 1 << 29;
const RIGHTS_CONNECTION: u64 = RIGHTS_ANY | 1 << 1 | 1 << 6 | 1 << 28;

type Call<'a> = Caller<'a, ModuleState>;
type Code = wasmtime::Result<i32>;

/// Puts our functions in front of wasmtime-wasi's, which must be there.
pub(crate) fn add_to_linker(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    macro_rules! add {
        ($function:ident($($argument:ident),*)) => {
            linker.func_wrap_async(
                WASI,
                stringify!($function),
                |call: Call<'_>, ($($argument,)*): ($(add!(@type $argument),)*)| {
                    Box::new($function(call, $($argument),*))
                },
            )?;
        };
        (@type $argument:ident) => { i32 };
    }
    add!(sock_accept(fd, flags, out));
    add!(sock_recv(fd, list, count, flags, length, told));
    add!(sock_send(fd, list, count, flags, out));
    add!(sock_shutdown(fd, how));
    add!(fd_read(fd, list, count, out));
    add!(fd_write(fd, list, count, out));
    add!(fd_close(fd));
    add!(fd_fdstat_get(fd, out));
    add!(fd_fdstat_set_flags(fd, flags));
    add!(fd_filestat_get(fd, out));
    add!(fd_prestat_get(fd, out));
    add!(poll_oneoff(list, events, count, out));
    linker.allow_shadowing(false);
    Ok(())
}

/// The same function of wasmtime-wasi.
macro_rules! pass_on {
    ($call:ident, $function:ident($($argument:expr),*) $($wait:tt)*) => {{
        let memory = memory(&mut $call)?;
        let fuel = $call.as_context_mut().hostcall_fuel();
        let (bytes, state) = memory.data_and_store_mut(&mut $call);
        state.p1.set_hostcall_fuel(fuel);
        library::$function(&mut state.p1, &mut GuestMemory::Unshared(bytes), $($argument),*) $($wait)*
    }};
}

fn memory(call: &mut Call<'_>) -> wasmtime::Result<Memory> {
    let export = call.get_export("memory").and_then(Extern::into_memory);
    export.ok_or_else(|| wasmtime::Error::msg("the module exports no memory"))
}

fn parts<'a>(call: &'a mut Call<'_>) -> wasmtime::Result<(Guest<'a>, &'a mut Table)> {
    let memory = memory(call)?;
    let (bytes, state) = memory.data_and_store_mut(call);
    Ok((Guest(bytes), &mut state.sockets))
}

fn is_socket(call: &Call<'_>, fd: i32) -> bool {
    call.data().sockets.has(fd)
}

/// Writes a result where the module wants it.
fn answer(guest: &mut Guest<'_>, out: Pointer, result: Result<u32, Errno>) -> Code {
    if let Ok(value) = result {
        guest.write(out, &value.to_le_bytes())?;
    }
    Ok(code(result.map(drop)))
}

async fn sock_accept(mut call: Call<'_>, fd: i32, flags: i32, out: Pointer) -> Code {
    if !is_socket(&call, fd) {
        return pass_on!(call, sock_accept(fd, flags, out));
    }
    let (mut guest, table) = parts(&mut call)?;
    let accepted = table.accept(fd, flags & NONBLOCK != 0).await;
    answer(&mut guest, out, accepted)
}

async fn sock_recv(
    mut call: Call<'_>,
    fd: i32,
    list: Pointer,
    count: i32,
    flags: i32,
    length: Pointer,
    told: Pointer,
) -> Code {
    if !is_socket(&call, fd) {
        return pass_on!(call, sock_recv(fd, list, count, flags, length, told));
    }
    let (mut guest, table) = parts(&mut call)?;
    let buffer = guest.first_buffer(list, count)?;
    let read = match flags & RECV_PEEK {
        0 => table.read(fd, buffer).await,
        _ => table.peek(fd, buffer).await,
    };
    guest.write(told, &[0; 2])?;
    answer(&mut guest, length, read.map(|length| length as u32))
}

async fn sock_send(mut call: Call<'_>, fd: i32, list: Pointer, count: i32, flags: i32, out: Pointer) -> Code {
    if !is_socket(&call, fd) {
        return pass_on!(call, sock_send(fd, list, count, flags, out));
    }
    send(call, fd, list, count, out).await
}

async fn fd_read(mut call: Call<'_>, fd: i32, list: Pointer, count: i32, out: Pointer) -> Code {
    if !is_socket(&call, fd) {
        return pass_on!(call, fd_read(fd, list, count, out).await);
    }
    let (mut guest, table) = parts(&mut call)?;
    let read = table.read(fd, guest.first_buffer(list, count)?).await;
    answer(&mut guest, out, read.map(|length| length as u32))
}

async fn fd_write(mut call: Call<'_>, fd: i32, list: Pointer, count: i32, out: Pointer) -> Code {
    if !is_socket(&call, fd) {
        return pass_on!(call, fd_write(fd, list, count, out).await);
    }
    send(call, fd, list, count, out).await
}

async fn send(mut call: Call<'_>, fd: i32, list: Pointer, count: i32, out: Pointer) -> Code {
    let (mut guest, table) = parts(&mut call)?;
    let written = table.write(fd, guest.first_buffer(list, count)?).await;
    answer(&mut guest, out, written.map(|length| length as u32))
}

async fn sock_shutdown(mut call: Call<'_>, fd: i32, how: i32) -> Code {
    if !is_socket(&call, fd) {
        return pass_on!(call, sock_shutdown(fd, how));
    }
    let how = match (how & SHUT_READ != 0, how & SHUT_WRITE != 0) {
        (true, true) => Shutdown::Both,
        (true, false) => Shutdown::Read,
        (false, true) => Shutdown::Write,
        (false, false) => return Ok(code(Err(Errno::INVAL))),
    };
    Ok(code(call.data_mut().sockets.shutdown(fd, how)))
}

async fn fd_close(mut call: Call<'_>, fd: i32) -> Code {
    let has_place = match is_socket(&call, fd) {
        true => call.data_mut().sockets.close(fd),
        false => true,
    };
    match has_place {
        // The folder in a listening socket's place goes as well.
        true => pass_on!(call, fd_close(fd).await),
        false => Ok(0),
    }
}

async fn fd_fdstat_get(mut call: Call<'_>, fd: i32, out: Pointer) -> Code {
    let Ok(stat) = call.data_mut().sockets.stat(fd) else {
        return pass_on!(call, fd_fdstat_get(fd, out).await);
    };
    parts(&mut call)?.0.write(out, &fdstat(stat))?;
    Ok(0)
}

fn fdstat(stat: Stat) -> [u8; 24] {
    let (rights, inheriting) = match stat.is_listener {
        true => (RIGHTS_LISTENER, RIGHTS_CONNECTION),
        false => (RIGHTS_CONNECTION, 0),
    };
    let mut bytes = [0; 24];
    bytes[0] = SOCKET_STREAM;
    bytes[2] = if stat.is_nonblocking { NONBLOCK as u8 } else { 0 };
    bytes[8..16].copy_from_slice(&rights.to_le_bytes());
    bytes[16..].copy_from_slice(&inheriting.to_le_bytes());
    bytes
}

async fn fd_fdstat_set_flags(mut call: Call<'_>, fd: i32, flags: i32) -> Code {
    if !is_socket(&call, fd) {
        return pass_on!(call, fd_fdstat_set_flags(fd, flags));
    }
    let set = call.data_mut().sockets.set_nonblocking(fd, flags & NONBLOCK != 0);
    Ok(code(set))
}

async fn fd_filestat_get(mut call: Call<'_>, fd: i32, out: Pointer) -> Code {
    if !is_socket(&call, fd) {
        return pass_on!(call, fd_filestat_get(fd, out).await);
    }
    let mut bytes = [0; 64];
    bytes[16] = SOCKET_STREAM;
    parts(&mut call)?.0.write(out, &bytes)?;
    Ok(0)
}

async fn fd_prestat_get(mut call: Call<'_>, fd: i32, out: Pointer) -> Code {
    if !call
        .data_mut()
        .sockets
        .stat(fd)
        .is_ok_and(|stat| stat.is_listener)
    {
        return pass_on!(call, fd_prestat_get(fd, out));
    }
    let bytes = [NO_FOLDER, 0, 0, 0, 0, 0, 0, 0];
    parts(&mut call)?.0.write(out, &bytes)?;
    Ok(0)
}

async fn poll_oneoff(mut call: Call<'_>, list: Pointer, events: Pointer, count: i32, out: Pointer) -> Code {
    let (guest, table) = parts(&mut call)?;
    if !poll::concerns(&guest, table, list, count)? {
        return pass_on!(call, poll_oneoff(list, events, count, out).await);
    }
    let memory = memory(&mut call)?;
    let fuel = call.as_context_mut().hostcall_fuel();
    let (bytes, state) = memory.data_and_store_mut(&mut call);
    state.p1.set_hostcall_fuel(fuel);
    let mut guest = Guest(bytes);
    let asked = (list, events, count);
    let told = poll::poll(&mut guest, &mut state.p1, &mut state.sockets, asked).await?;
    answer(&mut guest, out, told)
}
