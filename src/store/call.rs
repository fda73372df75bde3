//! A command on its way into the log.

use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::types::Outcome;

/// Where a call's outcome goes.
pub type Answer = oneshot::Sender<Result<Vec<Outcome>, StoreError>>;

/// A command on its way into the log.
pub struct Call {
    /// The number in the command's ticket; not 0.
    pub number: u64,
    /// Whether it changes the group.
    pub membership: bool,
    /// The encoded command.
    pub data: Vec<u8>,
    /// Who waits.
    pub answer: Answer,
}
