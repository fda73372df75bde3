//! Watches.
use crate::{Event, StoreError};
use std::sync::Arc;
/// A watch.
pub struct Watch {}
impl Watch {
    /// The next event in revision order; waits for it. `None` when the store is closed.
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, StoreError>> {
        todo!()
    }
    /// Every event up to this revision has been handed out or does not exist.
    pub fn progress(&self) -> u64 {
        todo!()
    }
}
