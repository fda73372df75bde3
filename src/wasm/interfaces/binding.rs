//! The caller's side: which program provides an import, and how a call gets there.

use super::provider::Call;
use super::registry::Member;
use super::types::Wanted;
use super::values::weight;
use crate::state::State;
use crate::{Network, WasmError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wasmtime::component::{Linker, Val};
use wasmtime::{Engine, StoreContextMut};

/// How long a call waits for a program that is not there: it may be beginning, or beginning again.
const CALL_PATIENCE: Duration = Duration::from_secs(10);

/// Most calls that lead from one program to the next: two that call each other would go on for ever.
const DEPTH_MAX: u32 = 16;

/// An import, and who provides it.
pub(crate) struct Binding {
    wanted: Arc<Wanted>,
    /// The provider's name.
    provider: String,
    /// The program with which the import was found to fit.
    digest: String,
    network: Arc<dyn Network>,
}

/// Finds a provider for each import. None: one of them has none.
///
/// # Errors
/// When there are several and none was chosen, or the one does not fit.
pub(crate) async fn bindings(
    engine: &Engine,
    wanted: &[Arc<Wanted>],
    member: &Member,
) -> Result<Option<Vec<Arc<Binding>>>, WasmError> {
    let others = member.others().await;
    let mut found = Vec::new();
    for wanted in wanted {
        let name = &wanted.name;
        let fitting = others.iter().filter_map(|(provider, program)| {
            Some((provider, program, wanted.fits(engine, program.component()?)?))
        });
        let fitting: Vec<_> = fitting.collect();
        let names: Vec<&str> = fitting.iter().map(|(provider, _, _)| provider.as_str()).collect();
        let Some(number) = choose(name, &names, member.chosen(name))? else {
            return Ok(None);
        };
        let Some((provider, program, fits)) = fitting.into_iter().nth(number) else {
            return Ok(None);
        };
        fits.map_err(|why| {
            WasmError::Unsupported(format!(
                "{:?} imports {name}, which {provider:?} exports, but cannot be given it: {why}",
                member.name()
            ))
        })?;
        found.push(Arc::new(Binding {
            wanted: wanted.clone(),
            provider: provider.clone(),
            digest: program.digest().to_owned(),
            network: member.network.clone(),
        }));
    }
    Ok(Some(found))
}

/// Which of the programs that export an interface provides it.
fn choose(interface: &str, programs: &[&str], chosen: Option<&str>) -> Result<Option<usize>, WasmError> {
    match (chosen, programs) {
        (Some(chosen), _) => match programs.iter().position(|name| *name == chosen) {
            Some(number) => Ok(Some(number)),
            None => Err(WasmError::Unsupported(format!(
                "{chosen:?} was chosen to provide {interface}, which it does not export"
            ))),
        },
        (None, []) => Ok(None),
        (None, [_]) => Ok(Some(0)),
        (None, several) => Err(WasmError::Ambiguous {
            interface: interface.to_owned(),
            programs: several.iter().map(|name| (*name).to_owned()).collect(),
        }),
    }
}

impl Binding {
    /// Puts the provider's functions where the importing component looks for them.
    pub(crate) fn link(self: &Arc<Self>, linker: &mut Linker<State>) -> wasmtime::Result<()> {
        let mut instance = linker.instance(&self.wanted.name)?;
        for (function, _) in &self.wanted.functions {
            let (binding, name) = (self.clone(), Arc::<str>::from(function.as_str()));
            instance.func_new_async(function, move |store, _, params, results| {
                let (binding, name) = (binding.clone(), name.clone());
                Box::new(async move { binding.call(store, &name, params, results).await })
            })?;
        }
        Ok(())
    }

    async fn call(
        &self,
        mut store: StoreContextMut<'_, State>,
        function: &str,
        params: &[Val],
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        let (interface, provider) = (&self.wanted.name, &self.provider);
        let failed = |why: String| {
            let text = format!("{interface}#{function}, which {provider:?} provides, failed: {why}");
            wasmtime::Error::msg(text)
        };
        let depth = store.data().calls.depth + 1;
        if depth > DEPTH_MAX {
            let text = format!("calls from one program to the next lead through more than {DEPTH_MAX}");
            return Err(failed(text));
        }
        // Values on their way are memory of whoever sends them.
        let _held = store.data().account.hold(weight(params))?;
        let until = Instant::now() + CALL_PATIENCE;
        let running = match self.network.interfaces() {
            Some(interfaces) => interfaces.running(provider, until).await,
            None => None,
        };
        let running = running.ok_or_else(|| failed("it does not run".to_owned()))?;
        // It may have begun again with another program.
        if *running.digest() != self.digest {
            running.fits(&self.wanted).map_err(failed)?;
        }
        let partner = store.data_mut().calls.partners.remove(provider);
        let partner = partner.filter(|partner| partner.is_of(&running));
        let call = Call {
            interface: interface.clone(),
            function: function.to_owned(),
            params: params.to_vec(),
            results: results.len(),
            depth,
        };
        let answer = running.call(partner, call).await.map_err(failed)?;
        for (place, value) in results.iter_mut().zip(answer.values) {
            *place = value;
        }
        if let Some(partner) = answer.partner {
            store.data_mut().calls.partners.insert(provider.clone(), partner);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_provider_is_found_and_several_are_chosen_from() {
        let chosen = |programs: &[&str], chosen: Option<&str>| choose("a:b/c", programs, chosen);
        assert_eq!(chosen(&[], None).unwrap(), None);
        assert_eq!(chosen(&["x"], None).unwrap(), Some(0));
        assert_eq!(chosen(&["x", "y"], Some("y")).unwrap(), Some(1));
        let error = chosen(&["x", "y"], None).unwrap_err().to_string();
        assert!(
            error.contains("a:b/c") && error.contains(r#""x", "y""#),
            "{error}"
        );
        let error = chosen(&["x"], Some("z")).unwrap_err().to_string();
        assert!(error.contains(r#""z" was chosen"#), "{error}");
    }
}
