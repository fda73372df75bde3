//! Core modules that accept connections on sockets they are given.

use crate::sockets::free_port;
use crate::support::*;
use coracle_wasm::{Host, Instance, ListenAt, Mount, WasmError};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What both programs begin with. `$check` ends the program with a code unless two values are alike.
const HEAD: &str = r#"(module
    (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_recv" (func $recv (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_send" (func $send (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_shutdown" (func $shutdown (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_fdstat_set_flags" (func $flags (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $now (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func $check (param $got i32) (param $wanted i32) (param $code i32)
        (if (i32.ne (local.get $got) (local.get $wanted)) (then (call $exit (local.get $code)))))
    (func $buffer (param $at i32) (param $length i32)
        (i32.store (i32.const 16) (local.get $at))
        (i32.store (i32.const 20) (local.get $length)))
"#;

/// Greets whoever connects, one after the other, and says again what it hears.
const ECHO: &str = r#"
    (data (i32.const 64) "hello from a module\n")
    (func (export "_start") (local $fd i32)
        (loop $next
            (call $check (call $accept (i32.const 3) (i32.const 0) (i32.const 0)) (i32.const 0) (i32.const 11))
            (local.set $fd (i32.load (i32.const 0)))
            (call $buffer (i32.const 64) (i32.const 20))
            (call $check (call $write (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 24)) (i32.const 0) (i32.const 12))
            (block $end
                (loop $echo
                    (call $buffer (i32.const 1024) (i32.const 4096))
                    (br_if $end (call $read (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 24)))
                    (br_if $end (i32.eqz (i32.load (i32.const 24))))
                    (call $buffer (i32.const 1024) (i32.load (i32.const 24)))
                    (br_if $end (call $write (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 24)))
                    (br $echo)))
            (call $check (call $close (local.get $fd)) (i32.const 0) (i32.const 13))
            (br $next))))
"#;

/// Looks at all that can be asked of its socket and of one connection, and ends.
const CURIOUS: &str = r#"
    (data (i32.const 64) "ready\n")
    (data (i32.const 72) "answer")
    (data (i32.const 80) "file")
    ;; Subscriptions at 256: one to read from the descriptor at 0, one to be woken after as many milliseconds.
    (func $subscribe (param $fd i32) (param $ms i64)
        (i64.store (i32.const 256) (i64.const 77))
        (i32.store8 (i32.const 264) (i32.const 1))
        (i32.store (i32.const 272) (local.get $fd))
        (i64.store (i32.const 304) (i64.const 88))
        (i32.store8 (i32.const 312) (i32.const 0))
        (i32.store (i32.const 320) (i32.const 1))
        (i64.store (i32.const 328) (i64.mul (local.get $ms) (i64.const 1000000)))
        (i32.store16 (i32.const 344) (i32.const 0)))
    ;; The same, to be woken at 20 ms from now on that clock.
    (func $until (param $clock i32)
        (call $subscribe (i32.const 3) (i64.const 0))
        (call $check (call $now (local.get $clock) (i64.const 0) (i32.const 600)) (i32.const 0) (i32.const 34))
        (i32.store (i32.const 320) (local.get $clock))
        (i64.store (i32.const 328) (i64.add (i64.load (i32.const 600)) (i64.const 20000000)))
        (i32.store16 (i32.const 344) (i32.const 1)))
    ;; To read from the socket, or from that file.
    (func $beside (param $fd i32)
        (call $subscribe (i32.const 3) (i64.const 0))
        (i64.store (i32.const 304) (i64.const 99))
        (i32.store8 (i32.const 312) (i32.const 1))
        (i32.store (i32.const 320) (local.get $fd)))
    (func $happened (param $userdata i64) (param $code i32)
        (call $check (call $poll (i32.const 256) (i32.const 512) (i32.const 2) (i32.const 8)) (i32.const 0) (local.get $code))
        (call $check (i32.load (i32.const 8)) (i32.const 1) (local.get $code))
        (call $check (i64.eq (i64.load (i32.const 512)) (local.get $userdata)) (i32.const 1) (local.get $code))
        (call $check (i32.load16_u (i32.const 520)) (i32.const 0) (local.get $code)))
    (func (export "_start") (local $fd i32)
        ;; The environment, as it is.
        (drop (call $sizes (i32.const 0) (i32.const 4)))
        (drop (call $environ (i32.const 4096) (i32.const 8192)))
        (call $buffer (i32.const 8192) (i32.load (i32.const 4)))
        (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)))
        ;; A socket first, then the mounted folder, then nothing.
        (call $check (call $prestat (i32.const 3) (i32.const 0)) (i32.const 0) (i32.const 20))
        (call $check (i32.load8_u (i32.const 0)) (i32.const 1) (i32.const 21))
        (call $check (call $prestat (i32.const 4) (i32.const 0)) (i32.const 0) (i32.const 22))
        (call $check (i32.load8_u (i32.const 0)) (i32.const 0) (i32.const 23))
        (call $check (call $prestat (i32.const 5) (i32.const 0)) (i32.const 8) (i32.const 24))
        (call $check (call $stat (i32.const 3) (i32.const 128)) (i32.const 0) (i32.const 25))
        (call $check (i32.load8_u (i32.const 128)) (i32.const 6) (i32.const 26))
        ;; Standard output is no socket, and no such thing is no such thing.
        (call $check (call $accept (i32.const 1) (i32.const 0) (i32.const 0)) (i32.const 57) (i32.const 27))
        (call $check (call $accept (i32.const 9) (i32.const 0) (i32.const 0)) (i32.const 8) (i32.const 28))
        ;; Nobody has come.
        (call $check (call $flags (i32.const 3) (i32.const 4)) (i32.const 0) (i32.const 30))
        (call $check (call $accept (i32.const 3) (i32.const 0) (i32.const 0)) (i32.const 6) (i32.const 31))
        (call $subscribe (i32.const 3) (i64.const 20))
        (call $happened (i64.const 88) (i32.const 32))
        ;; Nor by a time of the day, nor by one of the clock that only goes on.
        (call $until (i32.const 0))
        (call $happened (i64.const 88) (i32.const 35))
        (call $until (i32.const 1))
        (call $happened (i64.const 88) (i32.const 36))
        ;; A file beside the socket can be read at once, and a folder cannot.
        (call $check (call $open (i32.const 4) (i32.const 0) (i32.const 80) (i32.const 4) (i32.const 0)
            (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0)) (i32.const 0) (i32.const 37))
        (call $beside (i32.load (i32.const 0)))
        (call $happened (i64.const 99) (i32.const 38))
        (call $beside (i32.const 4))
        (call $check (call $poll (i32.const 256) (i32.const 512) (i32.const 2) (i32.const 8)) (i32.const 8) (i32.const 39))
        (call $buffer (i32.const 64) (i32.const 6))
        (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)))
        (call $subscribe (i32.const 3) (i64.const 60000))
        (call $happened (i64.const 77) (i32.const 33))
        (call $check (call $accept (i32.const 3) (i32.const 0) (i32.const 0)) (i32.const 0) (i32.const 34))
        (local.set $fd (i32.load (i32.const 0)))
        ;; What was said is there when it is looked at, and still when it is taken.
        (call $buffer (i32.const 1024) (i32.const 4096))
        (call $check (call $recv (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 1) (i32.const 24) (i32.const 28)) (i32.const 0) (i32.const 40))
        (call $check (i32.load (i32.const 24)) (i32.const 8) (i32.const 41))
        (call $check (call $recv (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 24) (i32.const 28)) (i32.const 0) (i32.const 42))
        (call $check (i32.load (i32.const 24)) (i32.const 8) (i32.const 43))
        (call $check (call $flags (local.get $fd) (i32.const 4)) (i32.const 0) (i32.const 44))
        (call $check (call $read (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 24)) (i32.const 6) (i32.const 45))
        (call $buffer (i32.const 72) (i32.const 6))
        (call $check (call $send (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 24)) (i32.const 0) (i32.const 46))
        (call $check (i32.load (i32.const 24)) (i32.const 6) (i32.const 47))
        (call $check (call $shutdown (local.get $fd) (i32.const 2)) (i32.const 0) (i32.const 48))
        (call $check (call $accept (local.get $fd) (i32.const 0) (i32.const 0)) (i32.const 28) (i32.const 49))
        (call $check (call $close (local.get $fd)) (i32.const 0) (i32.const 50))
        (call $check (call $close (local.get $fd)) (i32.const 8) (i32.const 51))
        (call $check (call $close (i32.const 3)) (i32.const 0) (i32.const 52))
        (call $check (call $accept (i32.const 3) (i32.const 0) (i32.const 0)) (i32.const 8) (i32.const 53))))
"#;

async fn start(host: &Host, body: &str, port: u16, change: impl FnOnce(&mut Spec)) -> Instance {
    let program = compile_text(host, &format!("{HEAD}{body}")).await;
    assert!(program.accepts());
    let mut spec = spec(&[]);
    spec.spec.listen = vec![ListenAt {
        name: "web".into(),
        address: SocketAddr::from(([127, 0, 0, 1], port)),
    }];
    change(&mut spec);
    host.start(&program, spec.spec).await.unwrap()
}

#[tokio::test]
async fn a_module_serves_one_after_the_other() {
    let host = host();
    let port = free_port();
    let instance = start(&host, ECHO, port, |_| {}).await;
    for round in 0..3 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let text = format!("round {round}, {}", "x".repeat(10_000 * round));
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, format!("hello from a module\n{text}"));
    }
    // Whoever is being served keeps it from ending; then it is over.
    let mut last = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    last.read_exact(&mut [0; 20]).await.unwrap();
    instance.stop(Duration::from_secs(60));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(instance.exit(), None);
    drop(last);
    assert_eq!(wait(&instance).await.code, 0);
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
}

#[tokio::test]
async fn sockets_and_their_neighbours_among_descriptors() {
    let host = host();
    let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("file"), "text").unwrap();
    let mut stdout = None;
    let instance = start(&host, CURIOUS, port, |spec| {
        spec.spec.mounts = vec![Mount {
            host: dir.path().into(),
            inside: Default::default(),
            guest: "/data".into(),
            read_only: true,
        }];
        stdout = Some(spec.stdout.clone());
    })
    .await;
    let stdout = stdout.unwrap();
    eventually("the module waits", || {
        stdout.text().contains("ready") || instance.exit().is_some()
    })
    .await;
    assert_eq!(instance.exit(), None);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"question").await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "answer");
    let exit = wait(&instance).await;
    assert_eq!(exit.code, 0, "{exit:?}");
    let told = stdout.text();
    assert!(told.contains("LISTEN_FDS=1\0"), "{told:?}");
    assert!(told.contains("LISTEN_FDNAMES=web\0"), "{told:?}");
}

#[tokio::test]
async fn a_taken_port_is_told_and_other_modules_listen_nowhere() {
    let host = host();
    let port = free_port();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let program = compile_text(&host, &format!("{HEAD}{ECHO}")).await;
    let listen = || {
        let mut spec = spec(&[]);
        spec.spec.listen = vec![ListenAt {
            name: "web".into(),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        }];
        spec
    };
    let error = host.start(&program, listen().spec).await.unwrap_err();
    assert!(matches!(error, WasmError::AddressInUse { .. }), "{error}");
    drop(taken);
    // A program that never accepts would leave whoever connects waiting.
    let other = compile(&host, "hello-cli.module.wasm").await;
    assert!(!other.accepts());
    let (exit, stdout, _) = run(&host, &other, listen()).await;
    assert_eq!((exit.code, stdout.contains("LISTEN_FDS")), (0, false), "{stdout}");
    // One that is given none is told so.
    let (exit, _, _) = run(&host, &program, spec(&[])).await;
    assert_eq!(exit.code, 11);
}
