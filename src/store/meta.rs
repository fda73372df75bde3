//! What the state knows beside the entries, and its bytes: in RocksDB and at
//! the head of a snapshot.

use ::raft::eraftpb::ConfState;
use bytes::Bytes;

use crate::codec::{Malformed, Reader, put_number};
use crate::error::StoreError;
use crate::membership::{Roster, peer, put_peer};

/// Format of everything in this file; changes when the bytes change. Format 1,
/// without roster and installed index, is still read.
const FORMAT: u8 = 4;
/// The format without members of whom not everybody may know. Groups are in it but for the moments after a change.
const SETTLED: u8 = 3;
/// The format without what a witness needs. Groups that never had one go on
/// writing it, so that an older version can take their folders over.
const WITHOUT_WITNESS: u8 = 2;

/// Everything about the state beside the entries; changes together with them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// Index of the last log entry applied.
    pub applied: u64,
    /// Term of that entry.
    pub applied_term: u64,
    /// The latest revision.
    pub revision: u64,
    /// History before this revision is gone.
    pub compacted: u64,
    /// The group's members as of `applied`.
    pub members: ConfState,
    /// Where the members are, and who is no longer one.
    pub roster: Roster,
    /// Which group's state it is.
    pub cluster: u64,
    /// Which member's state it is.
    pub member: u64,
    /// Index of the last snapshot that replaced the state, or 0. A log that
    /// does not know of it holds nothing of worth any more.
    pub installed: u64,
    /// Term of that entry; only a witness needs it.
    pub installed_term: u64,
    /// Every full voter has the entries up to this index, so that the witness need not keep them.
    pub held: u64,
    /// Members whose promotion or removal is committed, but maybe not known to a majority: see
    /// `core/settling.rs`.
    pub unsettled: Vec<u64>,
}

impl Meta {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let witnesses = self.roster.peers.iter().filter(|peer| peer.witness);
        let witnesses: Vec<u64> = witnesses.map(|peer| peer.id).collect();
        let plain = witnesses.is_empty() && (self.held, self.installed_term) == (0, 0);
        let format = match self.unsettled.is_empty() {
            false => FORMAT,
            true if plain => WITHOUT_WITNESS,
            true => SETTLED,
        };
        let mut out = vec![format];
        for number in [
            self.cluster,
            self.member,
            self.applied,
            self.applied_term,
            self.revision,
            self.compacted,
        ] {
            put_number(&mut out, number);
        }
        let members = &self.members;
        for ids in [
            &members.voters,
            &members.learners,
            &members.voters_outgoing,
            &members.learners_next,
        ] {
            put_ids(&mut out, ids);
        }
        out.push(u8::from(members.auto_leave));
        put_number(&mut out, self.installed);
        put_number(&mut out, self.roster.peers.len() as u64);
        self.roster.peers.iter().for_each(|peer| put_peer(&mut out, peer));
        put_ids(&mut out, &self.roster.removed);
        if format >= SETTLED {
            put_ids(&mut out, &witnesses);
            put_number(&mut out, self.held);
            put_number(&mut out, self.installed_term);
        }
        if format >= FORMAT {
            put_ids(&mut out, &self.unsettled);
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote, now or in an earlier version.
    pub fn decode(value: Bytes) -> Result<Meta, StoreError> {
        let format = value.first().copied();
        let (1 | WITHOUT_WITNESS | SETTLED | FORMAT) = format.unwrap_or(0) else {
            return Err(StoreError::Format {
                what: "state".into(),
                reason: format!("format {format:?} is not known to this version, which writes {FORMAT}"),
            });
        };
        read(value).map_err(|error| StoreError::Format {
            what: "state".into(),
            reason: error.0.into(),
        })
    }
}

fn read(value: Bytes) -> Result<Meta, Malformed> {
    let mut reader = Reader::new(value);
    let format = reader.byte()?;
    let mut meta = Meta {
        cluster: reader.number()?,
        member: reader.number()?,
        applied: reader.number()?,
        applied_term: reader.number()?,
        revision: reader.number()?,
        compacted: reader.number()?,
        ..Meta::default()
    };
    meta.members = ConfState {
        voters: ids(&mut reader)?,
        learners: ids(&mut reader)?,
        voters_outgoing: ids(&mut reader)?,
        learners_next: ids(&mut reader)?,
        auto_leave: reader.byte()? != 0,
    };
    if format >= 2 {
        meta.installed = reader.number()?;
        let count = reader.count()?;
        meta.roster.peers = (0..count).map(|_| peer(&mut reader)).collect::<Result<_, _>>()?;
        meta.roster.removed = ids(&mut reader)?;
    }
    if format >= SETTLED {
        let witnesses = ids(&mut reader)?;
        for peer in &mut meta.roster.peers {
            peer.witness = witnesses.contains(&peer.id);
        }
        meta.held = reader.number()?;
        meta.installed_term = reader.number()?;
    }
    if format >= FORMAT {
        meta.unsettled = ids(&mut reader)?;
    }
    Ok(meta)
}

fn put_ids(out: &mut Vec<u8>, ids: &[u64]) {
    put_number(out, ids.len() as u64);
    ids.iter().for_each(|id| put_number(out, *id));
}

fn ids(reader: &mut Reader) -> Result<Vec<u64>, Malformed> {
    let count = reader.count()?;
    (0..count).map(|_| reader.number()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Peer;

    fn sample() -> Meta {
        Meta {
            applied: 1 << 60,
            applied_term: 2,
            revision: 3,
            compacted: 4,
            members: ConfState {
                voters: vec![1, u64::MAX],
                learners: vec![3],
                ..ConfState::default()
            },
            roster: Roster {
                peers: vec![Peer {
                    id: 3,
                    name: "c".into(),
                    address: "10.0.0.3:6443".into(),
                    witness: true,
                }],
                removed: vec![7],
            },
            cluster: 5,
            member: u64::MAX,
            installed: 6,
            installed_term: 7,
            held: 8,
            unsettled: vec![3],
        }
    }

    #[test]
    fn meta_data_come_back_whole() {
        assert_eq!(Meta::decode(sample().encode().into()).ok(), Some(sample()));
    }

    #[test]
    fn without_a_witness_an_older_version_can_read_it() {
        let mut plain = sample();
        plain.unsettled.clear();
        assert_eq!(plain.encode()[0], SETTLED);
        (plain.held, plain.installed_term) = (0, 0);
        plain.roster.peers[0].witness = false;
        assert_eq!(plain.encode()[0], WITHOUT_WITNESS);
        assert_eq!(Meta::decode(plain.encode().into()).ok(), Some(plain));
        assert_eq!(sample().encode()[0], FORMAT);
    }

    /// The bytes that the first format wrote for a group of one.
    #[test]
    fn the_first_format_is_read() {
        let old = [1, 5, 9, 40, 2, 30, 4, 1, 9, 0, 0, 0, 0];
        let meta = Meta::decode(Bytes::copy_from_slice(&old)).expect("the first format");
        assert_eq!(
            (meta.cluster, meta.member, meta.applied, meta.revision),
            (5, 9, 40, 30)
        );
        assert_eq!((meta.members.voters, meta.installed), (vec![9], 0));
    }

    #[test]
    fn what_is_newer_or_cut_is_refused() {
        let good = sample().encode();
        assert!(Meta::decode(Bytes::from_static(&[FORMAT + 1])).is_err());
        for end in 0..good.len() {
            assert!(
                Meta::decode(Bytes::copy_from_slice(&good[..end])).is_err(),
                "{end}"
            );
        }
    }
}
