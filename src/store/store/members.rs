//! The store as a member of a group: who is in it, who leads, and the way in
//! for the others.

use std::io;

use tokio::sync::{oneshot, watch};

use super::Store;
use crate::command::Body;
use crate::driver::Input;
use crate::error::StoreError;
use crate::membership::Change;
use crate::peers::Stream;
use crate::status::{Leadership, Status};

impl Store {
    /// The group's id.
    pub fn cluster(&self) -> u64 {
        self.inner.whoami.cluster
    }

    /// This member's id.
    pub fn member(&self) -> u64 {
        self.inner.whoami.member
    }

    /// Who leads, kept up to date. Whoever must act once in the whole group
    /// acts while `leads` is true, and stops when it is not.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// How this member sees the group.
    pub async fn status(&self) -> Result<Status, StoreError> {
        let (asked, status) = oneshot::channel();
        let _ = self.inner.inputs.send(Input::Status(asked));
        status.await.map_err(|_| self.inner.gone())
    }

    /// Waits until this member's memory ([`peek`](Self::peek)) shows every write that was acknowledged
    /// before the call, by whichever member. A leader's always does: nobody learns earlier what is
    /// committed, and one that leads no more without knowing it can write nothing.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let leads = self.inner.leadership.borrow().leads;
        if leads {
            return Ok(());
        }
        self.clearance().await
    }

    /// Changes the group; any member takes this to the leader, which judges
    /// ([`StoreError::Membership`] is its refusal). A new member is a learner
    /// when this returns. A member that was promoted or removed counts, or
    /// counts no more, and a majority knows: the group bears the loss of any
    /// minority from now on. In each case this member shows it too.
    /// Leadership has only begun to be handed over: watch
    /// [`leadership`](Self::leadership).
    pub async fn change_members(&self, change: Change) -> Result<(), StoreError> {
        self.call(Body::Member(change)).await.map(drop)
    }

    /// Serves a connection from the member `from` until it ends. That it is
    /// this member must be certain: its certificate says so.
    pub async fn serve_peer(&self, from: u64, stream: Box<dyn Stream>) -> io::Result<()> {
        self.inner.door.serve(from, stream).await
    }
}
