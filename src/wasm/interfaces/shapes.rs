//! What types are made of, and when those of two components are the same.

use wasmtime::component::types::ComponentFunc;
use wasmtime::component::{ResourceType, Type};

/// The types that one is made of. How deep this goes, and for how long, the validation of components bounds.
pub(super) fn parts(kind: &Type) -> Vec<Type> {
    match kind {
        Type::List(list) => vec![list.ty()],
        Type::FixedLengthList(list) => vec![list.ty()],
        Type::Option(option) => vec![option.ty()],
        Type::Map(map) => vec![map.key(), map.value()],
        Type::Result(result) => result.ok().into_iter().chain(result.err()).collect(),
        Type::Record(record) => record.fields().map(|field| field.ty).collect(),
        Type::Tuple(tuple) => tuple.types().collect(),
        Type::Variant(variant) => variant.cases().filter_map(|case| case.ty).collect(),
        Type::Own(_)
        | Type::Borrow(_)
        | Type::Future(_)
        | Type::Stream(_)
        | Type::ErrorContext
        | Type::Bool
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
        | Type::Flags(_) => Vec::new(),
    }
}

/// Whether there are handles of resources in it.
pub(super) fn has_handles(kind: &Type) -> bool {
    matches!(kind, Type::Own(_) | Type::Borrow(_)) || parts(kind).iter().any(has_handles)
}

/// What goes through a function, both ways.
pub(super) fn passed(function: &ComponentFunc) -> impl Iterator<Item = Type> {
    let params = function.params().map(|(_, kind)| kind);
    params.chain(function.results())
}

/// Whether a function of one component can be called for one of another, whose resources are the same where `same` says so.
pub(super) fn same_function(
    one: &ComponentFunc,
    other: &ComponentFunc,
    same: &impl Fn(&ResourceType, &ResourceType) -> bool,
) -> bool {
    let names = one
        .params()
        .map(|(name, _)| name)
        .eq(other.params().map(|(name, _)| name));
    names
        && one.results().len() == other.results().len()
        && passed(one)
            .zip(passed(other))
            .all(|(one, other)| alike(&one, &other, same))
}

/// As the types' own comparison, which knows nothing of resources that are not instantiated.
fn alike(one: &Type, other: &Type, same: &impl Fn(&ResourceType, &ResourceType) -> bool) -> bool {
    let maybe = |one: Option<Type>, other: Option<Type>| match (one, other) {
        (Some(one), Some(other)) => alike(&one, &other, same),
        (one, other) => one.is_none() && other.is_none(),
    };
    match (one, other) {
        (Type::Own(one), Type::Own(other)) | (Type::Borrow(one), Type::Borrow(other)) => same(one, other),
        (Type::List(one), Type::List(other)) => alike(&one.ty(), &other.ty(), same),
        (Type::FixedLengthList(one), Type::FixedLengthList(other)) => {
            one.len() == other.len() && alike(&one.ty(), &other.ty(), same)
        }
        (Type::Option(one), Type::Option(other)) => alike(&one.ty(), &other.ty(), same),
        (Type::Map(one), Type::Map(other)) => {
            alike(&one.key(), &other.key(), same) && alike(&one.value(), &other.value(), same)
        }
        (Type::Result(one), Type::Result(other)) => {
            maybe(one.ok(), other.ok()) && maybe(one.err(), other.err())
        }
        (Type::Record(one), Type::Record(other)) => {
            let (ones, others) = (one.fields(), other.fields());
            ones.len() == others.len()
                && ones
                    .zip(others)
                    .all(|(one, other)| one.name == other.name && alike(&one.ty, &other.ty, same))
        }
        (Type::Tuple(one), Type::Tuple(other)) => {
            let (ones, others) = (one.types(), other.types());
            ones.len() == others.len() && ones.zip(others).all(|(one, other)| alike(&one, &other, same))
        }
        (Type::Variant(one), Type::Variant(other)) => {
            let (ones, others) = (one.cases(), other.cases());
            ones.len() == others.len()
                && ones
                    .zip(others)
                    .all(|(one, other)| one.name == other.name && maybe(one.ty, other.ty))
        }
        // The rest is made of no other types.
        (one, other) => one == other,
    }
}
