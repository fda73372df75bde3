//! The few messages of etcd's API (`etcdserverpb`, version 3) that the load needs, and the paths of its calls.

use bytes::Bytes;
use prost::Message;

/// Writes a key.
pub const PUT: &str = "/etcdserverpb.KV/Put";
/// Reads a key, or all keys of a range.
pub const RANGE: &str = "/etcdserverpb.KV/Range";
/// Follows keys.
pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// Who is asked, and who leads.
pub const STATUS: &str = "/etcdserverpb.Maintenance/Status";
/// Hands leadership over; the leader is asked.
pub const MOVE_LEADER: &str = "/etcdserverpb.Maintenance/MoveLeader";
/// Not etcd's: takes a new member into our store's group.
pub const JOIN: &str = "/coracle.bench/Join";

/// What every answer begins with.
#[derive(Clone, PartialEq, Message)]
pub struct ResponseHeader {
    #[prost(uint64, tag = "1")]
    pub cluster_id: u64,
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    #[prost(int64, tag = "3")]
    pub revision: i64,
    #[prost(uint64, tag = "4")]
    pub raft_term: u64,
}

/// A key as it is.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(int64, tag = "2")]
    pub create_revision: i64,
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    #[prost(int64, tag = "4")]
    pub version: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
}

/// Asks for [`PUT`].
#[derive(Clone, PartialEq, Message)]
pub struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// Answers [`PUT`], [`MOVE_LEADER`] and [`JOIN`].
#[derive(Clone, PartialEq, Message)]
pub struct PutResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
}

/// Asks for [`RANGE`].
#[derive(Clone, PartialEq, Message)]
pub struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// The end of the range; empty for one key.
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
}

/// Answers [`RANGE`].
#[derive(Clone, PartialEq, Message)]
pub struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<KeyValue>,
    #[prost(bool, tag = "3")]
    pub more: bool,
    #[prost(int64, tag = "4")]
    pub count: i64,
}

/// Begins [`WATCH`].
#[derive(Clone, PartialEq, Message)]
pub struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    pub create: Option<WatchCreateRequest>,
}

/// What is to be followed.
#[derive(Clone, PartialEq, Message)]
pub struct WatchCreateRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    #[prost(int64, tag = "3")]
    pub start_revision: i64,
}

/// What comes of [`WATCH`].
#[derive(Clone, PartialEq, Message)]
pub struct WatchResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(int64, tag = "2")]
    pub watch_id: i64,
    #[prost(bool, tag = "3")]
    pub created: bool,
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<Event>,
}

/// A change of a key.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// 0 for a write, 1 for a deletion.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(message, optional, tag = "2")]
    pub kv: Option<KeyValue>,
}

/// Asks for [`STATUS`].
#[derive(Clone, PartialEq, Message)]
pub struct StatusRequest {}

/// Answers [`STATUS`].
#[derive(Clone, PartialEq, Message)]
pub struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    pub leader: u64,
}

/// Asks for [`MOVE_LEADER`].
#[derive(Clone, PartialEq, Message)]
pub struct MoveLeaderRequest {
    #[prost(uint64, tag = "1")]
    pub target_id: u64,
}

/// Asks for [`JOIN`].
#[derive(Clone, PartialEq, Message)]
pub struct JoinRequest {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub address: String,
}

/// Where a range ends that holds all keys with this prefix, which ends with a character that has a next one.
pub fn past(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// A message as gRPC frames it: not compressed, its length, its bytes.
pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = Vec::with_capacity(length + 5);
    out.push(0);
    out.extend_from_slice(&(length as u32).to_be_bytes());
    message.encode_raw(&mut out);
    out.into()
}

/// Takes the first whole message from the front of `bytes`, if there is one.
pub fn unframe<M: Message + Default>(bytes: &mut bytes::BytesMut) -> anyhow::Result<Option<M>> {
    let Some(&[_, a, b, c, d]) = bytes.first_chunk::<5>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if bytes.len() < 5 + length {
        return Ok(None);
    }
    let _ = bytes.split_to(5);
    Ok(Some(M::decode(bytes.split_to(length).freeze())?))
}
