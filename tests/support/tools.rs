//! The programs that scenarios use as peers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::RwLock;

/// What is run in the place of the program under test.
static OTHER: RwLock<Option<PathBuf>> = RwLock::new(None);

/// From now on runs this program, another build, or again the one that is under test.
pub fn run_another(program: Option<&Path>) {
    *OTHER.write().expect("nobody panics with it") = program.map(Path::to_owned);
}

/// The program under test, unless another one is run in its place.
pub fn coracle() -> PathBuf {
    if let Some(other) = &*OTHER.read().expect("nobody panics with it") {
        return other.clone();
    }
    std::env::var_os("CORACLE_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_coracle")), PathBuf::from)
}

/// An example of this workspace, which cargo puts beside the binary.
pub fn example(name: &str) -> PathBuf {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_coracle"));
    built.with_file_name("examples").join(name)
}

/// The library that gives programs another wall clock.
pub fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut files = folders.map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    files
        .find(|file| file.exists())
        .expect("libfaketime (make setup installs it)")
}

/// The oldest minor version of kubectl that is tried.
const OLDEST: u32 = 27;

/// Every kubectl on this machine by its minor version: those on PATH, and
/// those that lie beside one of them under names such as `kubectl.1.33`.
pub fn kubectls() -> BTreeMap<u32, PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let real = folders
        .iter()
        .filter_map(|dir| dir.join("kubectl").canonicalize().ok());
    let beside: Vec<PathBuf> = real
        .filter_map(|file| file.parent().map(Path::to_owned))
        .collect();
    folders.extend(beside);
    let mut found = BTreeMap::new();
    for folder in folders {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(minor) = name
                .strip_prefix("kubectl.1.")
                .and_then(|minor| minor.parse().ok())
            {
                found.insert(minor, entry.path());
            }
        }
    }
    if found.is_empty() {
        let plain = Command::new("kubectl")
            .args(["version", "--client", "-o", "json"])
            .output();
        let text = plain
            .map(|out| String::from_utf8_lossy(&out.stdout).into_owned())
            .unwrap_or_default();
        let version: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let minor = version["clientVersion"]["minor"]
            .as_str()
            .and_then(|m| m.trim_end_matches('+').parse().ok());
        found.insert(
            minor.expect("a kubectl (make setup installs one)"),
            PathBuf::from("kubectl"),
        );
    }
    found
}

/// Every kubectl of a supported version, or all there are if none is.
pub fn supported() -> Vec<(u32, PathBuf)> {
    let mut all: Vec<(u32, PathBuf)> = kubectls().into_iter().collect();
    let is_supported = |(minor, _): &(u32, PathBuf)| *minor >= OLDEST;
    if all.iter().any(is_supported) {
        all.retain(is_supported);
    }
    let versions: Vec<u32> = all.iter().map(|(minor, _)| *minor).collect();
    eprintln!("kubectl 1.x used, x: {versions:?}");
    all
}

/// The oldest supported and the newest kubectl there are.
pub fn oldest_and_newest() -> Vec<(u32, PathBuf)> {
    let mut all = supported();
    let newest = all.pop();
    all.into_iter().take(1).chain(newest).collect()
}

/// Where `make setup` puts what it installs beside the system.
fn cache() -> PathBuf {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    std::env::var_os("CORACLE_CACHE").map_or_else(|| home.join(".cache/coracle"), PathBuf::from)
}

/// A language that Kubernetes has a client for.
#[derive(Clone, Copy, Debug)]
pub enum Language {
    /// Python, with the package `kubernetes`.
    Python,
    /// JavaScript, with the package `@kubernetes/client-node`.
    JavaScript,
}

impl Language {
    /// A program of `tests/clients` with its client, to be completed; `None`, said aloud, where the client is not
    /// installed, which under CI is a failure.
    pub fn program(self, name: &str) -> Option<Command> {
        let folder = cache().join("tools/clients");
        let mut command = match self {
            Language::Python => Command::new(folder.join("python/bin/python")),
            Language::JavaScript => {
                let mut command = Command::new("node");
                command.env("NODE_PATH", folder.join("javascript/node_modules"));
                command
            }
        };
        let proof = match self {
            Language::Python => "python/installed",
            Language::JavaScript => "javascript/installed",
        };
        if !folder.join(proof).is_file() {
            assert!(
                std::env::var_os("CI").is_none(),
                "CI must have the {self:?} client: run make setup"
            );
            eprintln!("SKIPPED {name}: Kubernetes' {self:?} client is not installed (make setup does it)");
            return None;
        }
        command.arg(checkout().join("tests/clients").join(name));
        Some(command)
    }
}

/// The operator of `tests/operator`, where `tools/run-tests` built it.
pub fn operator() -> PathBuf {
    let tests = std::env::current_exe().expect("this program");
    let target = tests.ancestors().nth(3).expect("a target folder");
    let file = target.join("operator/debug/operator");
    let command = "cargo build --manifest-path tests/operator/Cargo.toml --target-dir";
    assert!(
        file.is_file(),
        "build it: {command} {}/operator",
        target.display()
    );
    file
}

/// Debian's docker-registry, where `make setup` unpacked it or on PATH.
pub fn registry() -> PathBuf {
    let unpacked = cache().join("tools/usr/bin/docker-registry");
    if unpacked.is_file() {
        unpacked
    } else {
        PathBuf::from("docker-registry")
    }
}

/// The folder of the sources. It is asked for when the test runs: a target folder
/// that several checkouts share may hold the build of another.
pub fn checkout() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is"))
}

/// A prebuilt guest program.
pub fn guest(name: &str) -> PathBuf {
    checkout().join("wasm-examples").join(name)
}
