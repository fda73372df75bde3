//! Whatever has labels.

use std::collections::BTreeMap;

use serde_json::Value;

/// Something in which a label or field can be looked up.
pub trait Labels {
    /// The value under a key.
    fn value_of(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn value_of(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl<L: Labels> Labels for Option<L> {
    fn value_of(&self, key: &str) -> Option<&str> {
        self.as_ref()?.value_of(key)
    }
}

impl<K: AsRef<str>> Labels for [(K, String)] {
    fn value_of(&self, key: &str) -> Option<&str> {
        self.iter()
            .find(|(k, _)| k.as_ref() == key)
            .map(|(_, v)| v.as_str())
    }
}

impl<K: AsRef<str>> Labels for Vec<(K, String)> {
    fn value_of(&self, key: &str) -> Option<&str> {
        self.as_slice().value_of(key)
    }
}

impl Labels for Value {
    fn value_of(&self, key: &str) -> Option<&str> {
        Value::get(self, key)?.as_str()
    }
}

impl<L: Labels + ?Sized> Labels for &L {
    fn value_of(&self, key: &str) -> Option<&str> {
        (**self).value_of(key)
    }
}
