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
use crate::http::path::ResourcePath;
use crate::http::{Door, Incoming, reply};
use crate::nodes::Body;
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
        let (servers, nodes) = self.behind(trust.generation).await?;
        Ok(TrustList {
            generation: trust.generation,
            items: shown(&trust, self.door.clock.now().as_second()),
            servers,
            nodes,
        })
    }

    /// The servers and the nodes that have not taken up that generation.
    async fn behind(&self, generation: u64) -> Result<(Vec<String>, Vec<String>), Status> {
        let store = &self.door.members.store;
        let status = store.status().await.map_err(refuse::status)?;
        let (_, said) = store.peek_prefix(record::TAKEN);
        let said = said
            .iter()
            .filter_map(|entry| record::read_taken(&entry.key, &entry.text));
        let servers = waiting::servers(&status, &said.collect::<BTreeMap<_, _>>());
        let mut nodes = self.nodes();
        // The node of a server is in the same process.
        nodes.retain(|node| servers.iter().all(|server| server.name != node.name));
        Ok((
            waiting::behind(&servers, generation),
            waiting::behind(&nodes, generation),
        ))
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
            let (servers, mut nodes) = self.behind(trust.generation).await?;
            if !secrets.iter().any(|secret| concerns_nodes(*secret)) {
                nodes.clear();
            }
            if let Some(advice) = waiting::advice(&servers, &nodes) {
                return Err(refuse::members(advice));
            }
        }
        if secrets.iter().any(|secret| secret.is_authority()) {
            self.without_witness().await?;
        }
        let op = record::write(&next, expect).map_err(Status::internal)?;
        let written = self.door.members.store.commit(vec![op]).await;
        written.map(drop).map_err(refuse::status)
    }

    /// A witness gets its keys when it joins and no others after.
    async fn without_witness(&self) -> Result<(), Status> {
        let status = self.door.members.store.status().await.map_err(refuse::status)?;
        match status.peers.iter().find(|peer| peer.witness) {
            Some(witness) => Err(refuse::members(format!(
                "the witness {0} would be left behind: remove it (`coracle member remove {0}`), change the authorities, \
                 and join a witness anew",
                witness.name
            ))),
            None => Ok(()),
        }
    }
}

/// Whether nodes prove themselves by that secret or trust it.
fn concerns_nodes(secret: Secret) -> bool {
    matches!(secret, Secret::ClientCa | Secret::ServingCa)
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
