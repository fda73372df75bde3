//! MutatingAdmissionPolicy: expressions that change the object.

use api::cel::{Scope, to_json};
use api::kind::KindRef;
use api::status::{Cause, Status};
use api::{apply, patch};
use serde_json::Value;

use super::policy::{Mutation, Work};
use super::turn::{Bound, Misfit, Turn, turns};
use crate::admission::World;
use crate::admission::dynamic::again::Again;
use crate::admission::dynamic::around::Around;
use crate::admission::dynamic::conditions::TOTAL_COST_MAX;
use crate::admission::dynamic::seen::Seen;
use crate::admission::dynamic::settled::settled;
use crate::admission::dynamic::shape;
use crate::admission::dynamic::shown::Shown;
use crate::admission::dynamic::subject::{Objects, Subject};

/// Lets policies change the object. True when one did.
///
/// # Errors
/// 403 for what cannot be evaluated, unless the policy may be left out then.
pub async fn mutate(
    bound: &[Bound],
    subject: &Subject,
    object: &mut Value,
    old: Option<&Value>,
    around: Around<'_>,
    again: &mut Again,
) -> Result<bool, Status> {
    let objects = Objects {
        new: Some(object),
        old,
    };
    let (turns, mut misfits) = turns(bound, subject, objects, around);
    let mut changed = false;
    for turn in turns {
        let id = id(&turn);
        if again.skips(&id) {
            continue;
        }
        let objects = Objects {
            new: Some(object),
            old,
        };
        let made = match one(&turn, subject, objects, around).await {
            Ok(made) => made.filter(|new| new != object),
            Err(why) => {
                misfits.push(Misfit {
                    policy: turn.policy,
                    binding: Some(turn.binding),
                    why,
                });
                None
            }
        };
        let wishes = matches!(turn.policy.work, Work::Mutate(_, true));
        again.asked(&id, wishes, made.is_some());
        if let Some(new) = made {
            (*object, changed) = (new, true);
        }
    }
    refusal(subject, &misfits).map_or(Ok(changed), Err)
}

fn id(turn: &Turn<'_>) -> String {
    let parameter = api::object::name(&turn.parameter);
    format!("{}/{}/{parameter}", turn.policy.name, turn.binding.name)
}

/// What one policy makes of the object; `None` when it leaves it alone.
async fn one(
    turn: &Turn<'_>,
    subject: &Subject,
    objects: Objects<'_>,
    around: Around<'_>,
) -> Result<Option<Value>, String> {
    if !matches!(turn.policy.work, Work::Mutate(..)) {
        return Ok(None);
    }
    let shown = Shown::of(around.outbound, subject, objects, &turn.kind).await;
    let shown = shown.map_err(|status| status.message)?;
    let objects = shown.objects(objects);
    let made = settled(around.world, |world| made(turn, subject, objects, world)).await?;
    let Some(object) = made else {
        return Ok(None);
    };
    let back = shown.back(around.outbound, object, subject, &turn.kind).await;
    back.map(Some).map_err(|status| status.message)
}

/// What a policy makes of the object in the version that it is shown.
fn made(
    turn: &Turn<'_>,
    subject: &Subject,
    objects: Objects<'_>,
    world: &dyn World,
) -> Result<Option<Value>, String> {
    let (Work::Mutate(mutations, _), Some(object)) = (&turn.policy.work, objects.new) else {
        return Ok(None);
    };
    let mut object = object.clone();
    let seen = Seen::of(subject, &turn.kind, &turn.parameter, world);
    if !turn.policy.conditions.hold(&seen.scope(objects))? {
        return Ok(None);
    }
    let mut left = TOTAL_COST_MAX;
    for mutation in mutations {
        let scope = seen.scope(Objects {
            new: Some(&object),
            old: objects.old,
        });
        let scope = turn.policy.scope(scope, &mut left);
        let made = change(mutation, &object, &turn.kind, &scope, &mut left)?;
        let settled = shape::settle(made, &object, subject, &turn.kind);
        object = settled.map_err(|status| status.message)?;
    }
    Ok(Some(object))
}

fn change(
    mutation: &Mutation,
    object: &Value,
    kind: &KindRef,
    scope: &Scope<'_>,
    left: &mut u64,
) -> Result<Value, String> {
    match mutation {
        Mutation::Patch(expression) => {
            let operations = to_json(&expression.eval(scope, left)?)?;
            patch::json_patch(object.clone(), &operations)
                .map_err(|status| format!("JSON Patch: {}", status.message))
        }
        Mutation::Apply(expression) => {
            let config = to_json(&expression.eval(scope, left)?)?;
            let schema = kind.schema().map_err(|status| status.message)?;
            apply::merged(object, &config, &schema).map_err(|why| format!("error applying patch: {why}"))
        }
    }
}

/// The refusal that policies come to which could not be asked and may not be left out.
fn refusal(subject: &Subject, misfits: &[Misfit<'_>]) -> Option<Status> {
    let closed = misfits.iter().filter(|misfit| !misfit.policy.fails_open);
    let texts: Vec<String> = closed
        .map(|misfit| match misfit.binding {
            Some(binding) => format!(
                "policy '{}' with binding '{}' denied request: {}",
                misfit.policy.name, binding.name, misfit.why
            ),
            None => format!("policy '{}' denied request: {}", misfit.policy.name, misfit.why),
        })
        .collect();
    let mut status = subject.forbidden("admission request denied by policy");
    status.message = texts.first()?.clone();
    status.reason = "Invalid".to_owned();
    if let Some(details) = &mut status.details {
        details.causes.extend(texts.into_iter().map(|message| Cause {
            message,
            ..Cause::default()
        }));
    }
    Some(status)
}
