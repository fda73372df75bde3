//! Programs that cannot be run, with words a user can act upon, and the cache.

use crate::support::*;
use bytes::Bytes;
use coracle_wasm::{Host, HostConfig, ProgramKind};
use std::time::Duration;

async fn refusal(host: &Host, bytes: impl Into<Bytes>) -> String {
    let bytes = bytes.into();
    host.compile(&digest(&bytes), bytes)
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn truncated_and_foreign_files() {
    let host = host();
    for file in ["hello-cli.module.wasm", "hello-cli.wasm", "hello-http.wasm"] {
        let whole = example_bytes(file);
        for length in [6, 9, 100, whole.len() / 2, whole.len() - 1] {
            let text = refusal(&host, whole.slice(..length)).await;
            assert!(
                text.starts_with("invalid wasm program: "),
                "{file} {length}: {text}"
            );
            assert!(text.contains("truncated"), "{file} {length}: {text}");
        }
    }
    assert!(
        refusal(&host, &b"\x7fELF\x02\x01\x01"[..])
            .await
            .contains("native ELF program")
    );
    assert!(refusal(&host, Bytes::new()).await.contains("empty"));
    let mut noise = example_bytes("hello-cli.module.wasm").to_vec();
    let middle = noise.len() / 2;
    noise[middle..middle + 64].fill(0xff);
    assert!(refusal(&host, noise).await.starts_with("invalid wasm program: "));
}

#[tokio::test]
async fn unsupported_programs_say_what_is_missing() {
    let host = host();
    let text = refusal(&host, r#"(module (func (export "add")))"#).await;
    assert!(
        text.contains("no function `_start`") && text.contains("its exports: add"),
        "{text}"
    );
    let text = refusal(&host, r#"(module (func (export "_start") (param i32)))"#).await;
    assert!(text.contains("no function `_start`"), "{text}");
    let text = refusal(
        &host,
        r#"(module (import "env" "f" (func)) (func (export "_start")))"#,
    )
    .await;
    assert!(
        text.contains("env::f") && text.contains("this host offers WASI"),
        "{text}"
    );
    let text = refusal(
        &host,
        r#"(module (import "wbg" "__wbindgen_x" (func)) (func (export "_start")))"#,
    )
    .await;
    assert!(text.contains("JavaScript"), "{text}");
    let text = refusal(&host, "(component)").await;
    assert!(
        text.contains("neither `wasi:cli/run` nor `wasi:http/incoming-handler`"),
        "{text}"
    );
    // More than the host has room for at all.
    let text = refusal(
        &host,
        r#"(module (table 4000000000 funcref) (func (export "_start")))"#,
    )
    .await;
    assert!(text.contains("exceeds the limit of 200000"), "{text}");
    let text = refusal(&host, r#"(module (memory 1 1 shared) (func (export "_start")))"#).await;
    assert!(text.starts_with("unsupported wasm program: "), "{text}");
}

#[tokio::test]
async fn the_cache_survives_restarts_and_damage() {
    let dir = tempfile::tempdir().unwrap();
    let config = || HostConfig {
        cache_dir: Some(dir.path().join("cwasm")),
        max_instances: 8,
        ..config()
    };
    let path = example("hello-cli.module.wasm");
    let first = Host::new(config()).unwrap();
    let program = first.compile_file("sha256:one", &path).await.unwrap();
    assert_eq!(
        (program.kind(), program.digest()),
        (ProgramKind::Module, "sha256:one")
    );
    assert!(program.take_compile_time().is_some(), "it was compiled now");
    assert!(program.take_compile_time().is_none(), "which is told once");
    let files: Vec<_> = std::fs::read_dir(dir.path().join("cwasm"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    let [file] = &files[..] else {
        panic!("one file expected: {files:?}")
    };
    let compiled = std::fs::read(file).unwrap();

    // From the cache, the program itself is not needed.
    let second = Host::new(config()).unwrap();
    let program = second
        .compile_file("sha256:one", "/does/not/exist".as_ref())
        .await
        .unwrap();
    assert!(program.take_compile_time().is_none(), "it was not compiled");
    assert_eq!(run(&second, &program, spec(&["--exit", "7"])).await.0.code, 7);
    assert!(
        second
            .compile_file("sha256:two", "/does/not/exist".as_ref())
            .await
            .is_err()
    );

    // A damaged file is compiled anew.
    std::fs::remove_file(file).unwrap();
    let mut damaged = compiled.clone();
    damaged[compiled.len() / 3] ^= 0x10;
    std::fs::write(file, &damaged).unwrap();
    let third = Host::new(config()).unwrap();
    let program = third.compile_file("sha256:one", &path).await.unwrap();
    assert_eq!(run(&third, &program, spec(&["--exit", "7"])).await.0.code, 7);
    assert_eq!(std::fs::read(file).unwrap(), compiled);
}

#[tokio::test]
async fn many_ask_for_one_program_at_once() {
    let host = host();
    let bytes = example_bytes("tcp-echo.wasm");
    let one = || host.compile("sha256:same", bytes.clone());
    let (a, b, c) = tokio::join!(one(), one(), one());
    assert!([a, b, c].iter().all(|program| program.is_ok()));
}

/// A host without a program has no engine, and so no threads of its own.
#[tokio::test]
async fn an_idle_host_costs_nothing() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let host = host();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(threads(), before);
    compile(&host, "hello-cli.module.wasm").await;
    assert!(threads() > before);
    drop(host);
    eventually("the end of the host's threads", || threads() <= before + 8).await;
}
