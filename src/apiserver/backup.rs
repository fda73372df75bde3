//! `GET /apis/coracle.dev/v1/backup`: everything that the cluster is made of, as one
//! file, while it works. The keys of the cluster are in it, so who may `get`
//! `backup` in `coracle.dev` may do everything.

use std::sync::Arc;

use api::status::Status;
use bytes::Bytes;
use futures_util::stream;
use http::Response;
use store::Backup;

use crate::body::streamed;
use crate::body::{Body, BoxError};
use crate::http::path::ResourcePath;
use crate::http::{Door, Incoming};
use crate::registry::refuse;

const GROUP: &str = "coracle.dev";

/// Whether a path is about backups.
pub fn is_about(path: &ResourcePath) -> bool {
    let place = &path.resource;
    (
        place.group.as_str(),
        place.version.as_str(),
        place.plural.as_str(),
    ) == (GROUP, "v1", "backup")
}

/// Answers such a request.
///
/// # Errors
/// When it is not a plain GET by somebody who may, or the store cannot answer.
pub async fn answer(
    door: &Arc<Door>,
    path: ResourcePath,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    if !path.name.is_empty() || !path.subresource.is_empty() {
        return Err(Status::no_such_path());
    }
    if incoming.request.method() != http::Method::GET {
        let method = incoming.request.method().as_str().to_lowercase();
        return Err(Status::method_not_allowed(GROUP, "backup", &method));
    }
    let asked = path.asked(&incoming.user, "get");
    door.authorizer.authorize(&asked).await?;
    let members = &door.members;
    let files = members
        .secrets()?
        .shared_files(&members.data_dir)
        .map_err(Status::internal)?;
    let backup = members.store.backup(&files).await.map_err(refuse::status)?;
    tracing::warn!(
        user = incoming.user.name,
        "a backup with the cluster's keys is handed out"
    );
    let answer = Response::builder()
        .header(http::header::CONTENT_TYPE, "application/octet-stream")
        .header(http::header::CACHE_CONTROL, "no-store");
    answer.body(streamed(chunks(backup))).map_err(Status::internal)
}

/// The backup's bytes, as fast as they are taken. An error breaks the answer
/// off, and what has come of it is refused by whoever reads it.
fn chunks(backup: Backup) -> impl futures_util::Stream<Item = Result<Bytes, BoxError>> {
    stream::unfold(Some(backup), |backup| async move {
        let mut backup = backup?;
        // The disk sets the pace, so not on a thread that others need.
        let read = tokio::task::spawn_blocking(move || {
            let bytes = backup.next_bytes();
            (bytes, backup)
        });
        match read.await {
            Ok((Ok(bytes), _)) if bytes.is_empty() => None,
            Ok((Ok(bytes), backup)) => Some((Ok(bytes.into()), Some(backup))),
            Ok((Err(error), _)) => Some((Err(error.into()), None)),
            Err(error) => Some((Err(error.into()), None)),
        }
    })
}
