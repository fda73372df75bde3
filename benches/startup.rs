//! From exec to a served API, on empty folders.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::ensure;

use crate::node::Node;
use kit::table::{self, median, mib, ms, range};

/// Prints the table.
pub fn measure(bin: &Path, scratch: &Path, runs: usize) -> anyhow::Result<()> {
    let (mut ready, mut answered, mut cpu) = (vec![], vec![], vec![]);
    for _ in 0..runs {
        let began = Instant::now();
        let node = Node::start(bin, scratch, &[])?;
        let answer = Command::new("curl")
            .args(["-sk", "https://127.0.0.1:6443/readyz"])
            .output()?;
        answered.push(ms(began.elapsed()));
        ensure!(
            answer.stdout == b"ok",
            "the ready line came too early: {answer:?}"
        );
        ready.push(ms(node.started));
        cpu.push(ms(node.cpu()));
    }
    let size = std::fs::metadata(bin)?.len();
    table::print(
        &format!("Start of one node (server and agent) on an empty folder, {runs} times"),
        &["what", "median", "range"],
        &[
            vec![
                "exec → ready line".into(),
                format!("{:.0} ms", median(&ready)),
                range(&ready),
            ],
            vec![
                "exec → `/readyz` answered, curl's own start included".into(),
                format!("{:.0} ms", median(&answered)),
                range(&answered),
            ],
            vec![
                "CPU time until then".into(),
                format!("{:.0} ms", median(&cpu)),
                range(&cpu),
            ],
            vec![
                "the binary, stripped".into(),
                format!("{:.0} MiB", mib(size)),
                String::new(),
            ],
        ],
    );
    Ok(())
}
