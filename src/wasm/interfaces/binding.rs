//! The caller's side: which program provides an import, and how a call gets there.

use super::exporter::{Call, Exporter, Work};
use super::handles::{give, release, take};
use super::member::Member;
use super::membership::Absent;
use super::registry::Others;
use super::types::{Function, Wanted};
use super::values::weight;
use crate::engine::Base;
use crate::state::State;
use crate::{Network, Program, WasmError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wasmtime::component::{Linker, ResourceType, Val};
use wasmtime::{Engine, StoreContextMut};

/// How long a call waits for a program that is not there: it may be beginning, or beginning again.
const CALL_PATIENCE: Duration = Duration::from_secs(10);

/// Most calls that lead from one program to the next: two that call each other would go on for ever.
const DEPTH_MAX: u32 = 16;

/// An import, and who provides it.
struct Binding {
    wanted: Arc<Wanted>,
    /// The provider's name.
    provider: String,
    /// The program with which the import was found to fit.
    digest: String,
    network: Arc<dyn Network>,
}

/// The program with what it imports of the other programs of its pod.
///
/// # Errors
/// When that is not to be had.
pub(crate) async fn bound(
    program: &Program,
    base: &Base,
    member: Option<&Member>,
) -> Result<Program, WasmError> {
    let Some(unbound) = program.unbound() else {
        return Ok(program.clone());
    };
    let found = match member {
        Some(member) => bindings(&base.engine, &unbound.wanted, member).await?,
        None => None,
    };
    let found = found.ok_or_else(|| WasmError::Unsupported(unbound.refusal.clone()))?;
    program.bound(base, unbound, |linker| {
        found.iter().try_for_each(|binding| binding.link(linker))
    })
}

/// Finds a provider for each import. None: one of them has none, and nobody is expected who could be it.
///
/// # Errors
/// When there are several and none was chosen, or the one does not fit, or whoever it may be cannot be started.
async fn bindings(
    engine: &Engine,
    wanted: &[Arc<Wanted>],
    member: &Member,
) -> Result<Option<Vec<Arc<Binding>>>, WasmError> {
    let Others { programs, absent } = member.others().await;
    let mut found = Vec::new();
    for wanted in wanted {
        let name = &wanted.name;
        let fitting = programs.iter().filter_map(|(provider, program)| {
            let component = program.component.as_ref()?;
            Some((provider, program, wanted.fits(engine, component)?))
        });
        let fitting: Vec<_> = fitting.collect();
        let names: Vec<&str> = fitting.iter().map(|(provider, _, _)| provider.as_str()).collect();
        let number = choose(name, &names, member.chosen(name), &absent)?;
        let Some((provider, program, fits)) = number.and_then(|number| fitting.into_iter().nth(number))
        else {
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
            digest: program.digest.clone(),
            network: member.network.clone(),
        }));
    }
    check_resources(&found)?;
    Ok(Some(found))
}

/// Which of the programs that export an interface provides it.
fn choose(
    interface: &str,
    programs: &[&str],
    chosen: Option<&str>,
    absent: &[Absent],
) -> Result<Option<usize>, WasmError> {
    let unprovided = |absent: Vec<Absent>| WasmError::Unprovided {
        interface: interface.to_owned(),
        absent,
    };
    match (chosen, programs) {
        (Some(chosen), _) => match programs.iter().position(|name| *name == chosen) {
            Some(number) => Ok(Some(number)),
            None => Err(match absent.iter().find(|absent| absent.name == chosen) {
                Some(absent) => unprovided(vec![absent.clone()]),
                None => WasmError::Unsupported(format!(
                    "{chosen:?} was chosen to provide {interface}, which it does not export"
                )),
            }),
        },
        (None, []) if !absent.is_empty() => Err(unprovided(absent.to_vec())),
        (None, []) => Ok(None),
        (None, [_]) => Ok(Some(0)),
        (None, several) => Err(WasmError::Ambiguous {
            interface: interface.to_owned(),
            programs: several.iter().map(|name| (*name).to_owned()).collect(),
        }),
    }
}

/// Refuses interfaces that share a resource and have several providers: the handles of one mean nothing to the other.
fn check_resources(bindings: &[Arc<Binding>]) -> Result<(), WasmError> {
    for (place, one) in bindings.iter().enumerate() {
        for other in bindings
            .iter()
            .skip(place + 1)
            .filter(|other| other.provider != one.provider)
        {
            let shared = one.wanted.resources.iter().find(|resource| {
                let mut others = other.wanted.resources.iter();
                others.any(|other| other.number == resource.number)
            });
            if let Some(resource) = shared {
                return Err(WasmError::Unsupported(format!(
                    "{} and {} share the resource `{}`, and so have to be one program's: {:?} provides the one, {:?} \
                     the other",
                    one.wanted.name, other.wanted.name, resource.name, one.provider, other.provider
                )));
            }
        }
    }
    Ok(())
}

impl Binding {
    /// Puts the provider's functions and resources where the importing component looks for them.
    fn link(self: &Arc<Self>, linker: &mut Linker<State>) -> wasmtime::Result<()> {
        let mut instance = linker.instance(&self.wanted.name)?;
        for resource in &self.wanted.resources {
            let (binding, name) = (self.clone(), Arc::<str>::from(resource.name.as_str()));
            let kind = ResourceType::host_dynamic(resource.number);
            instance.resource_async(&resource.name, kind, move |store, rep| {
                let (binding, name) = (binding.clone(), name.clone());
                Box::new(async move { binding.drop_resource(store, &name, rep).await })
            })?;
        }
        for function in &self.wanted.functions {
            let (binding, called) = (self.clone(), function.clone());
            instance.func_new_async(&function.name, move |store, _, params, results| {
                let (binding, called) = (binding.clone(), called.clone());
                Box::new(async move { binding.call(store, &called, params, results).await })
            })?;
        }
        Ok(())
    }

    async fn call(
        &self,
        mut store: StoreContextMut<'_, State>,
        function: &Function,
        params: &[Val],
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        let failed = |why: String| self.failed(&function.name, &why);
        let depth = depth(&store).map_err(failed)?;
        // Values on their way are memory of whoever sends them.
        let _held = store.data().account.hold(weight(params))?;
        let running = self.running().await.map_err(failed)?;
        let meeting = store.data_mut().calls.meet(&self.provider, &running);
        let (mut params, mut given) = (params.to_vec(), 0);
        if function.has_handles {
            given = give(&mut store, function, &mut params, meeting.number)
                .map_err(|error| failed(error.to_string()))?;
        }
        let call = Call {
            interface: self.wanted.name.clone(),
            function: function.name.clone(),
            work: Work::Function {
                params,
                results: results.len(),
                given,
            },
            depth,
        };
        let mut answer = running.call(meeting.partner, call).await.map_err(failed)?;
        if function.has_handles {
            take(
                &mut store,
                &self.wanted,
                function,
                &mut answer.values,
                meeting.number,
            )
            .map_err(|error| failed(error.to_string()))?;
        }
        for (place, value) in results.iter_mut().zip(answer.values) {
            *place = value;
        }
        let calls = &mut store.data_mut().calls;
        calls.keep(&self.provider, meeting.number, answer.partner);
        Ok(())
    }

    /// Drops a resource where it is.
    async fn drop_resource(
        &self,
        mut store: StoreContextMut<'_, State>,
        name: &str,
        rep: u32,
    ) -> wasmtime::Result<()> {
        let function = format!("[resource-drop]{name}");
        let failed = |why: String| self.failed(&function, &why);
        let Some((resource, number, partner)) = release(&mut store, &self.provider, rep)? else {
            return Ok(());
        };
        let Some(running) = partner.exporter.upgrade() else {
            return Ok(());
        };
        let call = Call {
            interface: self.wanted.name.clone(),
            function: function.clone(),
            work: Work::Drop(resource),
            depth: depth(&store).map_err(failed)?,
        };
        match running.clone().call(Some(partner), call).await {
            Ok(answer) => {
                let calls = &mut store.data_mut().calls;
                calls.keep(&self.provider, number, answer.partner);
                Ok(())
            }
            // It went with the program.
            Err(_) if running.is_over() => Ok(()),
            Err(why) => Err(failed(why)),
        }
    }

    /// The provider, once it runs.
    async fn running(&self) -> Result<Arc<dyn Exporter>, String> {
        let until = Instant::now() + CALL_PATIENCE;
        let running = match self.network.interfaces() {
            Some(interfaces) => interfaces.running(&self.provider, until).await?,
            None => return Err("it does not run".to_owned()),
        };
        // It may have begun again with another program.
        if *running.digest() != self.digest {
            running.fits(&self.wanted)?;
        }
        Ok(running)
    }

    fn failed(&self, function: &str, why: &str) -> wasmtime::Error {
        let (interface, provider) = (&self.wanted.name, &self.provider);
        wasmtime::Error::msg(format!(
            "{interface}#{function}, which {provider:?} provides, failed: {why}"
        ))
    }
}

/// How far down a call from that store leads.
fn depth(store: &StoreContextMut<'_, State>) -> Result<u32, String> {
    let depth = store.data().calls.depth + 1;
    match depth > DEPTH_MAX {
        true => Err(format!(
            "calls from one program to the next lead through more than {DEPTH_MAX}"
        )),
        false => Ok(depth),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_provider_is_found_and_several_are_chosen_from() {
        let chosen = |programs: &[&str], chosen: Option<&str>| choose("a:b/c", programs, chosen, &[]);
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
    #[test]
    fn who_cannot_be_started_is_named() {
        let absent = [
            Absent::new("x", "cannot be started: it is broken"),
            Absent::new("y", "has no image"),
        ];
        let why = |programs: &[&str], chosen| match choose("a:b/c", programs, chosen, &absent) {
            Ok(found) => format!("{found:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(why(&["z"], None), "Some(0)", "who is there is asked");
        assert_eq!(
            why(&[], None),
            "a:b/c is imported and nobody exports it: \"x\" cannot be started: it is broken; \"y\" has no image"
        );
        assert_eq!(
            why(&["z"], Some("y")),
            "a:b/c is imported and nobody exports it: \"y\" has no image"
        );
    }
}
