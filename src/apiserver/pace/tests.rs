use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;
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
        step_back().await;
    }
}

/// Lets whoever is ready go first. (The runtime's own way waits until it has looked for events, which is every sixty-one
/// tasks here; a node looks more often.)
async fn step_back() {
    let mut stepped = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut stepped, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
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
    // Counted in a task: the runtime polls what waits for tasks in another rhythm.
    let (mouse, others) = (client(&pace, "mouse"), done.clone());
    let counted = tokio::spawn(mouse.paced(async move {
        let before = others.load(Ordering::SeqCst);
        toil(10, Duration::ZERO, Arc::default()).await;
        others.load(Ordering::SeqCst) - before
    }));
    let passed = counted.await.unwrap();
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
    // All turns came back: another one gets its own.
    one.paced(toil(3, Duration::from_millis(1), done)).await;
}

/// One event wakes all that wait for it; who is in no hurry must not go through the runtime's queue to be told so.
#[tokio::test]
async fn what_one_event_wakes_waits_outside_the_runtimes_queue() {
    let pace = pace();
    let elephant = client(&pace, "elephant");
    let event = Arc::new(tokio::sync::Semaphore::new(0));
    let (begun, done) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    elephant
        .clone()
        .paced(toil(1, Duration::from_millis(50), Arc::default()))
        .await;
    let polls: Arc<AtomicUsize> = Arc::default();
    let herd: Vec<_> = (0..200)
        .map(|_| {
            let (event, polls) = (event.clone(), polls.clone());
            let (begun, done) = (begun.clone(), done.clone());
            let mut work = Box::pin(elephant.clone().paced(async move {
                begun.fetch_add(1, Ordering::SeqCst);
                event.acquire().await.unwrap().forget();
                thread::sleep(Duration::from_millis(1));
                done.fetch_add(1, Ordering::SeqCst);
            }));
            tokio::spawn(std::future::poll_fn(move |context| {
                polls.fetch_add(1, Ordering::SeqCst);
                work.as_mut().poll(context)
            }))
        })
        .collect();
    // All of them wait for it.
    while begun.load(Ordering::SeqCst) < 200 {
        tokio::task::yield_now().await;
    }
    polls.store(0, Ordering::SeqCst);
    event.add_permits(200);
    for one in herd {
        one.await.unwrap();
    }
    assert_eq!(done.load(Ordering::SeqCst), 200);
    let polls = polls.load(Ordering::SeqCst);
    assert!(polls <= 220, "two hundred steps took {polls} wake-ups");
}
