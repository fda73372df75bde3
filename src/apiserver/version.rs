//! Which Kubernetes this is.

use serde_json::{Value, json};

/// The Kubernetes version whose API is served.
pub const KUBERNETES: &str = "v1.36.0";

/// The version of this program.
pub const OURS: &str = env!("CARGO_PKG_VERSION");

/// `v1.36.0+coracle`, as nodes and `/version` report it.
pub fn git_version() -> String {
    format!("{KUBERNETES}+coracle")
}

/// The answer to `/version`.
pub fn info() -> Value {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": git_version(),
        "gitCommit": env!("CARGO_PKG_VERSION"),
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("linux/{arch}"),
    })
}
