//! As whom the server itself asks and writes.

use api::request::{Request, ResourceRef, User, Verb};

/// Its name and its group.
pub const USER: (&str, &str) = ("system:apiserver", "system:masters");

/// The server itself: what somebody has it ask for, they were allowed to.
pub fn user() -> User {
    User::new(USER.0, &[USER.1])
}

/// A request of the server's own.
pub fn request(verb: Verb, resource: ResourceRef, namespace: &str, name: &str) -> Request {
    let mut request = Request::new(user(), verb, resource, namespace, name);
    request.options.field_manager = "coracle".into();
    request
}
