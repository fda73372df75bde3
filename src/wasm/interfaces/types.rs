//! Interfaces as types: what a component imports and exports beside the host's, and whether one fits the other.

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::{ComponentFunc, ComponentItem, Type};

/// Packages of hosts' interfaces: no program of a pod provides them, and to export one makes no library of a component.
const HOSTS: [&str; 3] = ["wasi:", "fermyon:", "spin:"];

/// An interface that a component imports from whoever has it.
pub(crate) struct Wanted {
    /// `package:name/interface`, with its version if it has one.
    pub(crate) name: String,
    pub(crate) functions: Vec<(String, ComponentFunc)>,
    /// A resource that is part of it.
    resource: Option<String>,
}

/// The interfaces that a component imports and that are not hosts'.
pub(crate) fn imports(engine: &Engine, component: &Component) -> Vec<Wanted> {
    let kind = component.component_type();
    let imports = kind.imports(engine);
    let foreign = imports.filter(|(name, _)| is_shared(name));
    let wanted = foreign.filter_map(|(name, item)| match item.ty {
        ComponentItem::ComponentInstance(instance) => {
            let mut wanted = Wanted {
                name: name.to_owned(),
                functions: Vec::new(),
                resource: None,
            };
            for (name, item) in instance.exports(engine) {
                match item.ty {
                    ComponentItem::ComponentFunc(function) => {
                        wanted.functions.push((name.to_owned(), function));
                    }
                    ComponentItem::Resource(_) => wanted.resource = Some(name.to_owned()),
                    _ => {}
                }
            }
            Some(wanted)
        }
        _ => None,
    });
    wanted.collect()
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

impl Wanted {
    /// Whether what a component exports under that name can be called for it. None: it exports no such thing.
    pub(crate) fn fits(&self, engine: &Engine, component: &Component) -> Option<Result<(), String>> {
        let kind = component.component_type();
        match kind.get_export(engine, &self.name)?.ty {
            ComponentItem::ComponentInstance(instance) => {
                let has = |name: &str| match instance.get_export(engine, name)?.ty {
                    ComponentItem::ComponentFunc(function) => Some(function),
                    _ => None,
                };
                Some(self.check(has))
            }
            _ => None,
        }
    }

    fn check(&self, exported: impl Fn(&str) -> Option<ComponentFunc>) -> Result<(), String> {
        if let Some(resource) = &self.resource {
            return Err(format!(
                "it has the resource `{resource}`, and resources do not go from one program to another"
            ));
        }
        for (name, function) in &self.functions {
            // Before types are compared: handles of two components cannot be.
            passable(function).map_err(|what| format!("its function `{name}` takes or gives {what}"))?;
            let exported = exported(name).ok_or_else(|| format!("there it has no function `{name}`"))?;
            passable(&exported)
                .map_err(|what| format!("there its function `{name}` takes or gives {what}"))?;
            if !same(function, &exported) {
                return Err(format!("there its function `{name}` has another type"));
            }
        }
        Ok(())
    }
}

fn same(one: &ComponentFunc, other: &ComponentFunc) -> bool {
    one.params().eq(other.params()) && one.results().eq(other.results())
}

/// Whether everything that goes through a function is a value.
fn passable(function: &ComponentFunc) -> Result<(), &'static str> {
    if function.async_() {
        return Err("its time (`async`), which is not offered between programs");
    }
    let params = function.params().map(|(_, kind)| kind);
    params
        .chain(function.results())
        .try_for_each(|kind| is_value(&kind))
}

/// How deep this goes, and for how long, the validation of components bounds.
fn is_value(kind: &Type) -> Result<(), &'static str> {
    let all = |kinds: &mut dyn Iterator<Item = Type>| {
        for kind in kinds {
            is_value(&kind)?;
        }
        Ok(())
    };
    match kind {
        Type::Own(_) | Type::Borrow(_) => {
            Err("a handle of a resource, and resources do not go from one program to another")
        }
        Type::Future(_) | Type::Stream(_) | Type::ErrorContext => {
            Err("a stream, a future or an error context, which do not go from one program to another")
        }
        Type::List(list) => is_value(&list.ty()),
        Type::FixedLengthList(list) => is_value(&list.ty()),
        Type::Option(option) => is_value(&option.ty()),
        Type::Map(map) => all(&mut [map.key(), map.value()].into_iter()),
        Type::Result(result) => all(&mut [result.ok(), result.err()].into_iter().flatten()),
        Type::Record(record) => all(&mut record.fields().map(|field| field.ty)),
        Type::Tuple(tuple) => all(&mut tuple.types()),
        Type::Variant(variant) => all(&mut variant.cases().filter_map(|case| case.ty)),
        Type::Bool
        | Type::S8
        | Type::U8
        | Type::S16
        | Type::U16
        | Type::S32
        | Type::U32
        | Type::S64
        | Type::U64
        | Type::Float32
        | Type::Float64
        | Type::Char
        | Type::String
        | Type::Enum(_)
        | Type::Flags(_) => Ok(()),
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

    #[test]
    fn resources_are_refused_by_name() {
        let engine = engine();
        let exported = exporting(&engine, "", "", "");
        let interface =
            r#"(export "thing" (type $t (sub resource))) (export "f" (func (param "t" (borrow $t))))"#;
        let why = importing(&engine, interface)
            .fits(&engine, &exported)
            .unwrap()
            .unwrap_err();
        assert!(why.contains("the resource `thing`"), "{why}");
    }

    #[test]
    fn what_is_the_hosts_is_nobody_elses() {
        let engine = engine();
        let text = r#"(component (import "wasi:a/b" (instance)) (import "spin:c/d" (instance)) (import "plain" (func)))"#;
        let component = Component::new(&engine, text).unwrap();
        assert!(imports(&engine, &component).is_empty());
    }
}
