//! Values on their way between two stores: what they weigh in this process's memory, and the handles among them.

use super::shapes::has_handles;
use wasmtime::component::{ResourceAny, Type, Val};

/// Bytes that values take up here: many times what they do in a guest, for each has its type with it.
pub(super) fn weight(values: &[Val]) -> u64 {
    values.iter().map(one).sum()
}

fn one(value: &Val) -> u64 {
    let inside = match value {
        Val::String(text) | Val::Enum(text) => text.len() as u64,
        Val::List(values) | Val::Tuple(values) | Val::FixedLengthList(values) => weight(values),
        Val::Map(pairs) => pairs.iter().map(|(key, value)| one(key) + one(value)).sum(),
        Val::Record(fields) => fields.iter().map(|(name, value)| named(name) + one(value)).sum(),
        Val::Variant(name, value) => name.len() as u64 + value.as_deref().map_or(0, one),
        Val::Option(value) | Val::Result(Ok(value)) | Val::Result(Err(value)) => {
            value.as_deref().map_or(0, one)
        }
        Val::Flags(names) => names.iter().map(|name| named(name)).sum(),
        _ => 0,
    };
    size_of::<Val>() as u64 + inside
}

fn named(name: &str) -> u64 {
    (size_of::<String>() + name.len()) as u64
}

/// How many handles there are among values.
pub(super) fn handles(values: &[Val]) -> u64 {
    values.iter().map(handles_in).sum()
}

fn handles_in(value: &Val) -> u64 {
    match value {
        Val::Resource(_) => 1,
        Val::List(values) | Val::Tuple(values) | Val::FixedLengthList(values) => handles(values),
        Val::Map(pairs) => pairs
            .iter()
            .map(|(key, value)| handles_in(key) + handles_in(value))
            .sum(),
        Val::Record(fields) => fields.iter().map(|(_, value)| handles_in(value)).sum(),
        Val::Variant(_, value) | Val::Option(value) | Val::Result(Ok(value)) | Val::Result(Err(value)) => {
            value.as_deref().map_or(0, handles_in)
        }
        _ => 0,
    }
}

/// Does something with each handle among a value of that type.
pub(super) fn each_handle(
    value: &mut Val,
    kind: &Type,
    act: &mut dyn FnMut(&mut ResourceAny, &Type) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    if !has_handles(kind) {
        return Ok(());
    }
    let mut maybe = |value: Option<&mut Val>, kind: Option<Type>| match (value, kind) {
        (Some(value), Some(kind)) => each_handle(value, &kind, act),
        _ => Ok(()),
    };
    match (kind, value) {
        (Type::Own(_) | Type::Borrow(_), Val::Resource(handle)) => act(handle, kind),
        (Type::List(list), Val::List(values)) => all(values, &list.ty(), act),
        (Type::FixedLengthList(list), Val::FixedLengthList(values)) => all(values, &list.ty(), act),
        (Type::Map(map), Val::Map(pairs)) => {
            let (key, value) = (map.key(), map.value());
            pairs.iter_mut().try_for_each(|pair| {
                each_handle(&mut pair.0, &key, act)?;
                each_handle(&mut pair.1, &value, act)
            })
        }
        (Type::Record(record), Val::Record(fields)) => {
            let mut each = record.fields().zip(fields);
            each.try_for_each(|(field, (_, value))| each_handle(value, &field.ty, act))
        }
        (Type::Tuple(tuple), Val::Tuple(values)) => {
            let mut each = tuple.types().zip(values);
            each.try_for_each(|(kind, value)| each_handle(value, &kind, act))
        }
        (Type::Variant(variant), Val::Variant(name, value)) => {
            let case = variant.cases().find(|case| case.name == name.as_str());
            maybe(value.as_deref_mut(), case.and_then(|case| case.ty))
        }
        (Type::Option(option), Val::Option(value)) => maybe(value.as_deref_mut(), Some(option.ty())),
        (Type::Result(result), Val::Result(Ok(value))) => maybe(value.as_deref_mut(), result.ok()),
        (Type::Result(result), Val::Result(Err(value))) => maybe(value.as_deref_mut(), result.err()),
        _ => Err(wasmtime::Error::msg("a value is not of its type")),
    }
}

fn all(
    values: &mut [Val],
    kind: &Type,
    act: &mut dyn FnMut(&mut ResourceAny, &Type) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    values
        .iter_mut()
        .try_for_each(|value| each_handle(value, kind, act))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_inside_is_counted() {
        let each = size_of::<Val>() as u64;
        assert_eq!(weight(&[]), 0);
        assert_eq!(weight(&[Val::U8(1), Val::String("four".into())]), 2 * each + 4);
        assert_eq!(weight(&[Val::List(vec![Val::U8(0); 100])]), 101 * each);
        let option = Val::Option(Some(Box::new(Val::Tuple(vec![Val::Bool(true)]))));
        assert_eq!(weight(&[option]), 3 * each);
    }
}
