//! YAML documents → [`Tree`], with the line of every key.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;

use super::tree::{Entry, Tree};

/// Containers may nest this deep: less than in JSON, as the parser takes up to 20 KiB of stack for
/// each level.
const DEPTH_MAX: usize = 100;
/// More than that times `DEPTH_MAX`; callers' own threads have less.
const STACK_BYTES: usize = 4 * 1024 * 1024;

/// Parses one YAML document. Keys that appear twice are kept side by side.
///
/// # Errors
/// The parser's text.
pub(super) fn parse(text: &[u8]) -> Result<Tree<'static>, String> {
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new()
            .name("yaml".to_owned())
            .stack_size(STACK_BYTES);
        let parsing = parser
            .spawn_scoped(scope, || parse_here(text))
            .map_err(|e| format!("yaml: {e}"))?;
        parsing
            .join()
            .unwrap_or_else(|_| Err("yaml: internal error".to_owned()))
    })
}

fn parse_here(text: &[u8]) -> Result<Tree<'static>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "yaml: invalid leading UTF-8 octet".to_owned())?;
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
        },
    };
    let tree: Tree<'static> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| format!("yaml: {}", first_line(&error.to_string())))?;
    Ok(tree)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// A mapping key: any scalar, as text.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

macro_rules! key_of {
    ($($name:ident: $type:ty),*) => {
        $(fn $name<E>(self, value: $type) -> Result<Key, E> {
            Ok(Key(value.to_string()))
        })*
    };
}

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar key")
    }

    key_of!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<Key, E> {
        Ok(Key("null".to_owned()))
    }
}

impl<'de> Deserialize<'de> for Tree<'static> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

macro_rules! number_of {
    ($($name:ident: $type:ty),*) => {
        $(fn $name<E>(self, value: $type) -> Result<Tree<'static>, E> {
            Ok(Tree::Number(Cow::Owned(value.to_string())))
        })*
    };
}

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree<'static>, E> {
        Ok(Tree::Bool(value))
    }

    number_of!(visit_i64: i64, visit_u64: u64, visit_f64: f64);

    fn visit_str<E>(self, value: &str) -> Result<Tree<'static>, E> {
        Ok(Tree::String(Cow::Owned(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Tree<'static>, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree<'static>, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree<'static>, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree<'static>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree<'static>, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<serde_saphyr::Spanned<Key>>()? {
            let value = map.next_value()?;
            let line = key.referenced.line();
            entries.push(Entry {
                key: Cow::Owned(key.value.0),
                line,
                value,
            });
        }
        Ok(Tree::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn reads_what_manifests_hold() {
        let text = b"a: 1\nb: yes\nc: [x, 1.5, null]\nd:\n  \"1\": two\n  2: three\ne: |\n  text\nf: '0'\n";
        let value = parse(text).unwrap().into_value();
        let wanted = json!({"a": 1, "b": true, "c": ["x", 1.5, null], "d": {"1": "two", "2": "three"},
            "e": "text\n", "f": "0"});
        assert_eq!(value, wanted);
    }

    #[test]
    fn json_is_yaml() {
        let value = parse(br#"{"a": {"b": [1, "2"]}, "c": {}}"#).unwrap().into_value();
        assert_eq!(value, json!({"a": {"b": [1, "2"]}, "c": {}}));
    }

    #[test]
    fn keeps_duplicates_with_their_lines() {
        let Tree::Object(entries) = parse(b"a: 1\nb: 2\na: 3\n").unwrap() else {
            panic!()
        };
        assert_eq!(entries.len(), 3);
        assert_eq!((entries[2].key.as_ref(), entries[2].line), ("a", 3));
    }

    #[test]
    fn refuses_to_nest_without_end() {
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
        assert!(parse("- ".repeat(100_000).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in r"[\[\]{}:,'a-c0-9.\-&*!|># \n]{0,60}") {
            let _ = parse(text.as_bytes());
        }
    }
}
