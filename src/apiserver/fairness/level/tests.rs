//! Seats that are taken, waited for, given up and lent.

use base::SystemClock;
use base::telemetry::Metrics;

use super::super::metrics::Series;
use super::*;

const SHAPE: Shape = Shape {
    queues: 8,
    hand: 2,
    length: 3,
};

fn level(seats: u64) -> (Arc<Level>, Arc<Counts>, Metrics) {
    let metrics = Metrics::new();
    let series = Series::new(&metrics);
    let nominal = Nominal {
        own: seats,
        least: seats,
        most: seats,
    };
    let settings = Settings {
        shape: SHAPE,
        nominal: Some(nominal),
    };
    let clock = Arc::new(SystemClock::new());
    let level = Level::new("l", settings, series.of_level("l"), clock);
    (Arc::new(level), Arc::new(series.of_flow("l", "s")), metrics)
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn seats_are_handed_on_and_patience_ends() {
    let (level, counts, metrics) = level(1);
    let first = level.enter(&counts, 1, Work::default(), LONG).await.unwrap();
    let second = {
        let (level, counts) = (level.clone(), counts.clone());
        tokio::spawn(async move { level.enter(&counts, 2, Work::default(), LONG).await })
    };
    tokio::task::yield_now().await;
    let impatient = level
        .enter(&counts, 2, Work::default(), Duration::from_millis(20))
        .await;
    assert_eq!(impatient.err(), Some(Refusal::TimeOut));
    assert_eq!(level.shown().0, (1, 1));
    drop(first);
    let second = second.await.unwrap().unwrap();
    assert_eq!(level.shown().0, (1, 0));
    drop(second);
    assert_eq!(level.shown().0, (0, 0));
    let text = metrics.encode();
    let labels = r#"{priority_level="l",flow_schema="s""#;
    for line in [
        format!("apiserver_flowcontrol_dispatched_requests_total{labels}}} 2"),
        format!("apiserver_flowcontrol_rejected_requests_total{labels},reason=\"time-out\"}} 1"),
        format!("apiserver_flowcontrol_current_executing_seats{labels}}} 0"),
        format!("apiserver_flowcontrol_current_inqueue_requests{labels}}} 0"),
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"l\"} 1.0".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} in {text}");
    }
}

#[tokio::test]
async fn one_who_goes_away_while_waiting_leaves_nothing_behind() {
    let (level, counts, _) = level(1);
    let seat = level.enter(&counts, 1, Work::default(), LONG).await.unwrap();
    for _ in 0..100 {
        let (waiting, of) = (level.clone(), counts.clone());
        let task = tokio::spawn(async move { waiting.enter(&of, 1, Work::default(), LONG).await });
        tokio::task::yield_now().await;
        task.abort();
        let _ = task.await;
    }
    assert_eq!(level.shown().0, (1, 0));
    drop(seat);
    assert!(level.enter(&counts, 1, Work::default(), LONG).await.is_ok());
}

#[tokio::test]
async fn seats_that_linger_come_back_later() {
    let (level, counts, _) = level(2);
    let work = Work {
        width: 2,
        lingers: Duration::from_millis(20),
    };
    drop(level.enter(&counts, 1, work, LONG).await.unwrap());
    assert_eq!(level.shown().0, (1, 0));
    let next = level.enter(&counts, 1, Work::default(), LONG).await;
    assert!(next.is_ok());
    assert_eq!(level.shown().0, (1, 0));
}

#[tokio::test]
async fn more_seats_let_those_in_who_wait() {
    let (level, counts, _) = level(1);
    let _first = level.enter(&counts, 1, Work::default(), LONG).await.unwrap();
    let second = {
        let (level, counts) = (level.clone(), counts.clone());
        tokio::spawn(async move { level.enter(&counts, 2, Work::default(), LONG).await })
    };
    while level.shown().0.1 == 0 {
        tokio::task::yield_now().await;
    }
    level.give(2);
    assert!(second.await.unwrap().is_ok());
    assert!(level.wish().target >= 1.0);
}
