use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;
use std::thread;

use super::*;

fn pace() -> Arc<Pace> {
    Pace::new(&Metrics::new())
}

fn client(pace: &Arc<Pace>, user: &str) -> Arc<Client> {
    let client = pace.stranger(IpAddr::V4(Ipv4Addr::LOCALHOST));
    client.is(user);
    client
}

/// Work that keeps a thread busy, rests, and does so again.
async fn toil(times: usize, each: Duration, done: Arc<AtomicUsize>) {
    for _ in 0..times {
        thread::sleep(each);
        done.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_many_tasks_of_one_client_leave_room_for_another() {
    let pace = pace();
    let elephant = client(&pace, "elephant");
    let done: Arc<AtomicUsize> = Arc::default();
    let herd: Vec<_> = (0..200)
        .map(|_| {
            tokio::spawn(
                elephant
                    .clone()
                    .paced(toil(5, Duration::from_millis(1), done.clone())),
            )
        })
        .collect();
    // Once it is known for what it is.
    while done.load(Ordering::SeqCst) < 100 {
        tokio::task::yield_now().await;
    }
    let mouse = client(&pace, "mouse");
    let before = done.load(Ordering::SeqCst);
    let steps = Arc::<AtomicUsize>::default();
    // A task like the others: the runtime polls what waits for it in another rhythm.
    tokio::spawn(mouse.paced(toil(10, Duration::ZERO, steps.clone())))
        .await
        .unwrap();
    assert_eq!(steps.load(Ordering::SeqCst), 10);
    let passed = done.load(Ordering::SeqCst) - before;
    // Without turns, each of its steps would have waited for all two hundred.
    let at_once = thread::available_parallelism().map_or(1, |count| count.get());
    assert!(
        passed <= 11 * (at_once + 1),
        "{passed} steps of the herd in between"
    );
    for one in herd {
        one.await.unwrap();
    }
    assert_eq!(done.load(Ordering::SeqCst), 1000, "everybody gets done");
    assert!(pace.held_back.get() > 0);
}

#[tokio::test]
async fn who_goes_away_keeps_no_turn() {
    let pace = pace();
    let one = client(&pace, "one");
    let done: Arc<AtomicUsize> = Arc::default();
    one.clone()
        .paced(toil(1, Duration::from_millis(100), done.clone()))
        .await;
    let mut tasks: Vec<_> = (0..50)
        .map(|_| tokio::spawn(one.clone().paced(toil(3, Duration::from_millis(1), done.clone()))))
        .collect();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    for gone in tasks.drain(10..) {
        gone.abort();
        let _ = gone.await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    let answer = pace.ledger().ask(one.who(), pace.now());
    assert_eq!(answer, Answer::Turn, "all turns came back");
}
