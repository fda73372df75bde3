//! Handles of resources that another program of the pod has: what of them goes over in a call.

use super::exporter::Partner;
use super::types::{Function, Wanted};
use super::values::each_handle;
use crate::state::State;
use wasmtime::StoreContextMut;
use wasmtime::component::{Resource, ResourceAny, ResourceDynamic, Type, Val};

/// What stands in the store's table for a resource: where it is.
struct Handle {
    /// The partner in whose store it means something.
    partner: u64,
    resource: ResourceAny,
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
) -> wasmtime::Result<Option<(ResourceAny, u64, Partner)>> {
    let state = store.data_mut();
    let handle = state.table.delete(Resource::<Handle>::new_own(rep))?;
    let partner = state.calls.part(provider, handle.partner);
    Ok(partner.map(|partner| (handle.resource, handle.partner, partner)))
}
