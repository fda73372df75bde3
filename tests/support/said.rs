//! What programs say.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// What a program said: on standard output, or on standard error if it failed.
pub fn said(out: Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if out.status.success() {
        Ok(text(&out.stdout))
    } else {
        Err(text(&out.stderr))
    }
}

/// Runs a command with `input` on its standard input; all it said, on both outputs.
pub fn feed(command: Command, input: &str) -> String {
    both(&feed_raw(command, input))
}

/// The same; its output.
pub fn feed_raw(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl");
    // It may end without having read everything; its output says why.
    let _ = child.stdin.take().expect("stdin").write_all(input.as_bytes());
    child.wait_with_output().expect("kubectl")
}

/// Everything a program said, on standard output and then on standard error.
pub fn both(out: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}
