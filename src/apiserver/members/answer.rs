//! Answers to requests about members.

use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use http::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::{MemberChange, Peer};

use super::Members;
use super::judge::{self, find};
use super::wire::{Handover, JoinRequest, Member, MemberList, NewMember, id_of, id_text};
use crate::body;
use crate::body::Body;
use crate::http::path::ResourcePath;
use crate::http::{Door, Incoming, reply};
use crate::registry::refuse;
use crate::version;

const GROUP: &str = "coracle.dev";
const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long leadership may take to change hands.
const HAND_OVER_MAX: Duration = Duration::from_secs(10);

/// A leader notices within this time that a server does not answer any more. Before, one that has just died
/// would still be counted on.
const LIVENESS: Duration = Duration::from_millis(1500);
/// For a moment after each count the leader has heard of nobody: so often is it asked again, so far apart.
const REMOVALS: usize = 4;
const REMOVAL_PAUSE: Duration = Duration::from_millis(130);

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    List,
    One,
    State,
    Secrets,
    Add,
    Remove,
    Promote,
    Lead,
}

impl Wanted {
    /// The verb that access is judged by.
    fn verb(self) -> &'static str {
        match self {
            Wanted::List => "list",
            Wanted::One | Wanted::State => "get",
            Wanted::Remove => "delete",
            Wanted::Secrets | Wanted::Add | Wanted::Promote | Wanted::Lead => "create",
        }
    }
}

/// Whether a path is about members.
pub fn is_about(path: &ResourcePath) -> bool {
    let place = &path.resource;
    place.group == GROUP
        && place.version == "v1"
        && matches!(place.plural.as_str(), "members" | "joins" | "status")
}

fn wanted(method: &Method, path: &ResourcePath) -> Result<Wanted, Status> {
    let parts = (
        method.as_str(),
        path.resource.plural.as_str(),
        path.name.as_str(),
        path.subresource.as_str(),
    );
    Ok(match parts {
        ("GET" | "HEAD", "members", "", "") => Wanted::List,
        ("GET" | "HEAD", "members", _, "") => Wanted::One,
        ("GET" | "HEAD", "status", "", "") => Wanted::State,
        ("POST", "joins", "", "") => Wanted::Secrets,
        ("POST", "members", "", "") => Wanted::Add,
        ("DELETE", "members", name, "") if !name.is_empty() => Wanted::Remove,
        ("POST", "members", name, "promote") if !name.is_empty() => Wanted::Promote,
        ("POST", "members", name, "lead") if !name.is_empty() => Wanted::Lead,
        (_, _, _, "" | "promote" | "lead") => {
            return Err(Status::method_not_allowed(
                GROUP,
                &path.resource.plural,
                &method.as_str().to_lowercase(),
            ));
        }
        _ => return Err(Status::no_such_path()),
    })
}

/// Answers such a request.
pub async fn answer(
    door: &Arc<Door>,
    path: ResourcePath,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    let wanted = wanted(incoming.request.method(), &path)?;
    door.authorizer
        .authorize(&path.asked(&incoming.user, wanted.verb()))
        .await?;
    let members = &door.members;
    match wanted {
        Wanted::List => json(&members.list().await?),
        Wanted::One => json(&members.one(&path.name).await?),
        Wanted::State => json(&members.state().await.map_err(refuse::status)?),
        Wanted::Secrets => json(&members.hand_over(&read(incoming).await?).await?),
        Wanted::Add => json(&members.add(&read(incoming).await?).await?),
        Wanted::Remove => json(&members.remove(&path.name).await?),
        Wanted::Promote => json(&members.promote(&path.name).await?),
        Wanted::Lead => json(&members.lead(&path.name).await?),
    }
}

async fn read<T: DeserializeOwned>(incoming: Incoming) -> Result<T, Status> {
    let bytes = body::read(incoming.request.into_body(), BODY_BYTES_MAX).await;
    let bytes = bytes.map_err(|error| Status::bad_request(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| Status::bad_request(error.to_string()))
}

fn json(value: &impl Serialize) -> Result<Response<Body>, Status> {
    let text = serde_json::to_string(value).map_err(Status::internal)?;
    Ok(reply::response(200, "application/json", text))
}

impl Members {
    /// The members as this server sees them.
    pub(crate) async fn list(&self) -> Result<MemberList, Status> {
        let status = self.store.status().await.map_err(refuse::status)?;
        Ok(judge::members(&status, &self.here))
    }

    async fn one(&self, name: &str) -> Result<Member, Status> {
        let members = self.list().await?;
        let found = find(&members, name).cloned();
        found.ok_or_else(|| Status::not_found(GROUP, "members", name))
    }

    async fn id(&self, name: &str) -> Result<(u64, Member), Status> {
        let member = self.one(name).await?;
        let id = id_of(&member.id).ok_or_else(|| Status::internal("a member without an id"))?;
        Ok((id, member))
    }

    async fn change(&self, change: MemberChange) -> Result<(), Status> {
        self.store.change_members(change).await.map_err(refuse::status)
    }

    async fn hand_over(&self, asked: &JoinRequest) -> Result<Handover, Status> {
        let members = self.list().await?;
        judge::may_join(asked, version::OURS, &members).map_err(refuse::members)?;
        let (pki, now) = (self.secrets()?, self.clock.now());
        let files = match asked.witness {
            true => pki.witness_files(&judge::witness_names(&asked.name, &asked.address), now),
            false => pki.shared_files(&self.data_dir),
        };
        let files = files.map_err(Status::internal)?;
        let JoinRequest {
            name,
            address,
            witness,
            ..
        } = asked;
        tracing::warn!(
            name,
            address,
            witness,
            "handing keys of the cluster to a new server"
        );
        Ok(Handover {
            cluster: members.cluster,
            files,
            settings: self.settings.clone(),
        })
    }

    async fn add(&self, new: &NewMember) -> Result<Member, Status> {
        let id =
            id_of(&new.id).ok_or_else(|| Status::bad_request("a member's id is a hexadecimal number"))?;
        let asked = JoinRequest {
            name: new.name.clone(),
            address: new.address.clone(),
            version: version::OURS.to_owned(),
            id: new.id.clone(),
            witness: new.witness,
        };
        let members = self.list().await?;
        judge::may_join(&asked, version::OURS, &members).map_err(refuse::members)?;
        // The answer to an earlier attempt may have been lost.
        if find(&members, &id_text(id)).is_none() {
            let peer = Peer {
                id,
                name: new.name.clone(),
                address: new.address.clone(),
                witness: new.witness,
            };
            self.change(MemberChange::Add(peer)).await?;
            tracing::info!(name = new.name, address = new.address, "a server has joined");
        }
        Ok(Member {
            name: new.name.clone(),
            id: new.id.clone(),
            address: new.address.clone(),
            role: "learner".to_owned(),
            witness: new.witness,
            ..Member::default()
        })
    }

    async fn remove(&self, name: &str) -> Result<Member, Status> {
        let (id, member) = self.id(name).await?;
        if matches!(member.role.as_str(), "voter" | "witness") {
            tokio::time::sleep(LIVENESS).await;
        }
        let mut refused = self.change(MemberChange::Remove(id)).await;
        for _ in 0..REMOVALS {
            match &refused {
                Err(status) if status.is_conflict() => {}
                _ => break,
            }
            tokio::time::sleep(REMOVAL_PAUSE).await;
            refused = self.change(MemberChange::Remove(id)).await;
        }
        refused?;
        tracing::info!(name = member.name, "a server was removed");
        Ok(member)
    }

    async fn promote(&self, name: &str) -> Result<Member, Status> {
        let (id, member) = self.id(name).await?;
        self.change(MemberChange::Promote(id)).await?;
        Ok(Member {
            role: judge::voters_role(member.witness).to_owned(),
            ..member
        })
    }

    /// Hands leadership over and waits until the other one has it.
    async fn lead(&self, name: &str) -> Result<Member, Status> {
        let (id, member) = self.id(name).await?;
        let mut leadership = self.store.leadership();
        if leadership.borrow().leader != Some(id) {
            self.change(MemberChange::Lead(id)).await?;
            let taken = leadership.wait_for(|now| now.leader == Some(id));
            let taken = tokio::time::timeout(HAND_OVER_MAX, taken).await.map(drop);
            taken.map_err(|_| {
                Status::timeout(format!(
                    "{} has not taken over yet: see `coracle status`",
                    member.name
                ))
            })?;
        }
        Ok(Member {
            leader: true,
            ..member
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::path::{Route, parse};

    fn of(method: Method, path: &str) -> Result<Wanted, u16> {
        let Route::Resource(path) = parse(path) else {
            panic!("{path}")
        };
        assert!(is_about(&path));
        wanted(&method, &path).map_err(|status| status.code)
    }

    #[test]
    fn paths_and_methods_say_what_is_wanted() {
        let root = super::super::wire::ROOT;
        let of = |method, path: &str| of(method, &format!("{root}/{path}"));
        assert_eq!(of(Method::GET, "members"), Ok(Wanted::List));
        assert_eq!(of(Method::GET, "members/n1"), Ok(Wanted::One));
        assert_eq!(of(Method::DELETE, "members/n1"), Ok(Wanted::Remove));
        assert_eq!(of(Method::DELETE, "members"), Err(405));
        assert_eq!(of(Method::POST, "members/n1/promote"), Ok(Wanted::Promote));
        assert_eq!(of(Method::POST, "members/n1/lead"), Ok(Wanted::Lead));
        assert_eq!(of(Method::POST, "members/n1/other"), Err(404));
        assert_eq!(of(Method::PUT, "members/n1"), Err(405));
        assert_eq!(of(Method::GET, "status"), Ok(Wanted::State));
    }
}
