//! Snapshots: sent to who lags too far behind, and taken in.

use ::raft::eraftpb::{Message, SnapshotMetadata};

use super::{Core, Shipment};
use crate::error::StoreError;
use crate::plant::Plant;
use crate::shipment::Arrival;
use crate::state::{Export, Meta};
use crate::witness::Nothing;

impl Core {
    /// Takes a snapshot that came from another member.
    pub fn arrive(&mut self, arrival: Arrival) -> Result<(), StoreError> {
        let Arrival {
            message,
            meta,
            install,
        } = arrival;
        let about = message
            .snapshot
            .as_ref()
            .and_then(|snapshot| snapshot.metadata.as_ref());
        let fits = about.is_some_and(|about| {
            (about.index, about.term) == (meta.applied, meta.applied_term)
                && about.conf_state.as_ref() == Some(&meta.members)
                && meta.cluster == self.meta.cluster
        });
        let refused = |reason: &str| StoreError::Format {
            what: format!("snapshot from member {:x}", message.from),
            reason: reason.into(),
        };
        if !fits {
            return Err(refused("it is not about the state that came with it"));
        }
        if self.suspended.is_some() {
            return Err(refused("the disk takes no writes"));
        }
        if self.arrived.is_some() {
            return Err(refused("another one came first"));
        }
        self.member.receive(message, &self.meta.roster.removed)?;
        self.arrived = Some((meta, install));
        Ok(())
    }

    /// A shipment has arrived, or got lost.
    pub fn snapshot_sent(&mut self, to: u64, arrived: bool) {
        self.member.snapshot_sent(to, arrived);
    }

    /// A copy of the state as it is now.
    pub fn copy(&self) -> Result<(Meta, Box<dyn Export>), StoreError> {
        match self.suspended() {
            // What was applied is not in the state yet.
            Some(reason) if self.stuck() => Err(StoreError::Unwritable {
                reason: reason.to_owned(),
                uncertain: false,
            }),
            _ => Ok((self.meta.clone(), self.state.export()?)),
        }
    }

    pub(super) fn ship(&mut self, mut message: Message) -> Result<Shipment, StoreError> {
        let snapshot = message.snapshot.get_or_insert_default();
        snapshot.metadata = Some(SnapshotMetadata {
            index: self.meta.applied,
            term: self.meta.applied_term,
            conf_state: Some(self.meta.members.clone()),
        });
        let export = match self.meta.roster.is_witness(message.to) {
            true => {
                self.forgets(self.meta.applied);
                Box::new(Nothing)
            }
            false => self.state.export()?,
        };
        Ok(Shipment {
            message,
            meta: self.meta.clone(),
            export,
        })
    }

    /// Puts the copy that arrived in the state's place.
    pub(super) fn install(&mut self, about: &SnapshotMetadata) -> Result<(), StoreError> {
        let arrived = self
            .arrived
            .take()
            .filter(|(meta, _)| meta.applied == about.index);
        let Some((theirs, install)) = arrived else {
            return Err(StoreError::Stopped("a snapshot came without its state".into()));
        };
        let mut meta = Meta {
            member: self.meta.member,
            installed: theirs.applied,
            ..theirs
        };
        if self.habits.witness {
            meta.installed_term = meta.applied_term;
            (meta.revision, meta.compacted) = (0, 0);
        }
        if self.habits.plants.has(Plant::ForgetMembers) {
            meta.members.clone_from(&self.meta.members);
            meta.roster.clone_from(&self.meta.roster);
        }
        install(&meta)?;
        self.meta = meta;
        self.changed_at = self.meta.applied;
        let lost = self.habits.plants.has(Plant::LoseEvents);
        self.cache.replace(self.state.load()?, self.position(), lost);
        self.member.installed(&self.meta);
        self.release_changes();
        self.calls.skipped();
        Ok(())
    }
}
