//! What values weigh while they are on their way between two stores, in this process's memory.

use wasmtime::component::Val;

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
