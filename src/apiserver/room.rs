//! The store's room, as an administrator cares for it: `POST /apis/coracle.dev/v1/store/compact?revision=N` forgets
//! what was before a revision, on all servers; `POST store/defragment` makes the files of the server that answers
//! smaller. Both go on beside everything else, and the store does both by itself too: for who wants it now.

use std::sync::Arc;

use api::status::Status;
use http::{Method, Response};
use serde::{Deserialize, Serialize};

use crate::body::Body;
use crate::http::path::ResourcePath;
use crate::http::{Door, Incoming, reply};
use crate::registry::refuse;

const GROUP: &str = "coracle.dev";

/// The answer to `store/compact`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// What was before this revision is forgotten.
    pub revision: u64,
}

/// The answer to `store/defragment`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Defragmented {
    /// Bytes of the files before.
    pub file_bytes_before: u64,
    /// Bytes of the files now.
    pub file_bytes: u64,
}

/// Whether a path is about the store's room.
pub fn is_about(path: &ResourcePath) -> bool {
    let place = &path.resource;
    place.group == GROUP && place.version == "v1" && place.plural == "store"
}

/// Answers such a request.
///
/// # Errors
/// When it is not for whoever asks, or cannot be done.
pub async fn answer(
    door: &Arc<Door>,
    path: ResourcePath,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    if incoming.request.method() != Method::POST {
        let method = incoming.request.method().as_str().to_lowercase();
        return Err(Status::method_not_allowed(GROUP, "store", &method));
    }
    let asked = path.asked(&incoming.user, "create");
    door.authorizer.authorize(&asked).await?;
    let store = &door.members.store;
    match (path.name.as_str(), path.subresource.as_str()) {
        ("compact", "") => {
            let latest = store.revision();
            let revision = incoming.query.get("revision").map(str::parse).transpose();
            let revision = revision.map_err(|_| Status::bad_request("revision is a number"))?;
            let revision = revision.unwrap_or(latest);
            if revision > latest {
                let why = format!("revision {revision} has not happened yet: the latest is {latest}");
                return Err(Status::bad_request(why));
            }
            store.compact(revision).await.map_err(refuse::status)?;
            json(&Compacted { revision })
        }
        ("defragment", "") => {
            let (before, after) = store.defragment().await.map_err(refuse::status)?;
            json(&Defragmented {
                file_bytes_before: before.file_bytes,
                file_bytes: after.file_bytes,
            })
        }
        _ => Err(Status::no_such_path()),
    }
}

fn json(value: &impl Serialize) -> Result<Response<Body>, Status> {
    let text = serde_json::to_string(value).map_err(Status::internal)?;
    Ok(reply::response(200, "application/json", text))
}
