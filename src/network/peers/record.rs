//! The peers on disk: with them the ways come back after a start without a
//! server. Written when they change, as a whole or not at all.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Peer;

const FILE: &str = "peers";
/// Of the file's format.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    peers: Vec<Peer>,
}

/// The peers that were known last; none if there is no record that makes sense.
pub(crate) fn read(state_dir: &Path) -> Vec<Peer> {
    let text = std::fs::read_to_string(state_dir.join(FILE)).unwrap_or_default();
    let record = serde_json::from_str::<Record>(&text).ok();
    record
        .filter(|record| record.version == VERSION)
        .map(|record| record.peers)
        .unwrap_or_default()
}

/// Keeps the peers.
pub(crate) fn write(state_dir: &Path, peers: &[Peer]) -> io::Result<()> {
    let record = Record {
        version: VERSION,
        peers: peers.to_vec(),
    };
    let (path, new) = (state_dir.join(FILE), state_dir.join("peers.new"));
    std::fs::write(&new, serde_json::to_string(&record)?)?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::PodRouting;

    #[test]
    fn what_was_kept_is_there_again_and_nonsense_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).is_empty());
        let peers = [Peer {
            name: "b".into(),
            ranges: "10.64.16.0/20,fd00:64::1:0/112".parse().unwrap(),
            addresses: vec![[192, 0, 2, 11].into()],
            routing: PodRouting::Auto,
        }];
        write(dir.path(), &peers).unwrap();
        assert_eq!(read(dir.path()), peers);
        let newer = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        let newer = newer.replace("\"version\":1", "\"version\":2");
        std::fs::write(dir.path().join(FILE), newer).unwrap();
        assert!(read(dir.path()).is_empty());
        std::fs::write(dir.path().join(FILE), "what?").unwrap();
        assert!(read(dir.path()).is_empty());
    }
}
