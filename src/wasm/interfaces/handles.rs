//! What a store has of other programs: an instance of each that it has called, and handles of their resources.

use super::provider::{Callee, Provider};
use super::types::{Function, Wanted};
use super::values::each_handle;
use crate::state::State;
use std::collections::HashMap;
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::{Resource, ResourceAny, ResourceDynamic, Type, Val};

/// What a store knows of the calls that it is part of.
#[derive(Default)]
pub(crate) struct Calls {
    /// Calls between programs that have led here.
    pub(super) depth: u32,
    /// Instances of other programs that this one has called, which go with it.
    partners: HashMap<String, Partner>,
    /// How many there have been.
    met: u64,
}

/// An instance of another program's that is this store's own for now.
struct Partner {
    number: u64,
    callee: Callee,
}

/// What stands in the store's table for a resource: where it is.
struct Handle {
    /// The partner in whose store it means something.
    partner: u64,
    resource: ResourceAny,
}

/// The instance that answers a call, if there is one already, and its number.
pub(super) struct Meeting {
    pub(super) number: u64,
    pub(super) callee: Option<Callee>,
}

impl Calls {
    /// The instance of that run of a program's. One of an earlier run is given up.
    pub(super) fn meet(&mut self, provider: &str, running: &Arc<Provider>) -> Meeting {
        match self.partners.remove(provider) {
            Some(partner) if partner.callee.is_of(running) => Meeting {
                number: partner.number,
                callee: Some(partner.callee),
            },
            _ => {
                self.met += 1;
                Meeting {
                    number: self.met,
                    callee: None,
                }
            }
        }
    }

    /// Keeps an instance for the next call.
    pub(super) fn keep(&mut self, provider: &str, number: u64, callee: Option<Callee>) {
        if let Some(callee) = callee {
            let partner = Partner { number, callee };
            self.partners.insert(provider.to_owned(), partner);
        }
    }

    /// The instance of that number, if it is still there.
    fn part(&mut self, provider: &str, number: u64) -> Option<Callee> {
        let is_it = self
            .partners
            .get(provider)
            .is_some_and(|partner| partner.number == number);
        let partner = is_it.then(|| self.partners.remove(provider)).flatten();
        partner.map(|partner| partner.callee)
    }
}

/// Turns the handles among a call's parameters into those of the provider's store. How many go over for good.
pub(super) fn give(
    store: &mut StoreContextMut<'_, State>,
    function: &Function,
    params: &mut [Val],
    partner: u64,
) -> wasmtime::Result<u64> {
    let mut given = 0;
    let mut act = |value: &mut ResourceAny, _: &Type| {
        let handle = value.try_into_resource_dynamic(&mut *store)?;
        let table = &mut store.data_mut().table;
        let (whose, resource) = if handle.owned() {
            given += 1;
            let handle = table.delete(Resource::<Handle>::new_own(handle.rep()))?;
            (handle.partner, handle.resource)
        } else {
            let handle = table.get(&Resource::<Handle>::new_borrow(handle.rep()))?;
            (handle.partner, handle.resource)
        };
        if whose != partner {
            return Err(wasmtime::Error::msg(
                "the resource was lost when the program that held it began again",
            ));
        }
        *value = resource;
        Ok(())
    };
    for (value, (_, kind)) in params.iter_mut().zip(function.kind.params()) {
        each_handle(value, &kind, &mut act)?;
    }
    Ok(given)
}

/// Turns the handles among what a call gave into handles of the caller's own.
pub(super) fn take(
    store: &mut StoreContextMut<'_, State>,
    wanted: &Wanted,
    function: &Function,
    results: &mut [Val],
    partner: u64,
) -> wasmtime::Result<()> {
    let mut act = |value: &mut ResourceAny, kind: &Type| {
        let number = match kind {
            Type::Own(kind) => wanted.number(kind),
            // Functions cannot give these.
            _ => None,
        };
        let number = number.ok_or_else(|| wasmtime::Error::msg("a handle of an unknown resource"))?;
        let handle = Handle {
            partner,
            resource: *value,
        };
        let full = |_| wasmtime::Error::msg("the caller has as many handles as it may have");
        let rep = store.data_mut().table.push(handle).map_err(full)?.rep();
        *value = ResourceDynamic::new_own(rep, number).try_into_resource_any(&mut *store)?;
        Ok(())
    };
    for (value, kind) in results.iter_mut().zip(function.kind.results()) {
        each_handle(value, &kind, &mut act)?;
    }
    Ok(())
}

/// A guest lets go of a handle: the resource, and the instance and its number where it is to be dropped. None: it went
/// with its instance.
pub(super) fn release(
    store: &mut StoreContextMut<'_, State>,
    provider: &str,
    rep: u32,
) -> wasmtime::Result<Option<(ResourceAny, u64, Callee)>> {
    let state = store.data_mut();
    let handle = state.table.delete(Resource::<Handle>::new_own(rep))?;
    let callee = state.calls.part(provider, handle.partner);
    Ok(callee.map(|callee| (handle.resource, handle.partner, callee)))
}
