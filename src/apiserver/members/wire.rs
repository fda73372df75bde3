//! What servers, and the command line, say to each other about members.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Below this path is everything about the servers of a cluster.
pub const ROOT: &str = "/apis/coracle.dev/v1";

/// `POST joins`: a server wants what it needs to become a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Its name.
    pub name: String,
    /// `HOST:PORT` at which the others will reach it.
    pub address: String,
    /// Its version.
    pub version: String,
    /// Its id, in hexadecimal digits, if it has one from an attempt before; else empty.
    #[serde(default)]
    pub id: String,
    /// Whether it shall be a witness.
    #[serde(default)]
    pub witness: bool,
}

/// The answer: the cluster's identity and secrets.
#[derive(Clone, Serialize, Deserialize)]
pub struct Handover {
    /// The cluster's id, in hexadecimal digits.
    pub cluster: String,
    /// Files by their path in the data folder. Secrets.
    pub files: BTreeMap<String, String>,
    /// Settings that all servers of the cluster share.
    pub settings: Value,
}

/// `POST members`: a server that has all it needs becomes a learner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMember {
    /// Its id, in hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `HOST:PORT` at which the others reach it.
    pub address: String,
    /// Whether it shall be a witness.
    #[serde(default)]
    pub witness: bool,
}

/// A member as `GET members` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its id, in hexadecimal digits.
    pub id: String,
    /// `HOST:PORT`; empty if it is not known yet.
    pub address: String,
    /// `voter`, `witness` (which votes too), `learner` or `leaving`.
    pub role: String,
    /// Whether it is a witness, or will be one: it serves no API.
    #[serde(default)]
    pub witness: bool,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it was heard of lately; only the leader knows.
    pub reachable: Option<bool>,
    /// How many entries of the log it is known to lack; only the leader knows.
    pub lag: Option<u64>,
}

/// `GET members`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberList {
    /// The cluster's id, in hexadecimal digits.
    pub cluster: String,
    /// The member that answers.
    pub answered_by: String,
    /// The members, by name.
    pub items: Vec<Member>,
}

/// `GET status`: how one server is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// Its id, in hexadecimal digits.
    pub id: String,
    /// Its version.
    pub version: String,
    /// The leader's id as it knows it; empty if it knows none.
    pub leader: String,
    /// The term.
    pub term: u64,
    /// Last entry known to be committed.
    pub committed: u64,
    /// Last entry applied.
    pub applied: u64,
    /// The latest revision.
    pub revision: u64,
    /// Bytes free on the disk with its data.
    pub disk_free_bytes: u64,
    /// Bytes of that disk.
    pub disk_bytes: u64,
    /// What needs somebody's attention.
    pub alarms: Vec<String>,
}

/// An id as it is written.
pub fn id_text(id: u64) -> String {
    format!("{id:x}")
}

/// Reads an id.
pub fn id_of(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok().filter(|id| *id != 0)
}
