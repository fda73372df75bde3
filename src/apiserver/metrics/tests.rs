use std::time::Duration;

use super::*;

fn has(metrics: &Metrics, lines: &[&str]) {
    let text = metrics.encode_plain();
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line}: {text}");
    }
}

fn list() -> About {
    About {
        verb: "LIST",
        version: "v1",
        resource: "pods",
        component: "apiserver",
        ..About::default()
    }
}

fn took(milliseconds: u64) -> Answer {
    Answer {
        code: 200,
        took: Some(Duration::from_millis(milliseconds)),
        bytes: Some(5000),
        ..Answer::default()
    }
}

#[test]
fn series_have_kubernetes_names() {
    let metrics = Metrics::new();
    let http = HttpMetrics::new(&metrics);
    http.answered(&list(), took(3));
    let of = "verb=\"LIST\",group=\"\",version=\"v1\",resource=\"pods\",subresource=\"\",scope=\"\",component=\"apiserver\"";
    has(
        &metrics,
        &[
            &format!("apiserver_request_total{{{of},dry_run=\"\",code=\"200\"}} 1"),
            &format!("apiserver_request_duration_seconds_bucket{{le=\"0.005\",{of},dry_run=\"\"}} 1"),
            &format!("apiserver_request_sli_duration_seconds_bucket{{le=\"1\",{of}}} 1"),
            &format!("apiserver_request_sli_duration_seconds_count{{{of}}} 1"),
            &format!("apiserver_response_sizes_bucket{{le=\"1000\",{of}}} 0"),
            &format!("apiserver_response_sizes_bucket{{le=\"10000\",{of}}} 1"),
        ],
    );
}

#[test]
fn what_others_took_does_not_count_for_service_levels_and_what_was_only_tried_not_at_all() {
    let metrics = Metrics::new();
    let http = HttpMetrics::new(&metrics);
    let about = About {
        verb: "POST",
        ..list()
    };
    http.answered(
        &about,
        Answer {
            waited: Duration::from_millis(1900),
            ..took(2000)
        },
    );
    http.answered(
        &about,
        Answer {
            dry_run: true,
            ..took(10)
        },
    );
    let text = metrics.encode_plain();
    let value = |name: &str, le: &str, with: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name}_bucket{{le=\"{le}\",")) && line.contains(with));
        line.and_then(|line| line.rsplit(' ').next())
            .unwrap_or("none")
            .to_owned()
    };
    assert_eq!(value("apiserver_request_sli_duration_seconds", "0.2", ""), "1");
    assert_eq!(value("apiserver_request_sli_duration_seconds", "60", ""), "1");
    assert_eq!(
        value("apiserver_request_duration_seconds", "1.5", "dry_run=\"\""),
        "0"
    );
    assert_eq!(
        value("apiserver_request_duration_seconds", "0.025", "dry_run=\"All\""),
        "1"
    );
    // Only what is read has a size worth knowing.
    assert_eq!(value("apiserver_response_sizes", "1000", ""), "none");
}

#[test]
fn what_runs_is_counted_while_it_does() {
    let metrics = Metrics::new();
    let http = HttpMetrics::new(&metrics);
    let running = http.running(false);
    let all_pods = About {
        verb: "WATCH",
        scope: "cluster",
        ..list()
    };
    let watching = http.watching(&all_pods);
    watching.sent.event(2000);
    assert_eq!(http.watchers(&list()), 1);
    has(
        &metrics,
        &[
            "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1",
            "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0",
            "apiserver_watch_events_total{group=\"\",version=\"v1\",resource=\"pods\"} 1",
            "apiserver_watch_events_sizes_bucket{le=\"2048\",group=\"\",version=\"v1\",resource=\"pods\"} 1",
        ],
    );
    drop((running, watching));
    assert_eq!(http.watchers(&list()), 0);
    let of = "verb=\"WATCH\",group=\"\",version=\"v1\",resource=\"pods\",subresource=\"\",scope=\"cluster\",component=\"apiserver\"";
    has(
        &metrics,
        &[
            "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 0",
            &format!("apiserver_request_duration_seconds_count{{{of},dry_run=\"\"}} 1"),
            &format!("apiserver_request_sli_duration_seconds_count{{{of}}} 1"),
        ],
    );
}

#[test]
fn requests_without_an_end_are_counted() {
    let metrics = Metrics::new();
    let http = HttpMetrics::new(&metrics);
    http.terminated(&list(), 429);
    http.aborted(&list());
    http.deprecated(&list());
    let of = "group=\"\",version=\"v1\",resource=\"pods\",subresource=\"\"";
    has(
        &metrics,
        &[
            &format!(
                "apiserver_request_terminations_total{{verb=\"LIST\",{of},scope=\"\",component=\"apiserver\",code=\"429\"}} 1"
            ),
            &format!("apiserver_request_aborts_total{{verb=\"LIST\",{of},scope=\"\"}} 1"),
            &format!("apiserver_requested_deprecated_apis{{{of},removed_release=\"\"}} 1"),
        ],
    );
}

#[test]
fn the_build_is_told() {
    let metrics = Metrics::new();
    register_process(&metrics);
    let text = metrics.encode_plain();
    let build = text
        .lines()
        .find(|line| line.starts_with("kubernetes_build_info{"));
    let build = build.unwrap_or_default();
    assert!(
        build.contains("git_version=\"v1.36.0+coracle\"") && build.ends_with(" 1"),
        "{build}"
    );
}
