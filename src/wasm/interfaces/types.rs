//! What components import of their own interfaces, what they export, and whether one fits the other.

use super::shapes::{has_handles, parts, passed, same_function};
use std::sync::Arc;
use wasmtime::Engine;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ResourceType, Type};

/// Packages of hosts' interfaces: no program of a pod provides them, and to export one makes no library of a component.
const HOSTS: [&str; 3] = ["wasi:", "fermyon:", "spin:"];

/// An interface that a component imports from whoever has it.
pub(crate) struct Wanted {
    /// `package:name/interface`, with its version if it has one.
    pub(crate) name: String,
    pub(super) functions: Vec<Arc<Function>>,
    pub(super) resources: Vec<Resource>,
}

/// A function of such an interface.
pub(super) struct Function {
    pub(super) name: String,
    pub(super) kind: ComponentFunc,
    /// Whether handles of resources go through it.
    pub(super) has_handles: bool,
}

impl Function {
    fn new(name: &str, kind: ComponentFunc) -> Function {
        let has_handles = passed(&kind).any(|kind| has_handles(&kind));
        Function {
            name: name.to_owned(),
            kind,
            has_handles,
        }
    }
}

/// A resource that such an interface names.
pub(super) struct Resource {
    pub(super) name: String,
    kind: ResourceType,
    /// Which of the component's resources it is: several interfaces may name one.
    pub(super) number: u32,
    /// The host's interface that it comes from.
    host: Option<String>,
}

/// The interfaces that a component imports and that are not hosts'.
pub(crate) fn imports(engine: &Engine, component: &Component) -> Vec<Wanted> {
    let kind = component.component_type();
    // In the order in which they are first named, and by whom.
    let mut known: Vec<(ResourceType, String)> = Vec::new();
    let mut all = Vec::new();
    for (interface, item) in kind.imports(engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else {
            continue;
        };
        let mut wanted = Wanted {
            name: interface.to_owned(),
            functions: Vec::new(),
            resources: Vec::new(),
        };
        let before = known.len();
        for (name, item) in instance.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(kind) => {
                    wanted.functions.push(Arc::new(Function::new(name, kind)))
                }
                ComponentItem::Resource(kind) => {
                    let number = known.iter().position(|(known, _)| *known == kind);
                    let number = number.unwrap_or_else(|| {
                        known.push((kind, interface.to_owned()));
                        known.len() - 1
                    });
                    let origin = known.get(number).map(|(_, origin)| origin.clone());
                    wanted.resources.push(Resource {
                        name: name.to_owned(),
                        kind,
                        number: number as u32,
                        host: origin.filter(|origin| !is_shared(origin)),
                    });
                }
                _ => {}
            }
        }
        // One that only names values, or resources of other interfaces, needs nobody who provides it.
        let is_needed = !wanted.functions.is_empty() || known.len() > before;
        if is_shared(interface) && is_needed {
            all.push(wanted);
        }
    }
    all
}

/// The interfaces with functions that a component exports to other programs.
pub(crate) fn exports(engine: &Engine, component: &Component) -> Vec<String> {
    let kind = component.component_type();
    let exports = kind.exports(engine);
    let own = exports.filter(|(name, _)| is_shared(name));
    let with_functions = own.filter(|(_, item)| match &item.ty {
        ComponentItem::ComponentInstance(instance) => instance
            .exports(engine)
            .any(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_))),
        _ => false,
    });
    with_functions.map(|(name, _)| name.to_owned()).collect()
}

/// Whether that is the name of an interface which is not a host's.
fn is_shared(name: &str) -> bool {
    let is_interface = name.contains(':') && name.contains('/');
    is_interface && !HOSTS.iter().any(|host| name.starts_with(host))
}

/// The resources that a component imports.
fn imported(engine: &Engine, component: &Component) -> Vec<ResourceType> {
    let kind = component.component_type();
    let instances = kind.imports(engine).filter_map(|(_, item)| match item.ty {
        ComponentItem::ComponentInstance(instance) => Some(instance),
        _ => None,
    });
    let mut all = Vec::new();
    for instance in instances {
        all.extend(instance.exports(engine).filter_map(|(_, item)| match item.ty {
            ComponentItem::Resource(kind) => Some(kind),
            _ => None,
        }));
    }
    all
}

impl Wanted {
    /// Whether what a component exports under that name can be called for it. None: it exports no such thing.
    pub(crate) fn fits(&self, engine: &Engine, component: &Component) -> Option<Result<(), String>> {
        let kind = component.component_type();
        match kind.get_export(engine, &self.name)?.ty {
            ComponentItem::ComponentInstance(instance) => {
                let has = |name: &str| Some(instance.get_export(engine, name)?.ty);
                Some(self.check(has, &imported(engine, component)))
            }
            _ => None,
        }
    }

    /// Which of the component's resources one is.
    pub(super) fn number(&self, kind: &ResourceType) -> Option<u32> {
        let mut resources = self.resources.iter();
        resources
            .find(|resource| resource.kind == *kind)
            .map(|resource| resource.number)
    }

    /// `foreign` are the resources that are not the other component's own.
    fn check(
        &self,
        exported: impl Fn(&str) -> Option<ComponentItem>,
        foreign: &[ResourceType],
    ) -> Result<(), String> {
        let mut pairs = Vec::new();
        for Resource { name, kind, host, .. } in &self.resources {
            if let Some(host) = host {
                return Err(format!(
                    "its resource `{name}` is the host's ({host}), whose resources do not go from one program to another"
                ));
            }
            match exported(name) {
                Some(ComponentItem::Resource(there)) if foreign.contains(&there) => {
                    return Err(format!(
                        "there its resource `{name}` is imported, and what is not a program's own it cannot hand on"
                    ));
                }
                Some(ComponentItem::Resource(there)) => pairs.push((*kind, there)),
                _ => return Err(format!("there it has no resource `{name}`")),
            }
        }
        let same = |one: &ResourceType, other: &ResourceType| pairs.contains(&(*one, *other));
        for function in &self.functions {
            let (name, kind) = (&function.name, &function.kind);
            let named = |kind: &ResourceType| pairs.iter().any(|(own, _)| own == kind);
            // Before types are compared: streams of two components cannot be.
            passable(kind, &named).map_err(|what| format!("its function `{name}` takes or gives {what}"))?;
            let Some(ComponentItem::ComponentFunc(there)) = exported(name) else {
                return Err(format!("there it has no function `{name}`"));
            };
            let named = |kind: &ResourceType| pairs.iter().any(|(_, other)| other == kind);
            passable(&there, &named)
                .map_err(|what| format!("there its function `{name}` takes or gives {what}"))?;
            if !same_function(kind, &there, &same) {
                return Err(format!("there its function `{name}` has another type"));
            }
        }
        Ok(())
    }
}

/// Whether everything that goes through a function is a value, or a handle of a resource that is named.
fn passable(function: &ComponentFunc, named: &impl Fn(&ResourceType) -> bool) -> Result<(), &'static str> {
    if function.async_() {
        return Err("its time (`async`), which is not offered between programs");
    }
    passed(function).try_for_each(|kind| can_pass(&kind, named))
}

fn can_pass(kind: &Type, named: &impl Fn(&ResourceType) -> bool) -> Result<(), &'static str> {
    match kind {
        Type::Own(resource) | Type::Borrow(resource) if !named(resource) => {
            Err("a handle of a resource that the interface does not name")
        }
        Type::Future(_) | Type::Stream(_) | Type::ErrorContext => {
            Err("a stream, a future or an error context, which do not go from one program to another")
        }
        other => parts(other).iter().try_for_each(|part| can_pass(part, named)),
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> Engine {
        crate::engine::compiling().unwrap()
    }

    fn importing(engine: &Engine, interface: &str) -> Wanted {
        let text = format!(r#"(component (import "demo:a/b" (instance {interface})))"#);
        let component = Component::new(engine, text).unwrap();
        imports(engine, &component).pop().expect("an import")
    }

    /// A component that exports a function `f` of that type, which traps.
    fn exporting(engine: &Engine, types: &str, signature: &str, core: &str) -> Component {
        let text = format!(
            r#"(component {types}
            (core module $m (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                (func (export "f") {core} unreachable))
            (core instance $m (instantiate $m))
            (alias core export $m "memory" (core memory $memory))
            (alias core export $m "realloc" (core func $realloc))
            (func $f {signature} (canon lift (core func $m "f") (memory $memory) (realloc $realloc)))
            (instance $i (export "f" (func $f)))
            (export "demo:a/b" (instance $i)))"#
        );
        Component::new(engine, text).unwrap()
    }

    #[test]
    fn functions_over_values_fit_those_of_the_same_type() {
        let engine = engine();
        let strings = r#"(param "a" string) (result (list u8))"#;
        let exported = exporting(&engine, "", strings, "(param i32 i32) (result i32)");
        assert_eq!(exports(&engine, &exported), ["demo:a/b"]);
        let fits = |interface: &str| importing(&engine, interface).fits(&engine, &exported);
        assert_eq!(fits(&format!(r#"(export "f" (func {strings}))"#)), Some(Ok(())));
        for (interface, reason) in [
            (
                r#"(export "f" (func (param "b" string) (result (list u8))))"#,
                "another type",
            ),
            (
                r#"(export "f" (func (param "a" string) (result (list u16))))"#,
                "another type",
            ),
            (r#"(export "g" (func))"#, "no function `g`"),
        ] {
            let why = fits(interface).expect("it is exported").unwrap_err();
            assert!(why.contains(reason), "{interface}: {why}");
        }
        let other = Component::new(&engine, "(component)").unwrap();
        assert!(
            importing(&engine, r#"(export "f" (func))"#)
                .fits(&engine, &other)
                .is_none()
        );
    }

    /// A component that exports a resource of its own, or one that it has from elsewhere.
    fn exporting_resource(engine: &Engine, origin: &str) -> Component {
        let text = format!(
            r#"(component {origin}
            (component $inner
                (import "import-thing" (type $t (sub resource)))
                (export "thing" (type $t)))
            (instance $i (instantiate $inner (with "import-thing" (type $thing))))
            (export "demo:a/b" (instance $i)))"#
        );
        Component::new(engine, text).unwrap()
    }

    #[test]
    fn resources_are_a_programs_own() {
        let engine = engine();
        let own = exporting_resource(&engine, "(type $thing (resource (rep i32)))");
        let other = r#"(import "demo:other/d" (instance $d (export "thing" (type (sub resource)))))
            (alias export $d "thing" (type $thing))"#;
        let passed_on = exporting_resource(&engine, other);
        let thing = r#"(export "thing" (type $t (sub resource)))"#;
        let fits = |interface: &str, exported: &Component| {
            let wanted = importing(&engine, interface);
            wanted.fits(&engine, exported).expect("it is exported")
        };
        assert_eq!(fits(thing, &own), Ok(()));
        for (interface, exported, reason) in [
            (thing, &passed_on, "there its resource `thing` is imported"),
            (
                r#"(export "item" (type $t (sub resource)))"#,
                &own,
                "there it has no resource `item`",
            ),
            (
                r#"(export "thing" (type $t (sub resource))) (export "f" (func (param "t" (borrow $t))))"#,
                &own,
                "there it has no function `f`",
            ),
        ] {
            let why = fits(interface, exported).unwrap_err();
            assert!(why.contains(reason), "{interface}: {why}");
        }
    }

    #[test]
    fn resources_of_the_host_stay_with_their_program() {
        let engine = engine();
        let text = r#"(component
            (import "wasi:io/error@0.2.0" (instance $host (export "error" (type (sub resource)))))
            (alias export $host "error" (type $error))
            (import "demo:a/b" (instance
                (alias outer 1 $error (type $error'))
                (export "error" (type $e (eq $error')))
                (export "f" (func (param "e" (borrow $e)))))))"#;
        let component = Component::new(&engine, text).unwrap();
        let wanted = imports(&engine, &component).pop().expect("an import");
        let own = exporting_resource(&engine, "(type $thing (resource (rep i32)))");
        let why = wanted.fits(&engine, &own).expect("it is exported").unwrap_err();
        assert!(
            why.contains("its resource `error` is the host's (wasi:io/error@0.2.0)"),
            "{why}"
        );
    }

    #[test]
    fn what_names_only_types_needs_nobody() {
        let engine = engine();
        let text = r#"(component (import "demo:a/types" (instance
            (type $r (record (field "n" u32))) (export "r" (type (eq $r))))))"#;
        let component = Component::new(&engine, text).unwrap();
        assert!(imports(&engine, &component).is_empty());
    }

    #[test]
    fn what_is_the_hosts_is_nobody_elses() {
        let engine = engine();
        let text = r#"(component (import "wasi:a/b" (instance)) (import "spin:c/d" (instance)) (import "plain" (func)))"#;
        let component = Component::new(&engine, text).unwrap();
        assert!(imports(&engine, &component).is_empty());
    }
}
