//! Snapshots as copies of folders, which take the driver a second look to be ready.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use plugins::Status;
use plugins::csi::{
    ContentSource, CreateSnapshotRequest, CreateSnapshotResponse, DeleteSnapshotRequest,
    DeleteSnapshotResponse, ListSnapshotsRequest, ListSnapshotsResponse, Moment, Snapshot, SnapshotEntry,
    VolumeContentSource,
};

use crate::volumes::Volumes;

/// While this is there, nothing more fits.
const FULL: &str = "full";

impl Volumes {
    /// The folder that is a snapshot.
    fn kept_at(&self, id: &str) -> PathBuf {
        self.folder.join("snapshots").join(id)
    }

    pub fn cut(&self, r: CreateSnapshotRequest) -> Result<CreateSnapshotResponse, Status> {
        self.note(format!(
            "CreateSnapshot {} of {} {:?} {:?}",
            r.name, r.source_volume_id, r.parameters, r.secrets
        ));
        if self.folder.join(FULL).exists() {
            return Err(Status::resource_exhausted("no room for snapshots"));
        }
        let (id, kept) = (
            format!("kept-{}", r.name),
            self.kept_at(&format!("kept-{}", r.name)),
        );
        let ready = kept.exists();
        if !ready {
            copy(&self.at(&r.source_volume_id), &kept).map_err(failed)?;
            self.set_size(&id, "size", self.size(&r.source_volume_id, "size"));
        }
        Ok(CreateSnapshotResponse {
            snapshot: Some(self.snapshot(&id, ready).map_err(failed)?),
        })
    }

    fn snapshot(&self, id: &str, ready: bool) -> std::io::Result<Snapshot> {
        let made = fs::metadata(self.kept_at(id))?.modified()?;
        let since = made.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Snapshot {
            size_bytes: self.size(id, "size"),
            snapshot_id: id.to_owned(),
            creation_time: Some(Moment {
                seconds: since.as_secs() as i64,
                nanos: since.subsec_nanos() as i32,
            }),
            ready_to_use: ready,
            ..Snapshot::default()
        })
    }

    pub fn drop_snapshot(&self, r: DeleteSnapshotRequest) -> Result<DeleteSnapshotResponse, Status> {
        self.note(format!("DeleteSnapshot {} {:?}", r.snapshot_id, r.secrets));
        let _ = fs::remove_dir_all(self.kept_at(&r.snapshot_id));
        Ok(DeleteSnapshotResponse {})
    }

    pub fn list_snapshots(&self, r: ListSnapshotsRequest) -> Result<ListSnapshotsResponse, Status> {
        self.note(format!("ListSnapshots {}", r.snapshot_id));
        let found = self.snapshot(&r.snapshot_id, true).ok();
        let entry = found.map(|snapshot| SnapshotEntry {
            snapshot: Some(snapshot),
        });
        Ok(ListSnapshotsResponse {
            entries: entry.into_iter().collect(),
            next_token: String::new(),
        })
    }

    /// Fills a new volume.
    pub fn fill(&self, id: &str, source: Option<&VolumeContentSource>) -> Result<(), Status> {
        let from = match source.and_then(|source| source.r#type.as_ref()) {
            Some(ContentSource::Snapshot(snapshot)) => self.kept_at(&snapshot.snapshot_id),
            Some(ContentSource::Volume(volume)) => self.at(&volume.volume_id),
            None => return Ok(()),
        };
        copy(&from, &self.at(id)).map_err(failed)
    }
}

fn failed(error: std::io::Error) -> Status {
    Status::internal(error.to_string())
}

/// Copies a folder of files, so that the copy is there when it is whole.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let unfinished = to.with_extension(format!("{nanos}.unfinished"));
    fs::create_dir_all(&unfinished)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        fs::copy(file.path(), unfinished.join(file.file_name()))?;
    }
    fs::rename(unfinished, to)
}
