//! `pods/NAME/eviction`: a deletion that a PodDisruptionBudget may refuse.
//!
//! A budget is spent in its status, with a precondition on what was read,
//! before the pod is deleted: two evictions never share one allowance.

use api::object;
use api::request::{Options, Reply, Request};
use api::schema::Gvk;
use api::selector::LabelSelector;
use api::status::{Cause, Details, Status};
use api::value;
use serde_json::{Value, json};
use store::{Expect, Op, StoreError};

use crate::admission::{Operation, World};

use super::target::Target;
use super::world::{core_kind, review_of};
use super::{Core, refuse, remove, text};

/// How often a budget is read again that somebody else wrote meanwhile.
const TRIES_MAX: usize = 24;
/// More evicted pods than this without a sign of the controller, and it must be away.
const DISRUPTED_MAX: usize = 2000;
const GROUP: &str = "policy";
const PLURAL: &str = "poddisruptionbudgets";

/// What stands between a pod and its eviction.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// Nothing.
    Free,
    /// Nothing as long as the pod is as it was read.
    FreeAsRead,
    /// A budget, which becomes this.
    Spend(Value),
    /// A refusal.
    Refused(Status),
}

impl Core {
    /// Evicts a pod.
    pub(super) async fn evict(&self, request: &Request) -> Result<Reply, Status> {
        self.target(request)?;
        let gvk = Gvk::new("policy", "v1", "Eviction");
        let (mut eviction, warnings) = self.part_body(request, &gvk)?;
        let target = Target::new(
            core_kind("pods")?,
            request.namespace.clone(),
            request.name.clone(),
        )?;
        let named = object::name(&eviction);
        if !named.is_empty() && named != target.name {
            let why = "name in URL does not match name in Eviction object";
            return Err(Status::bad_request(why));
        }
        let mut review = review_of(
            request,
            &target.kind,
            Operation::Create,
            Some(&mut eviction),
            None,
        );
        self.admit_at_once(&mut review).await?;
        let mut options = options(&request.options, value::get(&eviction, "deleteOptions"));
        self.permit(&target, &mut options).await?;
        if !options.dry_run {
            self.mark(&target, &options).await?;
        }
        // The deletion itself is the server's: the caller needed leave to evict, not to delete.
        let mut deletion = request.clone();
        deletion.subresource = String::new();
        self.remove(&target, &deletion, &options).await?;
        let mut body: Value = serde_json::from_slice(&remove::success(None)).unwrap_or_default();
        body["code"] = json!(201);
        Ok(Reply {
            code: 201,
            body: body.to_string().into(),
            warnings,
        })
    }

    /// Asks the budget, and spends of it.
    async fn permit(&self, target: &Target, options: &mut Options) -> Result<(), Status> {
        for _ in 0..TRIES_MAX {
            let entry = self.entry(target).await?.ok_or_else(|| target.not_found())?;
            let pod = text::parse(&entry)?;
            let budgets = self.all(GROUP, PLURAL, &target.namespace);
            let now = object::time_text(self.inner.config.clock.now());
            match decide(&pod, &budgets, &now) {
                Verdict::Free => return Ok(()),
                Verdict::FreeAsRead => {
                    let version = object::resource_version(&pod).to_owned();
                    options.precondition_resource_version.get_or_insert(version);
                    return Ok(());
                }
                Verdict::Refused(status) => return Err(status),
                Verdict::Spend(_) if options.dry_run => return Ok(()),
                Verdict::Spend(budget) => {
                    if self.spend(&budget).await? {
                        return Ok(());
                    }
                }
            }
        }
        Err(too_many(
            "could not update the PodDisruptionBudget due to conflicts",
            10,
            None,
        ))
    }

    /// Writes a budget unless it has changed since it was read; false if it has.
    async fn spend(&self, budget: &Value) -> Result<bool, Status> {
        let kind =
            api::kinds::find(GROUP, "v1", PLURAL).ok_or_else(|| Status::internal("no kind for budgets"))?;
        let (namespace, name) = (object::namespace(budget), object::name(budget));
        let target = Target::new(kind, namespace.to_owned(), name.to_owned())?;
        let revision = object::resource_version(budget).parse().unwrap_or(0);
        self.put(&target, budget, revision).await
    }

    /// Says in the pod's status why it goes, as long as the preconditions hold.
    async fn mark(&self, target: &Target, options: &Options) -> Result<(), Status> {
        for _ in 0..TRIES_MAX {
            let Some(entry) = self.entry(target).await? else {
                return Err(target.not_found());
            };
            let mut pod = text::parse(&entry)?;
            let as_read = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
            let holds = as_read(&options.precondition_uid, object::uid(&pod))
                && as_read(
                    &options.precondition_resource_version,
                    object::resource_version(&pod),
                );
            // A pod read by its version is deleted at that version, which a mark would change.
            if !holds || options.precondition_resource_version.is_some() || is_over(&pod) {
                return Ok(());
            }
            disrupted(&mut pod, &object::time_text(self.inner.config.clock.now()));
            if self.put(target, &pod, entry.revision).await? {
                return Ok(());
            }
        }
        Err(target.stale())
    }

    async fn put(&self, target: &Target, object: &Value, revision: u64) -> Result<bool, Status> {
        let put = Op::Put {
            key: target.key(&target.name),
            record: self.record(target, object)?,
            expect: Expect::Revision(revision),
        };
        match self.inner.store.commit(vec![put]).await {
            Ok(_) => Ok(true),
            Err(StoreError::Precondition { .. }) => Ok(false),
            Err(error) => Err(refuse::status(error)),
        }
    }
}

fn options(query: &Options, given: &Value) -> Options {
    let text = |path: &str| Some(value::text(given, path).to_owned()).filter(|t| !t.is_empty());
    Options {
        grace_period_seconds: value::int(given, "gracePeriodSeconds").or(query.grace_period_seconds),
        propagation_policy: value::text(given, "propagationPolicy").to_owned(),
        precondition_uid: text("preconditions.uid"),
        precondition_resource_version: text("preconditions.resourceVersion"),
        dry_run: query.dry_run || !value::list(given, "dryRun").is_empty(),
        ..query.clone()
    }
}

/// Decides about an eviction from the pod and the budgets of its namespace. Pure.
fn decide(pod: &Value, budgets: &[Value], now: &str) -> Verdict {
    if is_over(pod) || object::is_deleting(pod) {
        return Verdict::Free;
    }
    if value::text(pod, "status.phase") == "Pending" {
        return Verdict::FreeAsRead;
    }
    let mut mine = budgets.iter().filter(|budget| covers(budget, pod));
    let Some(budget) = mine.next() else {
        return Verdict::Free;
    };
    if mine.next().is_some() {
        let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Verdict::Refused(Status::new(500, "", why));
    }
    let number = |path: &str| value::int(budget, path).unwrap_or(0);
    let healthy_enough = number("status.desiredHealthy") > 0
        && number("status.currentHealthy") >= number("status.desiredHealthy");
    let always = value::text(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow";
    if !is_ready(pod) && (always || healthy_enough) {
        return Verdict::FreeAsRead;
    }
    match spent(budget, object::name(pod), now) {
        Ok(budget) => Verdict::Spend(budget),
        Err(status) => Verdict::Refused(status),
    }
}

fn covers(budget: &Value, pod: &Value) -> bool {
    LabelSelector::from_json(value::get(budget, "spec.selector")).matches(value::get(pod, "metadata.labels"))
}

fn is_over(pod: &Value) -> bool {
    matches!(value::text(pod, "status.phase"), "Succeeded" | "Failed")
}

fn is_ready(pod: &Value) -> bool {
    let conditions = value::list(pod, "status.conditions");
    conditions
        .iter()
        .any(|c| value::text(c, "type") == "Ready" && value::text(c, "status") == "True")
}

/// The budget with one disruption less, and the pod noted as evicted at `now`.
fn spent(budget: &Value, pod: &str, now: &str) -> Result<Value, Status> {
    let name = object::name(budget);
    let number = |path: &str| value::int(budget, path).unwrap_or(0);
    let violates = "Cannot evict pod as it would violate the pod's disruption budget.";
    if number("status.observedGeneration") < number("metadata.generation") {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(too_many(violates, 10, Some(why)));
    }
    let allowed = number("status.disruptionsAllowed");
    if allowed < 0 {
        return Err(Status::forbidden(
            GROUP,
            PLURAL,
            name,
            "pdb disruptions allowed is negative",
        ));
    }
    if object::get_map(budget, &["status", "disruptedPods"]).len() > DISRUPTED_MAX {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(GROUP, PLURAL, name, why));
    }
    if allowed == 0 {
        return Err(too_many(violates, 0, Some(shortage(budget))));
    }
    let mut new = budget.clone();
    object::set(&mut new, &["status", "disruptionsAllowed"], allowed - 1);
    object::set(&mut new, &["status", "disruptedPods", pod], now);
    if allowed == 1 {
        exhaust(&mut new, now);
    }
    Ok(new)
}

/// Why a budget allows nothing.
fn shortage(budget: &Value) -> String {
    let name = object::name(budget);
    let number = |path: &str| value::int(budget, path).unwrap_or(0);
    let condition = value::list(budget, "status.conditions")
        .iter()
        .find(|c| value::text(c, "type") == "DisruptionAllowed" && value::text(c, "reason") == "SyncFailed");
    match condition {
        Some(failed) => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
            value::text(failed, "message")
        ),
        None => format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number("status.desiredHealthy"),
            number("status.currentHealthy")
        ),
    }
}

/// Says in the budget's condition that nothing is left of it.
fn exhaust(budget: &mut Value, now: &str) {
    let mut conditions = value::list(budget, "status.conditions").to_vec();
    for condition in conditions
        .iter_mut()
        .filter(|c| value::text(c, "type") == "DisruptionAllowed")
    {
        condition["status"] = "False".into();
        condition["reason"] = "InsufficientPods".into();
        condition["lastTransitionTime"] = now.into();
    }
    object::set(budget, &["status", "conditions"], conditions);
}

/// Sets the condition that says that the pod was evicted.
fn disrupted(pod: &mut Value, now: &str) {
    let mut conditions = value::list(pod, "status.conditions").to_vec();
    conditions.retain(|c| value::text(c, "type") != "DisruptionTarget");
    conditions.push(json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now,
    }));
    object::set(pod, &["status", "conditions"], conditions);
}

/// 429 with the cause that clients look for.
fn too_many(message: &str, retry_after_seconds: u32, why: Option<String>) -> Status {
    let mut status = Status::new(429, "TooManyRequests", message);
    let cause = |message| Cause {
        reason: "DisruptionBudget".to_owned(),
        message,
        field: String::new(),
    };
    status.details = Some(Box::new(Details {
        retry_after_seconds,
        causes: why.into_iter().map(cause).collect(),
        ..Details::default()
    }));
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(phase: &str, ready: &str) -> Value {
        json!({"metadata": {"name": "web-1", "namespace": "d", "labels": {"app": "web"}},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}})
    }

    fn budget(allowed: i64) -> Value {
        json!({"metadata": {"name": "b", "namespace": "d", "generation": 2, "resourceVersion": "9"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}},
            "status": {"observedGeneration": 2, "disruptionsAllowed": allowed, "desiredHealthy": 2, "currentHealthy": 2,
                "conditions": [{"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods"}]}})
    }

    fn refusal(verdict: Verdict) -> Status {
        match verdict {
            Verdict::Refused(status) => status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_budget_is_spent_and_runs_out() {
        let Verdict::Spend(left) = decide(&pod("Running", "True"), &[budget(1)], "now") else {
            panic!("not spent")
        };
        assert_eq!(left["status"]["disruptionsAllowed"], 0);
        assert_eq!(left["status"]["disruptedPods"]["web-1"], "now");
        assert_eq!(left["status"]["conditions"][0]["reason"], "InsufficientPods");
        let status = refusal(decide(&pod("Running", "True"), &[left], "now"));
        assert_eq!((status.code, status.reason.as_str()), (429, "TooManyRequests"));
        assert_eq!(
            status.message,
            "Cannot evict pod as it would violate the pod's disruption budget."
        );
        let cause = &status.details.unwrap().causes[0];
        assert_eq!(cause.reason, "DisruptionBudget");
        assert_eq!(
            cause.message,
            "The disruption budget b needs 2 healthy pods and has 2 currently"
        );
    }

    #[test]
    fn pods_that_serve_nobody_need_no_leave() {
        let none = [budget(0)];
        for phase in ["Succeeded", "Failed"] {
            assert_eq!(decide(&pod(phase, "False"), &none, "now"), Verdict::Free);
        }
        assert_eq!(
            decide(&pod("Pending", "False"), &none, "now"),
            Verdict::FreeAsRead
        );
        assert_eq!(decide(&pod("Running", "True"), &[], "now"), Verdict::Free);
        // Not ready, and enough others are.
        assert_eq!(
            decide(&pod("Running", "False"), &none, "now"),
            Verdict::FreeAsRead
        );
    }

    #[test]
    fn unhealthy_pods_go_by_the_budgets_policy() {
        let mut short = budget(0);
        short["status"]["currentHealthy"] = json!(1);
        assert_eq!(
            refusal(decide(&pod("Running", "False"), &[short.clone()], "now")).code,
            429
        );
        short["spec"]["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
        assert_eq!(
            decide(&pod("Running", "False"), &[short], "now"),
            Verdict::FreeAsRead
        );
    }

    #[test]
    fn what_cannot_be_decided_is_refused() {
        let two = refusal(decide(&pod("Running", "True"), &[budget(1), budget(1)], "now"));
        assert_eq!(two.code, 500);
        let mut fresh = budget(1);
        fresh["metadata"]["generation"] = json!(3);
        let early = refusal(decide(&pod("Running", "True"), &[fresh], "now"));
        assert_eq!(early.details.unwrap().retry_after_seconds, 10);
        let mut blind = budget(1);
        blind["spec"] = json!({});
        assert_eq!(decide(&pod("Running", "True"), &[blind], "now"), Verdict::Free);
    }
}
