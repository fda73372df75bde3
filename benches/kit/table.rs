//! Figures and the tables they are printed in.

use std::time::Duration;

/// Prints a table in Markdown under a title.
pub fn print(title: &str, head: &[&str], rows: &[Vec<String>]) {
    println!("{title}\n");
    println!("| {} |", head.join(" | "));
    println!("|{}", " --- |".repeat(head.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
    println!();
}

/// The value below which `share` (0 to 1) of the sorted values lie.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let at = (share * last as f64).round() as usize;
    values.get(at.min(last)).copied().unwrap_or(f64::NAN)
}

/// The middle value.
pub fn median(values: &[f64]) -> f64 {
    quantile(&mut values.to_vec(), 0.5)
}

/// `LOWEST–HIGHEST` with one decimal.
pub fn range(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    format!(
        "{:.1}–{:.1}",
        quantile(&mut sorted, 0.0),
        quantile(&mut sorted, 1.0)
    )
}

/// A duration in milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Bytes as mebibytes.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
