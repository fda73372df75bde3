//! `wasi:sockets/ip-name-lookup` over the embedder's resolver. wasmtime-wasi's
//! own resource cannot be made from outside, so the whole interface is ours.

use super::view::HasSockets;
use crate::network::ResolveError;
use futures_util::FutureExt;
use std::net::IpAddr;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};

/// As wasmtime-wasi names it, so that it is replaced; other 0.2 versions that a
/// guest asks for lead here too.
const INTERFACE: &str = "wasi:sockets/ip-name-lookup@0.2.12";

/// Longest name in the domain name system, as text.
const NAME_BYTES_MAX: usize = 253;

/// A lookup on its way, then the addresses not yet handed out.
enum Lookup {
    Pending(AbortOnDropJoinHandle<Result<Vec<IpAddr>, ResolveError>>),
    Done(Result<std::vec::IntoIter<IpAddr>, ErrorCode>),
}

#[async_trait::async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        if let Lookup::Pending(handle) = self {
            let result = handle.await.map(Vec::into_iter).map_err(code);
            *self = Lookup::Done(result);
        }
    }
}

fn code(error: ResolveError) -> ErrorCode {
    match error {
        ResolveError::NotFound => ErrorCode::NameUnresolvable,
        ResolveError::Temporary(_) => ErrorCode::TemporaryResolverFailure,
    }
}

pub(super) fn add_to_linker<T: HasSockets>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(INTERFACE)?;
    interface.resource(
        "resolve-address-stream",
        ResourceType::host::<Lookup>(),
        |mut store, rep| {
            store
                .data_mut()
                .parts()
                .0
                .table
                .delete(Resource::<Lookup>::new_own(rep))?;
            Ok(())
        },
    )?;
    interface.func_wrap("resolve-addresses", resolve)?;
    interface.func_wrap("[method]resolve-address-stream.resolve-next-address", next)?;
    interface.func_wrap("[method]resolve-address-stream.subscribe", wait)?;
    Ok(())
}

type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

fn resolve<T: HasSockets>(
    mut store: StoreContextMut<'_, T>,
    (network, name): (Resource<Network>, String),
) -> Answer<Resource<Lookup>> {
    let (wasi, book) = store.data_mut().parts();
    wasi.table.get(&network)?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Ok((Err(ErrorCode::InvalidArgument),));
    }
    let Some(lookup) = book.sockets.look_up(name) else {
        return Ok((Err(ErrorCode::AccessDenied),));
    };
    let lookup = Lookup::Pending(spawn(lookup));
    Ok((Ok(wasi.table.push(lookup)?),))
}

fn next<T: HasSockets>(
    mut store: StoreContextMut<'_, T>,
    (lookup,): (Resource<Lookup>,),
) -> Answer<Option<IpAddress>> {
    let lookup = store.data_mut().parts().0.table.get_mut(&lookup)?;
    // For guests that ask again and again instead of waiting.
    lookup.ready().now_or_never();
    Ok((match lookup {
        Lookup::Pending(_) => Err(ErrorCode::WouldBlock),
        Lookup::Done(Ok(addresses)) => Ok(addresses.next().map(IpAddress::from)),
        Lookup::Done(Err(code)) => Err(*code),
    },))
}

fn wait<T: HasSockets>(
    mut store: StoreContextMut<'_, T>,
    (lookup,): (Resource<Lookup>,),
) -> wasmtime::Result<(Resource<DynPollable>,)> {
    Ok((subscribe(store.data_mut().parts().0.table, lookup)?,))
}
