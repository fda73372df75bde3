//! Prometheus' own text format (0.0.4), which everybody reads who asks for nothing else. Made of the OpenMetrics text:
//! the series are the same lines, only what is said of them differs.

/// Puts the OpenMetrics text into the other form.
pub(super) fn of(open: &str) -> String {
    let mut out = String::with_capacity(open.len());
    // What is said of a family begins with its help, but the name depends on the type, which comes next.
    let mut help = None;
    for line in open.lines() {
        match line
            .strip_prefix("# ")
            .map(|said| said.splitn(3, ' ').collect::<Vec<_>>())
        {
            Some(said) => match said.as_slice() {
                ["HELP", name, text] => help = Some((*name, *text)),
                ["TYPE", name, sort] => describe(&mut out, name, sort, help.take()),
                // Units, and the end.
                _ => {}
            },
            None => series(&mut out, line),
        }
    }
    out
}

fn describe(out: &mut String, name: &str, sort: &str, help: Option<(&str, &str)>) {
    let (suffix, sort) = match sort {
        "counter" => ("_total", "counter"),
        "info" => ("_info", "gauge"),
        "unknown" => ("", "untyped"),
        other => ("", other),
    };
    let mut say = |words: [&str; 4]| {
        let [what, name, suffix, text] = words;
        out.extend(["# ", what, " ", name, suffix, " ", text, "\n"]);
    };
    if let Some((_, text)) = help.filter(|(of, _)| *of == name) {
        say(["HELP", name, suffix, text]);
    }
    say(["TYPE", name, suffix, sort]);
}

/// A line of a series. The bounds of buckets are written as Go does, `1` for `1.0`: dashboards compare the text.
fn series(out: &mut String, line: &str) {
    match line
        .split_once("{le=\"")
        .and_then(|(name, rest)| Some((name, rest.split_once(".0\"")?)))
    {
        Some((name, (bound, rest))) if bound.bytes().all(|b| b.is_ascii_digit()) => {
            out.extend([name, "{le=\"", bound, "\"", rest]);
        }
        _ => out.push_str(line),
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_bounds_and_types_are_those_of_the_older_format() {
        let open = "# HELP things Things seen.\n# TYPE things counter\nthings_total{a=\"1.0\"} 1\n\
                    # HELP took Time.\n# TYPE took histogram\n# UNIT took seconds\n\
                    took_bucket{le=\"1.0\",a=\"2.0\"} 1\ntook_bucket{le=\"0.05\"} 1\ntook_bucket{le=\"+Inf\"} 1\n\
                    # HELP build What.\n# TYPE build info\nbuild_info{v=\"1\"} 1\n\
                    # TYPE odd unknown\nodd 1\n# EOF\n";
        let plain = "# HELP things_total Things seen.\n# TYPE things_total counter\nthings_total{a=\"1.0\"} 1\n\
                     # HELP took Time.\n# TYPE took histogram\n\
                     took_bucket{le=\"1\",a=\"2.0\"} 1\ntook_bucket{le=\"0.05\"} 1\ntook_bucket{le=\"+Inf\"} 1\n\
                     # HELP build_info What.\n# TYPE build_info gauge\nbuild_info{v=\"1\"} 1\n\
                     # TYPE odd untyped\nodd 1\n";
        assert_eq!(of(open), plain);
    }
}
