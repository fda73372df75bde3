//! What a cache is told at its start.

use crate::typed::Selectors;

/// What a cache holds and how.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// Which objects.
    pub selectors: Selectors,
    /// Leave `metadata.managedFields` out: most readers never look at them and
    /// they are often half of an object.
    pub trim_managed_fields: bool,
    /// Objects per page of the first list.
    pub page_limit: u64,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            selectors: Selectors::all(),
            trim_managed_fields: true,
            page_limit: 500,
        }
    }
}

impl From<Selectors> for CacheOptions {
    fn from(selectors: Selectors) -> Self {
        Self {
            selectors,
            ..Self::default()
        }
    }
}
