//! Where guests find our sockets.

use super::names;
use super::view::{HasSockets, PodView};
use wasmtime::component::{HasData, Linker};
use wasmtime_wasi::p2::bindings::sockets::{tcp, tcp_create_socket, udp, udp_create_socket};
use wasmtime_wasi::sockets::WasiSocketsCtxView;

/// Selects [`PodView`] in wasmtime's linker.
struct PodSockets;

impl HasData for PodSockets {
    type Data<'a> = PodView<'a>;
}

fn view<T: HasSockets>(state: &mut T) -> PodView<'_> {
    let (wasi, book) = state.parts();
    let inner = WasiSocketsCtxView {
        ctx: wasi.ctx.sockets(),
        table: wasi.table,
    };
    PodView { inner, book }
}

/// Puts our sockets in the place of wasmtime-wasi's, which must be there.
pub(crate) fn add_to_linker<T: HasSockets>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    tcp::add_to_linker::<T, PodSockets>(linker, view)?;
    tcp_create_socket::add_to_linker::<T, PodSockets>(linker, view)?;
    udp::add_to_linker::<T, PodSockets>(linker, view)?;
    udp_create_socket::add_to_linker::<T, PodSockets>(linker, view)?;
    names::add_to_linker(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}
