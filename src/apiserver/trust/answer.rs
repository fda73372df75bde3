//! Answers to requests about the cluster's secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::status::Status;
use client::link::{Authorities, TRUST_ANNOTATION};
use http::{Method, Response};
use serde::Serialize;
use serde_json::Value;
use store::Expect;

use super::wire::{AUTHORITIES, TrustItem, TrustList};
use super::{record, waiting};
use crate::body::Body;
use crate::http::path::ResourcePath;
use crate::http::{Door, Incoming, reply};
use crate::pki::{Item, Pki, Secret, State, Step, StepError, Trust};
use crate::registry::refuse;

const GROUP: &str = "coracle.dev";
/// The longest time for which an old token may stay good, in seconds.
const GRACE_MAX: i64 = 366 * 86_400;

/// Whether a path is about the cluster's secrets.
pub fn is_about(path: &ResourcePath) -> bool {
    let place = &path.resource;
    place.group == GROUP && place.version == "v1" && matches!(place.plural.as_str(), "trust" | AUTHORITIES)
}

/// What a request wants.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    List,
    Authorities,
    Step { secrets: Vec<Secret>, step: Step },
}

/// Answers such a request.
///
/// # Errors
/// When it is not for whoever asks, makes no sense, or is not its turn.
pub async fn answer(
    door: &Arc<Door>,
    path: ResourcePath,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    let grace = incoming.query.get("grace").unwrap_or("0");
    let grace = grace.parse().ok().filter(|grace| (0..=GRACE_MAX).contains(grace));
    let grace =
        grace.ok_or_else(|| Status::bad_request("grace is a number of seconds, of a year at most"))?;
    let wanted = wanted(incoming.request.method(), &path, grace)?;
    let verb = match wanted {
        Wanted::Step { .. } => "create",
        _ => "get",
    };
    door.authorizer
        .authorize(&path.asked(&incoming.user, verb))
        .await?;
    let changes = Changes {
        door,
        pki: door.members.secrets()?,
    };
    match wanted {
        Wanted::List => json(&changes.list().await?),
        Wanted::Authorities => json(&changes.authorities()),
        Wanted::Step { secrets, step } => {
            let force = incoming.query.get("force") == Some("true");
            tracing::warn!(
                user = incoming.user.name,
                name = path.name,
                ?step,
                force,
                "the cluster's keys change"
            );
            changes.step(&secrets, step, force).await?;
            json(&changes.list().await?)
        }
    }
}

fn wanted(method: &Method, path: &ResourcePath, grace: i64) -> Result<Wanted, Status> {
    let plural = path.resource.plural.as_str();
    let parts = (
        method.as_str(),
        plural,
        path.name.as_str(),
        path.subresource.as_str(),
    );
    match parts {
        ("GET" | "HEAD", "trust", "", "") => Ok(Wanted::List),
        ("GET" | "HEAD", AUTHORITIES, "", "") => Ok(Wanted::Authorities),
        ("POST", "trust", name, step) if !name.is_empty() => {
            let step = Step::named(step, grace).ok_or_else(Status::no_such_path)?;
            let authorities = || Secret::ALL.into_iter().filter(|secret| secret.is_authority());
            let secrets = match name {
                AUTHORITIES => authorities().collect(),
                name => vec![Secret::named(name).ok_or_else(|| Status::not_found(GROUP, "trust", name))?],
            };
            Ok(Wanted::Step { secrets, step })
        }
        (_, _, _, "") => Err(Status::method_not_allowed(
            GROUP,
            plural,
            &method.as_str().to_lowercase(),
        )),
        _ => Err(Status::no_such_path()),
    }
}

fn json(value: &impl Serialize) -> Result<Response<Body>, Status> {
    let text = serde_json::to_string(value).map_err(Status::internal)?;
    Ok(reply::response(200, "application/json", text))
}

/// What is needed to tell of the secrets and to change them.
struct Changes<'a> {
    door: &'a Door,
    pki: &'a Pki,
}

impl Changes<'_> {
    fn authorities(&self) -> Authorities {
        let keys = self.pki.now();
        Authorities {
            generation: keys.generation(),
            serving: keys.serving_ca.bundle().to_owned(),
            clients: keys.client_ca.bundle().to_owned(),
        }
    }

    /// The document as the group has agreed on it, and what must hold for the next one to be written.
    async fn agreed(&self) -> Result<(Trust, Expect), Status> {
        let keys = self.pki.now();
        let stored = self.door.members.store.get(record::KEY).await;
        match stored.map_err(refuse::status)? {
            Some(entry) => {
                let trust = record::read(&entry.text, &keys.trust.seal).map_err(Status::internal)?;
                Ok((trust, Expect::Revision(entry.revision)))
            }
            None => Ok((keys.trust.clone(), Expect::Absent)),
        }
    }

    async fn list(&self) -> Result<TrustList, Status> {
        let (trust, _) = self.agreed().await?;
        let behind = self.behind(trust.generation).await?;
        Ok(TrustList {
            generation: trust.generation,
            items: shown(&trust, self.door.clock.now().as_second()),
            servers: [behind.servers, behind.witnesses].concat(),
            nodes: behind.nodes,
        })
    }

    /// Who has not taken up that generation.
    async fn behind(&self, generation: u64) -> Result<Behind, Status> {
        let store = &self.door.members.store;
        let status = store.status().await.map_err(refuse::status)?;
        let (_, said) = store.peek_prefix(record::TAKEN);
        let said = said
            .iter()
            .filter_map(|entry| record::read_taken(&entry.key, &entry.text));
        let said = said.collect::<BTreeMap<_, _>>();
        let servers = waiting::servers(&status, &said, &self.door.members.here.name);
        let witnesses = waiting::witnesses(&status, &said);
        let mut nodes = self.nodes();
        // The node of a server is in the same process.
        nodes.retain(|node| servers.iter().all(|server| server.name != node.name));
        Ok(Behind {
            servers: waiting::behind(&servers, generation),
            witnesses: waiting::behind(&witnesses, generation),
            nodes: waiting::behind(&nodes, generation),
        })
    }

    fn nodes(&self) -> Vec<waiting::Party> {
        let found = self.door.lookup.selected("", "nodes", "", "", "");
        let nodes = found
            .iter()
            .filter_map(|found| serde_json::from_slice(&found.text).ok());
        nodes
            .map(|node: Value| {
                let metadata = &node["metadata"];
                let said = metadata["annotations"][TRUST_ANNOTATION].as_str();
                waiting::Party {
                    name: metadata["name"].as_str().unwrap_or_default().to_owned(),
                    taken: said.and_then(|text| text.parse().ok()),
                }
            })
            .collect()
    }

    async fn step(&self, secrets: &[Secret], step: Step, force: bool) -> Result<(), Status> {
        let (trust, expect) = self.agreed().await?;
        let next = trust.after(step, secrets, force, self.door.clock.now());
        let next = next.map_err(|error| match error {
            StepError::OutOfOrder(why) => refuse::members(why),
            StepError::Make(error) => Status::internal(error),
        })?;
        if step.waits_for_all() && !force {
            let behind = self.behind(trust.generation).await?.concerning(secrets);
            let servers = [behind.servers, behind.witnesses].concat();
            if let Some(advice) = waiting::advice(&servers, &behind.nodes) {
                return Err(refuse::members(advice));
            }
        }
        let op = record::write(&next, expect).map_err(Status::internal)?;
        let written = self.door.members.store.commit(vec![op]).await;
        written.map(drop).map_err(refuse::status)
    }
}

/// The names of those who are behind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Behind {
    servers: Vec<String>,
    witnesses: Vec<String>,
    nodes: Vec<String>,
}

impl Behind {
    /// Those to whom a step with these secrets matters: they prove themselves by one of them, or trust it.
    fn concerning(self, secrets: &[Secret]) -> Self {
        let if_any =
            |names: Vec<String>, theirs: &[Secret]| match secrets.iter().any(|one| theirs.contains(one)) {
                true => names,
                false => Vec::new(),
            };
        Self {
            servers: self.servers,
            witnesses: if_any(
                self.witnesses,
                &[Secret::ClientCa, Secret::PeerCa, Secret::ServingCa],
            ),
            nodes: if_any(self.nodes, &[Secret::ClientCa, Secret::ServingCa]),
        }
    }
}

/// The keys of all secrets that are good at that time, without what is secret of them.
fn shown(trust: &Trust, now: i64) -> Vec<TrustItem> {
    let mut shown = Vec::new();
    for secret in Secret::ALL {
        let mut items: Vec<&Item> = trust
            .of(secret)
            .iter()
            .filter(|item| !item.is_over(now))
            .collect();
        items.sort_by_key(|item| item.state);
        shown.extend(items.into_iter().map(|item| TrustItem {
            secret: secret.name().to_owned(),
            state: word(item.state).to_owned(),
            id: item.id(),
            since: item.since,
            ends: item.until.or_else(|| item.certificate_ends()),
        }));
    }
    shown
}

fn word(state: State) -> &'static str {
    match state {
        State::Active => "active",
        State::Next => "next",
        State::Retiring => "retiring",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::path::{Route, parse};

    fn of(method: Method, path: &str) -> Result<Wanted, u16> {
        let Route::Resource(path) = parse(&format!("/apis/coracle.dev/v1/{path}")) else {
            panic!("{path}")
        };
        assert!(is_about(&path));
        wanted(&method, &path, 5).map_err(|status| status.code)
    }

    #[test]
    fn nobody_is_waited_for_whom_a_step_does_not_concern() {
        let names = |name: &str| vec![name.to_owned()];
        let waited_for = |secrets: &[Secret]| {
            let behind = Behind {
                servers: names("s"),
                witnesses: names("w"),
                nodes: names("n"),
            };
            let behind = behind.concerning(secrets);
            [behind.servers, behind.witnesses, behind.nodes].concat().concat()
        };
        assert_eq!(waited_for(&[Secret::ServiceAccountKey]), "s");
        assert_eq!(waited_for(&[Secret::FrontProxyCa]), "s");
        assert_eq!(waited_for(&[Secret::PeerCa]), "sw");
        assert_eq!(waited_for(&[Secret::FrontProxyCa, Secret::ServingCa]), "swn");
    }

    #[test]
    fn paths_and_methods_say_what_is_wanted() {
        assert_eq!(of(Method::GET, "trust"), Ok(Wanted::List));
        assert_eq!(of(Method::GET, "authorities"), Ok(Wanted::Authorities));
        let step = |secrets: &[Secret], step| {
            Ok(Wanted::Step {
                secrets: secrets.to_vec(),
                step,
            })
        };
        assert_eq!(
            of(Method::POST, "trust/agent-token/rotate"),
            step(&[Secret::AgentToken], Step::Rotate { grace: 5 })
        );
        let all = [
            Secret::ClientCa,
            Secret::PeerCa,
            Secret::ServingCa,
            Secret::FrontProxyCa,
        ];
        assert_eq!(
            of(Method::POST, "trust/authorities/prepare"),
            step(&all, Step::Prepare)
        );
        assert_eq!(of(Method::POST, "trust/nothing/prepare"), Err(404));
        assert_eq!(of(Method::POST, "trust/client-ca/burn"), Err(404));
        assert_eq!(of(Method::DELETE, "trust/client-ca"), Err(405));
    }
}
