//! Seats that are taken, waited for, given up and lent.

use base::telemetry::Metrics;
use base::{ManualClock, SystemClock};

use super::super::metrics::Series;
use super::super::width::Sort;
use super::*;

const SHAPE: Shape = Shape {
    queues: 8,
    hand: 2,
    length: 3,
};

fn level(seats: u64) -> (Arc<Level>, Arc<Counts>, Metrics) {
    level_at(seats, Arc::new(SystemClock::new()))
}

fn level_at(seats: u64, clock: Arc<dyn Clock>) -> (Arc<Level>, Arc<Counts>, Metrics) {
    let metrics = Metrics::new();
    let series = Series::new(&metrics, 10 * seats, &clock);
    let nominal = Nominal {
        own: seats,
        least: seats,
        most: seats,
    };
    let settings = Settings {
        shape: SHAPE,
        nominal: Some(nominal),
    };
    let level = Level::new("l", settings, series.levels.of("l"), clock);
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
        format!("apiserver_flowcontrol_request_queue_length_after_enqueue_count{labels}}} 2"),
        format!("apiserver_flowcontrol_work_estimated_seats_sum{labels}}} 3.0"),
        format!("apiserver_flowcontrol_request_execution_seconds_count{labels},type=\"regular\"}} 2"),
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
        ..Work::default()
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

/// The value of a series.
fn value(metrics: &Metrics, series: &str) -> f64 {
    let text = metrics.encode();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("apiserver_flowcontrol_{series} ")));
    line.unwrap_or_else(|| panic!("{series} in {text}"))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn what_goes_on_is_shown_as_fractions_of_time() {
    let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let (level, counts, metrics) = level_at(2, clock.clone());
    let second = Duration::from_secs(1);
    clock.advance(second);
    let wide = Work {
        width: 2,
        sort: Sort::Watching,
        ..Work::default()
    };
    let first = level.enter(&counts, 1, wide, LONG).await.unwrap();
    clock.advance(3 * second);
    let waiting = {
        let (level, counts) = (level.clone(), counts.clone());
        let changing = Work {
            sort: Sort::Changing,
            ..Work::default()
        };
        tokio::spawn(async move { level.enter(&counts, 1, changing, LONG).await })
    };
    while level.shown().0.1 == 0 {
        tokio::task::yield_now().await;
    }
    clock.advance(2 * second);
    let held_up = value(
        &metrics,
        "request_dispatch_no_accommodation_total{priority_level=\"l\",flow_schema=\"s\"}",
    );
    assert_eq!(held_up, 1.0);
    drop(first);
    let seat = waiting.await.unwrap().unwrap();
    clock.advance(4 * second);
    // One second of rest, five with both seats taken, four with one of them.
    let seats = |bound: &str| {
        let labels = format!("{{le=\"{bound}\",phase=\"executing\",priority_level=\"l\"}}");
        value(
            &metrics,
            &format!("priority_level_seat_utilization_bucket{labels}"),
        ) / 1e9
    };
    assert_eq!(
        [
            seats("0.0"),
            seats("0.4"),
            seats("0.5"),
            seats("0.99"),
            seats("1.0")
        ],
        [1.0, 1.0, 5.0, 5.0, 10.0]
    );
    // For two seconds three seats were wanted where there are two.
    let demand = |bound: &str| {
        let labels = format!("{{le=\"{bound}\",priority_level=\"l\"}}");
        value(&metrics, &format!("demand_seats_bucket{labels}")) / 1e9
    };
    assert_eq!(
        [demand("1.0"), demand("1.4"), demand("1.7"), demand("+Inf")],
        [8.0, 8.0, 10.0, 10.0]
    );
    let waited =
        "read_vs_write_current_requests_bucket{le=\"0.0\",phase=\"waiting\",request_kind=\"mutating\"}";
    assert_eq!(value(&metrics, waited) / 1e9, 8.0);
    let read =
        "read_vs_write_current_requests_bucket{le=\"0.0\",phase=\"executing\",request_kind=\"readOnly\"}";
    assert_eq!(value(&metrics, read) / 1e9, 5.0);
    drop(seat);
    let ran = |sort: &str| {
        let labels = format!("{{priority_level=\"l\",flow_schema=\"s\",type=\"{sort}\"}}");
        value(&metrics, &format!("request_execution_seconds_sum{labels}"))
    };
    assert_eq!((ran("watch"), ran("regular")), (5.0, 4.0));
    // Three seconds of two seats for one queue, two for two, and four of one seat for one.
    let of_level =
        |series: &str, more: &str| value(&metrics, &format!("{series}{{priority_level=\"l\"{more}}}"));
    assert_eq!(
        (of_level("current_r", ""), of_level("dispatch_r", "")),
        (12.0, 8.0)
    );
    assert_eq!(of_level("latest_s", ""), 6.0, "its queue was new when it came");
    for series in ["next_s_bounds", "next_discounted_s_bounds"] {
        let bounds = ["min", "max"].map(|bound| of_level(series, &format!(",bound=\"{bound}\"")));
        assert_eq!(bounds, [6.0, 6.0], "nobody else waited");
    }
}
