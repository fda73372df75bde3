//! What is asked of a driver about snapshots, and what volumes are filled with.

use std::collections::HashMap;

/// Make a snapshot.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreateSnapshotRequest {
    /// Of which volume.
    #[prost(string, tag = "1")]
    pub source_volume_id: String,
    /// Its name; the same name is the same snapshot.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Credentials.
    #[prost(map = "string, string", tag = "3")]
    pub secrets: HashMap<String, String>,
    /// Of the VolumeSnapshotClass.
    #[prost(map = "string, string", tag = "4")]
    pub parameters: HashMap<String, String>,
}

/// A snapshot was made, or is being made.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreateSnapshotResponse {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub snapshot: Option<Snapshot>,
}

/// A snapshot.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Snapshot {
    /// How many bytes a volume made from it has at least; 0 if that is not known.
    #[prost(int64, tag = "1")]
    pub size_bytes: i64,
    /// What the driver knows it by.
    #[prost(string, tag = "2")]
    pub snapshot_id: String,
    /// The volume that it was made of.
    #[prost(string, tag = "3")]
    pub source_volume_id: String,
    /// As of when it is.
    #[prost(message, optional, tag = "4")]
    pub creation_time: Option<Moment>,
    /// Whether volumes can be made from it; until then the same is asked again.
    #[prost(bool, tag = "5")]
    pub ready_to_use: bool,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Moment {
    /// Since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// And a part of one.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// Remove a snapshot.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeleteSnapshotRequest {
    /// Which.
    #[prost(string, tag = "1")]
    pub snapshot_id: String,
    /// Credentials.
    #[prost(map = "string, string", tag = "2")]
    pub secrets: HashMap<String, String>,
}

/// It is gone.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeleteSnapshotResponse {}

/// Which snapshots are there?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListSnapshotsRequest {
    /// How many may be named; 0 for all.
    #[prost(int32, tag = "1")]
    pub max_entries: i32,
    /// Where to go on.
    #[prost(string, tag = "2")]
    pub starting_token: String,
    /// Only those of a volume.
    #[prost(string, tag = "3")]
    pub source_volume_id: String,
    /// Only one.
    #[prost(string, tag = "4")]
    pub snapshot_id: String,
    /// Credentials.
    #[prost(map = "string, string", tag = "5")]
    pub secrets: HashMap<String, String>,
}

/// The snapshots.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListSnapshotsResponse {
    /// Each of them.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<SnapshotEntry>,
    /// Where the next ones begin; empty if there are none.
    #[prost(string, tag = "2")]
    pub next_token: String,
}

/// One of several snapshots.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SnapshotEntry {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub snapshot: Option<Snapshot>,
}

/// What a volume is filled with when it is made.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VolumeContentSource {
    /// A snapshot or a volume.
    #[prost(oneof = "ContentSource", tags = "1, 2")]
    pub r#type: Option<ContentSource>,
}

/// A snapshot or a volume.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum ContentSource {
    /// What a snapshot has.
    #[prost(message, tag = "1")]
    Snapshot(SnapshotSource),
    /// What a volume has at the moment.
    #[prost(message, tag = "2")]
    Volume(VolumeSource),
}

/// What a snapshot has.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SnapshotSource {
    /// Which.
    #[prost(string, tag = "1")]
    pub snapshot_id: String,
}

/// What a volume has.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VolumeSource {
    /// Which.
    #[prost(string, tag = "1")]
    pub volume_id: String,
}

crate::calls! {
    CreateSnapshotRequest => "/csi.v1.Controller/CreateSnapshot" => CreateSnapshotResponse;
    DeleteSnapshotRequest => "/csi.v1.Controller/DeleteSnapshot" => DeleteSnapshotResponse;
    ListSnapshotsRequest => "/csi.v1.Controller/ListSnapshots" => ListSnapshotsResponse;
}
