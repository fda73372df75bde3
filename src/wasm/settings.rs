//! `wasi:config`: a guest's environment once more, for programs that ask for settings instead of variables. What
//! is in it the pod says, from ConfigMaps and Secrets as for any container.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

/// The interface is a proposal still; these are the names under which programs were made for it.
const INTERFACES: [&str; 2] = ["wasi:config/store@0.2.0-draft", "wasi:config/store@0.2.0-rc.1"];

/// Why a setting cannot be had. Never sent: settings are in memory.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

type Answer<T> = wasmtime::Result<(Result<T, Error>,)>;

/// A guest that has settings.
pub(crate) trait HasSettings: 'static {
    /// Names and values.
    fn settings(&self) -> &[(String, String)];
}

pub(crate) fn add_to_linker<T: HasSettings>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    for name in INTERFACES {
        let mut interface = linker.instance(name)?;
        interface.func_wrap("get", get)?;
        interface.func_wrap("get-all", get_all)?;
    }
    Ok(())
}

fn get<T: HasSettings>(store: StoreContextMut<'_, T>, (key,): (String,)) -> Answer<Option<String>> {
    let mut all = store.data().settings().iter();
    Ok((Ok(all
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value.clone())),))
}

fn get_all<T: HasSettings>(store: StoreContextMut<'_, T>, (): ()) -> Answer<Vec<(String, String)>> {
    Ok((Ok(store.data().settings().to_vec()),))
}
