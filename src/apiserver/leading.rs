//! What exactly one server of a cluster does: the one that leads.

use base::{OnError, Tasks};
use store::{Leadership, Store};
use tokio::sync::watch;

/// Calls `start` whenever this server begins to lead, with tasks that end when it leads no more.
///
/// What a leader that was cut off has begun cannot do harm: its writes need the others. What two of them
/// may want at the same moment is kept apart by the preconditions of their writes.
pub fn while_leading(store: &Store, tasks: &Tasks, name: &str, start: impl Fn(&Tasks) + Send + 'static) {
    let gate = gate(store.leadership(), tasks.clone(), start);
    tasks.spawn(format!("{name}, while leading"), OnError::Shutdown, gate);
}

async fn gate(
    mut leadership: watch::Receiver<Leadership>,
    tasks: Tasks,
    start: impl Fn(&Tasks),
) -> Result<(), &'static str> {
    // The store is closed once its end of the channel is gone.
    while leadership.wait_for(|now| now.leads).await.is_ok() {
        let spell = tasks.child();
        start(&spell);
        let failed = spell.cancelled();
        tokio::select! {
            _ = leadership.wait_for(|now| !now.leads) => spell.cancel(),
            () = failed.cancelled() => return Err("a part that only the leader runs has failed"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn leads(leads: bool) -> Leadership {
        Leadership {
            leads,
            ..Leadership::default()
        }
    }

    async fn until(what: impl Fn() -> bool) {
        while !what() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn work_begins_and_ends_with_leadership() {
        let tasks = Tasks::new();
        let (sender, receiver) = watch::channel(leads(false));
        let begun = Arc::new(AtomicUsize::new(0));
        let count = begun.clone();
        let start = move |spell: &Tasks| {
            count.fetch_add(1, Ordering::SeqCst);
            spell.spawn("work", OnError::Shutdown, std::future::pending::<()>());
        };
        tasks.spawn("gate", OnError::Shutdown, gate(receiver, tasks.clone(), start));
        for spell in 1..3 {
            assert_eq!(begun.load(Ordering::SeqCst), spell - 1);
            sender.send_replace(leads(true));
            until(|| begun.load(Ordering::SeqCst) == spell && tasks.running() == 2).await;
            sender.send_replace(leads(false));
            until(|| tasks.running() == 1).await;
        }
        tasks.shutdown().await;
        assert_eq!(tasks.ended().await, None);
    }

    #[tokio::test]
    async fn the_node_ends_when_the_leaders_work_fails() {
        let tasks = Tasks::new();
        let (_sender, receiver) = watch::channel(leads(true));
        let start = |spell: &Tasks| {
            spell.spawn("work", OnError::Shutdown, async { Err::<(), _>("it broke") });
        };
        tasks.spawn("gate", OnError::Shutdown, gate(receiver, tasks.clone(), start));
        assert_eq!(tasks.ended().await.as_deref(), Some("it broke"));
    }
}
