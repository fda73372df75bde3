//! The log sent elsewhere: lists of events, as many as wait or until some have waited long enough.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::sinks::Counters;
use crate::outbound::endpoint::Endpoint;
use crate::outbound::{Correspondent, Outbound};

/// How often a list is sent again before it is given up.
const TRIES_MAX: u32 = 5;
/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(30);

/// To whom events are sent, and how many together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Names the server and its authority, in kubeconfig format.
    pub config: PathBuf,
    /// Most events of one list.
    pub batch_max: usize,
    /// How long an event waits for others.
    pub wait_max: Duration,
    /// Wait before a list is sent again; grows by half each time.
    pub back_off: Duration,
}

/// Where the webhook is.
///
/// # Errors
/// What is wrong with the file.
pub fn endpoint(settings: &WebhookSettings) -> Result<Endpoint, String> {
    Correspondent::read(&settings.config).map(|told| told.endpoint)
}

/// Sends what comes through the queue until it is closed.
pub async fn send(
    settings: WebhookSettings,
    endpoint: Endpoint,
    outbound: Outbound,
    mut queue: mpsc::Receiver<Bytes>,
    counters: Counters,
) {
    loop {
        let batch = batch(&mut queue, settings.batch_max, settings.wait_max).await;
        if batch.is_empty() {
            return;
        }
        if let Err(why) = deliver(&settings, &endpoint, &outbound, &batch).await {
            tracing::error!(why, events = batch.len(), "audit events could not be sent");
            counters.lose(batch.len());
        }
    }
}

/// The events of the next list; none when the queue is closed and empty.
async fn batch(queue: &mut mpsc::Receiver<Bytes>, most: usize, wait: Duration) -> Vec<Bytes> {
    let mut batch = Vec::new();
    batch.extend(queue.recv().await);
    let until = Instant::now() + wait;
    while !batch.is_empty() && batch.len() < most {
        match timeout_at(until, queue.recv()).await {
            Ok(Some(event)) => batch.push(event),
            Ok(None) | Err(_) => break,
        }
    }
    batch
}

async fn deliver(
    settings: &WebhookSettings,
    endpoint: &Endpoint,
    outbound: &Outbound,
    batch: &[Bytes],
) -> Result<(), String> {
    let body = list(batch);
    let mut wait = settings.back_off;
    for attempt in 1.. {
        match outbound.post(endpoint, "", body.clone(), ANSWER).await {
            Ok(_) => return Ok(()),
            Err(why) if attempt >= TRIES_MAX => return Err(why),
            Err(_) => tokio::time::sleep(wait).await,
        }
        wait += wait / 2;
    }
    Ok(())
}

fn list(batch: &[Bytes]) -> Bytes {
    let mut out =
        b"{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"metadata\":{},\"items\":[".to_vec();
    out.extend_from_slice(&batch.join(&b","[..]));
    out.extend_from_slice(b"]}");
    out.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn events_that_come_together_go_together() {
        let (sender, mut queue) = mpsc::channel(10);
        for _ in 0..3 {
            sender.send(Bytes::from_static(b"{\"a\":1}")).await.unwrap();
        }
        let wait = Duration::from_millis(10);
        assert_eq!(batch(&mut queue, 2, wait).await.len(), 2);
        let one = batch(&mut queue, 2, wait).await;
        assert_eq!(one.len(), 1, "one that waited long enough goes alone");
        let sent: serde_json::Value = serde_json::from_slice(&list(&one)).unwrap();
        assert_eq!(sent["items"], json!([{"a": 1}]));
        drop(sender);
        assert!(batch(&mut queue, 2, wait).await.is_empty());
    }
}
