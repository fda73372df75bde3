//! What exactly one server of a cluster does: the one that leads; and what one does that knows no leader.

use std::time::Duration;

use base::{OnError, Tasks};
use store::{Leadership, Store};
use tokio::sync::watch;

/// So long who takes leadership over answers those who wait, before it begins with anything else: what only the
/// leader runs looks at everything there is, and takes a processor for that.
const CALLERS_FIRST: Duration = Duration::from_millis(200);

/// Calls `start` whenever this server begins to lead, with tasks that end when it leads no more.
///
/// What a leader that was cut off has begun cannot do harm: its writes need the others. What two of them
/// may want at the same moment is kept apart by the preconditions of their writes.
pub fn while_leading(store: &Store, tasks: &Tasks, name: &str, start: impl Fn(&Tasks) + Send + 'static) {
    let gate = gate(store.leadership(), tasks.clone(), CALLERS_FIRST, start);
    tasks.spawn(format!("{name}, while leading"), OnError::Shutdown, gate);
}

async fn gate(
    mut leadership: watch::Receiver<Leadership>,
    tasks: Tasks,
    callers_first: Duration,
    start: impl Fn(&Tasks),
) -> Result<(), &'static str> {
    // One that begins alone has nobody who waits.
    let mut pause = match leadership.borrow().leads {
        true => Duration::ZERO,
        false => callers_first,
    };
    // The store is closed once its end of the channel is gone.
    while leadership.wait_for(|now| now.leads).await.is_ok() {
        if !pause.is_zero() {
            let lost = leadership.wait_for(|now| !now.leads);
            let lost = tokio::time::timeout(pause, lost).await.is_ok();
            if lost {
                continue;
            }
        }
        pause = callers_first;
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

/// How long there may be no leader before this server counts as cut off.
const LEADERLESS_MAX: Duration = Duration::from_secs(5);

/// Whether this server is cut off from the others: it knows no leader, and has not for a while. What is
/// watched here would not change any more, however much changes elsewhere.
pub fn follow_contact(store: &Store, tasks: &Tasks) -> watch::Receiver<bool> {
    let (cut_off, receiver) = watch::channel(false);
    tasks.spawn(
        "contact with the other servers",
        OnError::Shutdown,
        contact(store.leadership(), cut_off, LEADERLESS_MAX),
    );
    receiver
}

async fn contact(
    mut leadership: watch::Receiver<Leadership>,
    cut_off: watch::Sender<bool>,
    patience: Duration,
) {
    loop {
        // An error: the store is closed, and nothing changes any more.
        if leadership.wait_for(|now| now.leader.is_none()).await.is_err() {
            return cut_off.closed().await;
        }
        let found = tokio::time::timeout(patience, leadership.wait_for(|now| now.leader.is_some()));
        if found.await.map(drop).is_ok() {
            continue;
        }
        tracing::warn!("this server has lost contact with the others: it ends watches and refuses new ones");
        cut_off.send_replace(true);
        if leadership.wait_for(|now| now.leader.is_some()).await.is_err() {
            return cut_off.closed().await;
        }
        tracing::info!("this server is in contact with the others again");
        cut_off.send_replace(false);
    }
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
            tokio::time::sleep(Duration::from_millis(1)).await;
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
        tasks.spawn(
            "gate",
            OnError::Shutdown,
            gate(receiver, tasks.clone(), CALLERS_FIRST, start),
        );
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
    async fn a_server_is_cut_off_when_it_knows_no_leader_for_a_while() {
        let known = |leader: Option<u64>| Leadership {
            leader,
            ..Leadership::default()
        };
        let (sender, receiver) = watch::channel(known(Some(1)));
        let (cut_off, mut told) = watch::channel(false);
        tokio::spawn(contact(receiver, cut_off, Duration::from_millis(20)));
        sender.send_replace(known(None));
        told.wait_for(|cut_off| *cut_off).await.unwrap();
        sender.send_replace(known(Some(2)));
        told.wait_for(|cut_off| !*cut_off).await.unwrap();
    }

    #[tokio::test]
    async fn leadership_that_is_soon_lost_begins_nothing() {
        let tasks = Tasks::new();
        let (sender, receiver) = watch::channel(leads(false));
        let start = |_: &Tasks| panic!("it led for a moment");
        let never = Duration::from_secs(3600);
        tasks.spawn(
            "gate",
            OnError::Shutdown,
            gate(receiver, tasks.clone(), never, start),
        );
        for now in [false, true, false, true] {
            sender.send_replace(leads(now));
            tokio::time::sleep(Duration::from_millis(20)).await;
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
        tasks.spawn(
            "gate",
            OnError::Shutdown,
            gate(receiver, tasks.clone(), CALLERS_FIRST, start),
        );
        assert_eq!(tasks.ended().await.as_deref(), Some("work: it broke"));
    }
}
