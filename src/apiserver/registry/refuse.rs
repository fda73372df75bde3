//! What the store's failures are called in the API.

use api::status::{Cause, Details, Status};
use store::StoreError;

/// A store's failure as a status. Lost preconditions are for the caller, who knows what was asked.
pub(crate) fn status(error: StoreError) -> Status {
    match error {
        StoreError::Compacted { oldest } => too_old(0, oldest),
        StoreError::Future { asked, current } => too_large(asked, current),
        StoreError::TooLarge { .. } => Status::new(
            413,
            "RequestEntityTooLarge",
            "Request entity too large: limit is 3145728",
        ),
        StoreError::Uncertain => {
            let mut status = Status::timeout("the write may or may not have happened: leadership was lost");
            retry_after(&mut status, 1);
            status
        }
        StoreError::NoLeader { .. } => {
            let mut status = Status::unavailable(error.to_string());
            retry_after(&mut status, 1);
            status
        }
        StoreError::Full { .. } => Status::new(507, "InsufficientStorage", error.to_string()),
        // Without a time to try again: the disk's owner must do something first.
        StoreError::Unwritable { .. } => Status::unavailable(error.to_string()),
        StoreError::NotLeader { .. } | StoreError::Removed | StoreError::Closed | StoreError::Stopped(_) => {
            let mut status = Status::unavailable(format!("the store cannot answer: {error}"));
            retry_after(&mut status, 1);
            status
        }
        StoreError::Membership(why) => members(why),
        StoreError::Precondition { .. } => Status::new(
            409,
            "Conflict",
            "the object was changed at the same time; try again",
        ),
        other => {
            tracing::error!(error = %other, "the store failed");
            Status::internal(other)
        }
    }
}

/// 409 for a change of the members that must not be made.
pub(crate) fn members(why: String) -> Status {
    Status::new(409, "Conflict", why)
}

/// 410 for a watch or list from a revision that is gone.
pub(super) fn too_old(asked: u64, oldest: u64) -> Status {
    Status::expired(format!("too old resource version: {asked} ({oldest})"))
}

/// 504 for a revision that has not happened yet.
pub(super) fn too_large(asked: u64, current: u64) -> Status {
    let text = format!("Timeout: Too large resource version: {asked}, current: {current}");
    let mut status = Status::timeout(text);
    let cause = Cause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        field: String::new(),
    };
    status.details = Some(Box::new(Details {
        causes: vec![cause],
        retry_after_seconds: 1,
        ..Details::default()
    }));
    status
}

/// Says when to try again.
pub(super) fn retry_after(status: &mut Status, seconds: u32) {
    status.details.get_or_insert_default().retry_after_seconds = seconds;
}

/// 415 for a strategic merge patch of a custom kind, whose lists have no merge keys.
pub(super) fn no_strategic_merge() -> Status {
    Status::new(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
    )
}
