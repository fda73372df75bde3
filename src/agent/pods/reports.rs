//! When a pod's status is written: to the disk at once, to the API patiently
//! while the server is away; what changed, one write each at a time, in order.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::task::JoinHandle;

use super::conditions::PASSING;
use super::{report, spec};
use crate::context::Context;

/// The status of a pod that is coming up is not worth a write each
/// millisecond: many are up before this has passed, and need but one.
const FIRST_AFTER: Duration = Duration::from_millis(30);
/// A pod that was in service when an earlier agent ended is likely to be so again in a moment: until this has passed
/// nobody is told otherwise, or Services would refuse those whom it is about to answer.
const BACK_AFTER: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What was last told to whom.
#[derive(Default)]
pub struct Reports {
    /// The last status made, whose transition times go on.
    made: Option<PodStatus>,
    sent: Option<PodStatus>,
    /// What the API shows when it is first heard is what was sent.
    doubted: bool,
    kept: Option<PodStatus>,
    kept_generation: Option<i64>,
    /// The write to the disk under way.
    keeping: Option<JoinHandle<()>>,
    /// The write to the API under way: the status, and whether the API has it.
    writing: Option<JoinHandle<(PodStatus, bool)>>,
    /// What is not urgent waits until then (monotonic).
    first_at: Duration,
    /// Not before (monotonic).
    not_before: Duration,
    /// Until the next attempt; zero while all goes well.
    pause: Duration,
}

/// What goes with a status.
pub struct Report<'a> {
    /// The node.
    pub node: &'a Arc<Context>,
    /// The pod.
    pub pod: &'a Arc<Pod>,
    /// The pod is gone from the API: only the disk is told.
    pub orphaned: bool,
    /// Nobody is waiting for this one: others may soon make it pointless.
    pub patient: bool,
}

/// A write that is done.
#[derive(Debug)]
pub enum Written {
    /// To the disk. If that failed, waiting would not help: the node goes on without.
    Kept,
    /// To the API: the status, and whether it has it; `None` if the attempt broke off.
    Sent(Option<Box<(PodStatus, bool)>>),
}

impl Reports {
    /// Of a pod that comes with the status that the API has.
    pub fn new(pod: &Pod, now: Duration) -> Reports {
        let (made, sent, kept) = (pod.status.clone(), pod.status.clone(), pod.status.clone());
        let served = pod.status.as_ref().is_some_and(is_ready);
        Reports {
            made,
            sent,
            kept,
            first_at: now + if served { BACK_AFTER } else { FIRST_AFTER },
            ..Reports::default()
        }
    }

    /// The last status made.
    pub fn made(&self) -> Option<&PodStatus> {
        self.made.as_ref()
    }

    /// Notes a status that was made.
    pub fn make(&mut self, status: &PodStatus) {
        self.made = Some(status.clone());
    }

    /// Notes what the API shows of the pod. While this node was thought lost, its pods were taken out of
    /// service: what was sent before has to be sent again.
    pub fn heard(&mut self, pod: &Pod) {
        if std::mem::take(&mut self.doubted) {
            self.sent.clone_from(&pod.status);
        }
        let shown = pod.status.as_ref().is_some_and(is_ready);
        let unready = !shown && self.sent.as_ref().is_some_and(is_ready);
        if unready || self.lingers(pod) {
            self.sent = None;
        }
    }

    /// Whether the API shows a condition that has passed: when its end was told, it was not yet to be seen there.
    fn lingers(&self, pod: &Pod) -> bool {
        let types = |status: Option<&PodStatus>| -> Vec<String> {
            let all = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
            all.map(|c| c.type_.clone()).collect()
        };
        let made = types(self.made.as_ref());
        let shown = types(pod.status.as_ref());
        PASSING.iter().any(|passing| {
            let is_in = |list: &[String]| list.iter().any(|kind| kind == passing);
            is_in(&shown) && !is_in(&made)
        })
    }

    /// Whoever was told knows nothing any more: the status is written again.
    pub fn forget(&mut self) {
        self.sent = None;
        (self.pause, self.not_before) = (Duration::ZERO, Duration::ZERO);
    }

    /// What was last sent is only known from the disk, which gets to know a status before the API does.
    pub fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Begins to write a status where it is news; when to offer it again if that has to wait.
    pub fn offer(&mut self, report: &Report<'_>, status: PodStatus) -> Option<Duration> {
        let keep = self.kept.as_ref() != Some(&status) && self.keeping.is_none();
        let send = self.sent.as_ref() != Some(&status) && self.writing.is_none();
        let now = report.node.clock.monotonic();
        if (keep || send) && report.patient && now < self.first_at {
            return Some(self.first_at);
        }
        if keep {
            self.keep(report, status.clone());
        }
        if send && now < self.not_before {
            return Some(self.not_before);
        }
        if send {
            let (node, pod, orphaned) = (report.node.clone(), report.pod.clone(), report.orphaned);
            self.writing = Some(tokio::spawn(async move {
                let good = self::send(&node, &pod, &status, orphaned).await;
                (status, good)
            }));
        }
        None
    }

    fn keep(&mut self, report: &Report<'_>, status: PodStatus) {
        let (node, pod) = (report.node.clone(), report.pod.clone());
        // What the node is to run must survive a power cut; how far it had come need not.
        let generation = Some(pod.metadata.generation.unwrap_or(0));
        let durable = self.kept_generation != generation;
        (self.kept, self.kept_generation) = (Some(status.clone()), generation);
        self.keeping = Some(tokio::spawn(async move {
            report::keep(&node, &pod, status, durable).await;
        }));
    }

    /// Whether the disk has the last status made.
    pub fn are_kept(&self) -> bool {
        self.keeping.is_none() && self.kept == self.made
    }

    /// Waits until a write under way is done; for ever if there is none.
    pub async fn written(&mut self) -> Written {
        tokio::select! {
            _ = end(&mut self.keeping) => Written::Kept,
            sent = end(&mut self.writing) => Written::Sent(sent.map(Box::new)),
        }
    }

    /// Notes how a write went.
    pub fn settle(&mut self, written: Written, now: Duration) {
        match written {
            Written::Kept => self.keeping = None,
            Written::Sent(Some(done)) if done.1 => {
                let (status, _) = *done;
                (self.writing, self.sent) = (None, Some(status));
                (self.pause, self.not_before) = (Duration::ZERO, now);
            }
            Written::Sent(_) => {
                self.writing = None;
                self.pause = (self.pause * 2).clamp(RETRY, RETRY_MAX);
                self.not_before = now + self.pause;
            }
        }
    }

    /// Waits for the writes under way.
    pub async fn finish(&mut self) {
        if let Some(writing) = self.writing.take() {
            let _ = writing.await;
        }
        if let Some(keeping) = self.keeping.take() {
            let _ = keeping.await;
        }
    }
}

/// Whether a pod counts as being in service.
pub fn is_ready(status: &PodStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|c| c.type_ == "Ready" && c.status == "True")
}

async fn end<T>(handle: &mut Option<JoinHandle<T>>) -> Option<T> {
    match handle {
        Some(handle) => handle.await.ok(),
        None => std::future::pending().await,
    }
}

/// Whether the API has the status, or has no use for it any more.
async fn send(node: &Context, pod: &Pod, status: &PodStatus, orphaned: bool) -> bool {
    if orphaned {
        return true;
    }
    let Some(uid) = node.mirrors.id_of(pod) else {
        // Its mirror will be told when it is there.
        return true;
    };
    match report::send(&node.client, pod, &uid, report::patch_of(status)).await {
        Ok(()) => true,
        // Gone or replaced: the watch will say so.
        Err(error) if error.is_not_found() || error.is_conflict() => true,
        Err(error) => {
            tracing::debug!(pod = spec::name(pod), %error, "a status was not written");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(ready: &str) -> Pod {
        serde_json::from_value(json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}}))
            .unwrap()
    }

    #[test]
    fn what_the_api_never_got_is_sent_again() {
        let mut reports = Reports::new(&pod("False"), Duration::ZERO);
        reports.doubt();
        reports.heard(&pod("True"));
        assert_eq!(reports.sent, pod("True").status, "and so False is news");
        reports.heard(&pod("False"));
        assert_eq!(reports.sent, None, "later ones say what became of what was sent");
        assert_eq!(reports.kept, pod("False").status, "the disk need not be told");
    }

    #[test]
    fn what_was_in_service_has_time_to_be_so_again() {
        let begins = |ready: &str| Reports::new(&pod(ready), Duration::from_secs(10)).first_at;
        assert_eq!(begins("True"), Duration::from_secs(10) + BACK_AFTER);
        assert_eq!(begins("False"), Duration::from_secs(10) + FIRST_AFTER);
    }

    #[test]
    fn a_pod_that_others_took_out_of_service_is_reported_again() {
        let mut reports = Reports::new(&pod("True"), Duration::ZERO);
        reports.heard(&pod("True"));
        assert!(reports.sent.is_some());
        reports.heard(&pod("False"));
        assert!(reports.sent.is_none());
        let mut lingering = pod("True");
        let conditions = lingering
            .status
            .as_mut()
            .and_then(|s| s.conditions.as_mut())
            .unwrap();
        conditions.push(k8s_openapi::api::core::v1::PodCondition {
            type_: PASSING[0].to_owned(),
            status: "True".to_owned(),
            ..Default::default()
        });
        let mut reports = Reports::new(&pod("True"), Duration::ZERO);
        reports.heard(&lingering);
        assert!(reports.sent.is_none(), "a condition that has passed");
        let mut reports = Reports::new(&pod("False"), Duration::ZERO);
        reports.heard(&pod("False"));
        assert!(reports.sent.is_some());
    }
}
