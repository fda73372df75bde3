//! Load from `wrk`, which is measured and known, so that the driver is not in doubt.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use kit::{process, table};

/// Rounds for each URL.
pub const ROUNDS: usize = 3;
/// What the cells of a round say.
const FIGURES: [&str; 4] = ["requests/s", "p50", "p99", "CPU of the machine per request"];

/// What one round of load gave.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Answered requests per second.
    pub per_second: f64,
    /// Median latency in milliseconds.
    pub p50: f64,
    /// 99th percentile in milliseconds.
    pub p99: f64,
    /// CPU time of the whole machine per request, in microseconds, load generator included.
    pub cpu: f64,
}

/// How connections are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// Kept open.
    Kept,
    /// A new one for every request.
    Fresh,
}

/// Loads a URL from 32 connections for some seconds. Every request must succeed.
fn load(url: &str, connections: Connections, seconds: u64) -> anyhow::Result<Round> {
    let mut wrk = Command::new("wrk");
    wrk.args([
        "-t1",
        "-c32",
        "--latency",
        "--timeout",
        "10s",
        "-d",
        &format!("{seconds}s"),
    ]);
    if connections == Connections::Fresh {
        wrk.args(["-H", "Connection: close"]);
    }
    let before = process::machine_cpu();
    let output = wrk.arg(url).output().context("wrk (Debian package wrk)")?;
    let used = process::machine_cpu() - before;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "wrk {url}: {said}");
    ensure!(!said.contains("Non-2xx"), "wrk {url} was refused: {said}");
    read(&said, used).with_context(|| format!("wrk {url}: {said}"))
}

/// Loads each URL in turn, several times; the median of the rounds of each.
pub fn interleave(
    ways: &[(impl Sized, String)],
    connections: Connections,
    seconds: u64,
) -> anyhow::Result<Vec<Round>> {
    let mut rounds = vec![vec![]; ways.len()];
    for _ in 0..ROUNDS {
        for (way, rounds) in ways.iter().zip(&mut rounds) {
            rounds.push(load(&way.1, connections, seconds)?);
        }
    }
    Ok(rounds.iter().map(|rounds| median(rounds)).collect())
}

/// Loads each URL in turn from kept connections, and prints a row for each; `head` says what they are.
pub fn compare(title: &str, head: &str, ways: &[(&str, String)], seconds: u64) -> anyhow::Result<()> {
    let rounds = interleave(ways, Connections::Kept, seconds)?;
    let row = |(way, round): (&(&str, String), Round)| [vec![way.0.to_owned()], round.cells()].concat();
    let rows: Vec<_> = ways.iter().zip(rounds).map(row).collect();
    print(title, &[head], &rows);
    Ok(())
}

/// Prints rounds, of which `head` names what stands before their cells.
pub fn print(title: &str, head: &[&str], rows: &[Vec<String>]) {
    table::print(title, &[head, &FIGURES].concat(), rows);
}

/// The median of each figure.
fn median(rounds: &[Round]) -> Round {
    let of = |figure: fn(&Round) -> f64| table::median(&rounds.iter().map(figure).collect::<Vec<_>>());
    Round {
        per_second: of(|round| round.per_second),
        p50: of(|round| round.p50),
        p99: of(|round| round.p99),
        cpu: of(|round| round.cpu),
    }
}

impl Round {
    /// Cells of a table, see [`print`].
    pub fn cells(&self) -> Vec<String> {
        vec![
            format!("{:.0}", self.per_second),
            format!("{:.2} ms", self.p50),
            format!("{:.2} ms", self.p99),
            format!("{:.0} µs", self.cpu),
        ]
    }
}

fn read(said: &str, used: Duration) -> Option<Round> {
    let after = |label: &str| said.lines().find_map(|line| line.trim().strip_prefix(label));
    let requests: f64 = said
        .lines()
        .find(|line| line.contains(" requests in "))
        .and_then(|line| line.split_whitespace().next())
        .and_then(|count| count.parse().ok())?;
    Some(Round {
        per_second: after("Requests/sec:")?.trim().parse().ok()?,
        p50: milliseconds(after("50%")?)?,
        p99: milliseconds(after("99%")?)?,
        cpu: used.as_secs_f64() * 1e6 / requests,
    })
}

/// wrk's `1.23ms`, `456.00us` or `1.20s`.
fn milliseconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let (number, factor) = match text {
        _ if text.ends_with("us") => (&text[..text.len() - 2], 0.001),
        _ if text.ends_with("ms") => (&text[..text.len() - 2], 1.0),
        _ => (text.strip_suffix('s')?, 1000.0),
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_understood() {
        let said = "  Latency Distribution\n     50%  456.00us\n     75%    1.00ms\n     90%    2.00ms\n     \
                    99%    1.20s \n  1000 requests in 2.00s, 1.00MB read\nRequests/sec:    500.00\n";
        let round = read(said, Duration::from_millis(100)).unwrap();
        assert!((round.p50 - 0.456).abs() < 1e-9 && (round.p99 - 1200.0).abs() < 1e-9);
        assert!((round.per_second - 500.0).abs() < 1e-9 && (round.cpu - 100.0).abs() < 1e-9);
    }
}
