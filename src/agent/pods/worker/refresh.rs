//! Keeping a pod's volumes up to date.

use std::time::Duration;

use super::{Message, Worker};
use crate::pods::spec;
use crate::pods::state::Part;

impl Worker {
    pub(super) fn refresh_in(&self) -> Option<Duration> {
        if self.refresh.running || self.state.volumes != Part::Ready {
            return None;
        }
        self.context.node.volumes.refresh_in(&self.context.tokens)
    }

    pub(super) fn refresh(&mut self) {
        if self.state.volumes != Part::Ready || self.state.deadline.is_some() {
            return;
        }
        if self.refresh.running {
            self.refresh.again = true;
            return;
        }
        self.refresh.running = true;
        let (context, pod, sender) = (self.context.clone(), self.pod.clone(), self.sender.clone());
        self.jobs.spawn(async move {
            if let Err(error) = context.node.volumes.make(&pod, &context.tokens).await {
                tracing::warn!(pod = spec::name(&pod), %error, "a volume was not brought up to date");
            }
            let _ = sender.send(Message::Refreshed);
        });
    }

    pub(super) fn refreshed(&mut self) {
        self.refresh.running = false;
        if std::mem::take(&mut self.refresh.again) {
            self.refresh();
        }
    }
}
