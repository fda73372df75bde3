//! The log sent elsewhere: lists of events, as many as wait or until some have waited long enough.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::sinks::{Counters, Line, Lines};
use crate::outbound::{Correspondent, Outbound};

/// How often a list is sent again before it is given up.
const TRIES_MAX: u32 = 5;
/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(30);

/// To whom events are sent, and how many together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Names the server, its authority, and as whom it is told, in kubeconfig format.
    pub config: PathBuf,
    /// Most events of one list.
    pub batch_max: usize,
    /// Most bytes of one list; a larger event goes alone.
    pub batch_bytes_max: usize,
    /// Events of more bytes are cut; `None` for none.
    pub event_bytes_max: Option<usize>,
    /// How long an event waits for others.
    pub wait_max: Duration,
    /// Wait before a list is sent again; grows by half each time.
    pub back_off: Duration,
}

/// Who is told.
///
/// # Errors
/// What is wrong with the file.
pub fn correspondent(settings: &WebhookSettings) -> Result<Correspondent, String> {
    Correspondent::read(&settings.config)
}

/// Sends what comes through the queue until it is closed.
pub async fn send(
    settings: WebhookSettings,
    told: Correspondent,
    outbound: Outbound,
    queue: Lines,
    counters: Counters,
) {
    let mut batches = Batches { queue, next: None };
    loop {
        let batch = batches.next(&settings).await;
        if batch.is_empty() {
            return;
        }
        if let Err(why) = deliver(&settings, &told, &outbound, &batch).await {
            tracing::error!(why, events = batch.len(), "audit events could not be sent");
            counters.lose(batch.len());
        }
    }
}

/// Events on their way into lists.
struct Batches {
    queue: Lines,
    /// One for which the last list had no room.
    next: Option<Line>,
}

impl Batches {
    /// The events of the next list; none when the queue is closed and empty.
    async fn next(&mut self, settings: &WebhookSettings) -> Vec<Line> {
        let first = match self.next.take() {
            Some(left) => Some(left),
            None => self.queue.recv().await,
        };
        let mut batch: Vec<Line> = first.into_iter().collect();
        let mut bytes: usize = batch.iter().map(|line| line.text.len()).sum();
        let until = Instant::now() + settings.wait_max;
        while !batch.is_empty() && batch.len() < settings.batch_max {
            let Ok(Some(line)) = timeout_at(until, self.queue.recv()).await else {
                break;
            };
            bytes += line.text.len();
            if bytes > settings.batch_bytes_max {
                self.next = Some(line);
                break;
            }
            batch.push(line);
        }
        batch
    }
}

async fn deliver(
    settings: &WebhookSettings,
    told: &Correspondent,
    outbound: &Outbound,
    batch: &[Line],
) -> Result<(), String> {
    let body = list(batch);
    let mut wait = settings.back_off;
    for attempt in 1.. {
        match outbound.tell(told, body.clone(), ANSWER).await {
            Ok(()) => return Ok(()),
            Err(why) if attempt >= TRIES_MAX => return Err(why),
            Err(_) => tokio::time::sleep(wait).await,
        }
        wait += wait / 2;
    }
    Ok(())
}

fn list(batch: &[Line]) -> Bytes {
    let mut out =
        b"{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"metadata\":{},\"items\":[".to_vec();
    for (place, line) in batch.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&line.text);
    }
    out.extend_from_slice(b"]}");
    out.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::super::sinks::tests::line;
    use super::*;

    #[tokio::test]
    async fn events_that_come_together_go_together() {
        let (sender, queue) = mpsc::channel(10);
        for text in ["{\"a\":1}", "{\"a\":2}", "{\"a\":3}", "{\"a\":44444}"] {
            sender.send(line(text)).await.unwrap();
        }
        let settings = WebhookSettings {
            config: PathBuf::new(),
            batch_max: 2,
            batch_bytes_max: 15,
            event_bytes_max: None,
            wait_max: Duration::from_millis(10),
            back_off: Duration::ZERO,
        };
        let mut batches = Batches { queue, next: None };
        assert_eq!(batches.next(&settings).await.len(), 2);
        let one = batches.next(&settings).await;
        let sent: serde_json::Value = serde_json::from_slice(&list(&one)).unwrap();
        assert_eq!(sent["items"], json!([{"a": 3}]), "there is no room for the next");
        let one = batches.next(&settings).await;
        assert_eq!(one.len(), 1, "one that waited long enough goes alone");
        drop(sender);
        assert!(batches.next(&settings).await.is_empty());
    }
}
