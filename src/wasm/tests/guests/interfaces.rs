//! Programs of one pod that call each other's exports.

use crate::support::*;
use coracle_wasm::{Exit, Host, Instance, Membership, MemoryOutput, Program, ProgramKind, WasmError};
use std::sync::Arc;
use std::time::Duration;

/// `demo:math/calc`: adds, counts its calls, joins texts, traps, grows, and computes for ever.
pub const CALC: &str = r#"(component
    (core module $code
        (memory (export "memory") 1)
        (global $at (mut i32) (i32.const 1024))
        (global $calls (mut i32) (i32.const 0))
        (func $realloc (export "realloc") (param i32 i32 i32 i32) (result i32)
            (global.get $at)
            (global.set $at (i32.add (global.get $at) (i32.and (i32.add (local.get 3) (i32.const 7)) (i32.const -8)))))
        (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
        (func (export "count") (result i32)
            (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (global.get $calls))
        (func (export "join") (param $a i32) (param $al i32) (param $b i32) (param $bl i32) (result i32)
            (local $to i32)
            (local.set $to (call $realloc (i32.const 0) (i32.const 0) (i32.const 1)
                (i32.add (local.get $al) (local.get $bl))))
            (memory.copy (local.get $to) (local.get $a) (local.get $al))
            (memory.copy (i32.add (local.get $to) (local.get $al)) (local.get $b) (local.get $bl))
            (i32.store (i32.const 8) (local.get $to))
            (i32.store (i32.const 12) (i32.add (local.get $al) (local.get $bl)))
            (i32.const 8))
        (func (export "boom") unreachable)
        (func (export "grow") (drop (memory.grow (i32.const 2048))))
        (func (export "spin") (loop (br 0))))
    (core instance $code (instantiate $code))
    (alias core export $code "memory" (core memory $memory))
    (alias core export $code "realloc" (core func $realloc))
    (func $add (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $code "add")))
    (func $count (result u32) (canon lift (core func $code "count")))
    (func $join (param "a" string) (param "b" string) (result string)
        (canon lift (core func $code "join") (memory $memory) (realloc $realloc)))
    (func $boom (canon lift (core func $code "boom")))
    (func $grow (canon lift (core func $code "grow")))
    (func $spin (canon lift (core func $code "spin")))
    (instance $calc
        (export "add" (func $add)) (export "count" (func $count)) (export "join" (func $join))
        (export "boom" (func $boom)) (export "grow" (func $grow)) (export "spin" (func $spin)))
    (export "demo:math/calc@1.0.0" (instance $calc)))"#;

/// A command that imports it and succeeds if `body` leaves nothing but 0.
pub fn caller(body: &str) -> String {
    let heap = heap(r#"(data (i32.const 16) "up and away")"#);
    format!(
        r#"(component
        (import "demo:math/calc@1.0.0" (instance $calc
            (export "add" (func (param "a" u32) (param "b" u32) (result u32)))
            (export "count" (func (result u32)))
            (export "join" (func (param "a" string) (param "b" string) (result string)))
            (export "boom" (func)) (export "grow" (func)) (export "spin" (func))))
        {heap}
        (core func $add (canon lower (func $calc "add")))
        (core func $count (canon lower (func $calc "count")))
        (core func $join (canon lower (func $calc "join") (memory $memory) (realloc $realloc)))
        (core func $boom (canon lower (func $calc "boom")))
        (core func $grow (canon lower (func $calc "grow")))
        (core func $spin (canon lower (func $calc "spin")))
        (core module $code
            (import "host" "memory" (memory 1))
            (import "host" "add" (func $add (param i32 i32) (result i32)))
            (import "host" "count" (func $count (result i32)))
            (import "host" "join" (func $join (param i32 i32 i32 i32 i32)))
            (import "host" "boom" (func $boom))
            (import "host" "grow" (func $grow))
            (import "host" "spin" (func $spin))
            (func (export "run") (result i32) {body}))
        (core instance $code (instantiate $code (with "host" (instance
            (export "memory" (memory $memory)) (export "add" (func $add)) (export "count" (func $count))
            (export "join" (func $join)) (export "boom" (func $boom)) (export "grow" (func $grow))
            (export "spin" (func $spin))))))
        (func $run (result (result)) (canon lift (core func $code "run")))
        (instance $command (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $command)))"#
    )
}

/// Succeeds if the n-th call of one instance is answered with n, `times` times.
pub fn counts(from: u32, times: u32) -> String {
    let calls = (from..from + times).map(|n| format!("(i32.ne (call $count) (i32.const {n})) i32.or "));
    format!("(i32.const 0) {}", calls.collect::<String>())
}

/// Starts a program under that name; what came of it, and its log.
pub async fn start(
    host: &Host,
    pod: &Arc<Pod>,
    name: &str,
    text: &str,
    change: impl FnOnce(&mut Spec),
) -> (Result<Instance, WasmError>, Arc<MemoryOutput>) {
    let program = compile_text(host, text).await;
    start_program(host, pod, name, &program, change).await
}

async fn start_program(
    host: &Host,
    pod: &Arc<Pod>,
    name: &str,
    program: &Program,
    change: impl FnOnce(&mut Spec),
) -> (Result<Instance, WasmError>, Arc<MemoryOutput>) {
    let mut given = spec(&[]);
    given.spec.network = pod.clone();
    given.spec.membership = Some(Membership {
        name: name.into(),
        provides: true,
        ..Membership::default()
    });
    change(&mut given);
    (host.start(program, given.spec).await, given.stderr)
}

/// The end of a program that is nothing but such a caller.
async fn ask(host: &Host, pod: &Arc<Pod>, body: &str) -> Exit {
    let (instance, _) = start(host, pod, "asks", &caller(body), nothing).await;
    wait(&instance.unwrap()).await
}

pub fn nothing(_: &mut Spec) {}

#[tokio::test]
async fn functions_of_another_program_are_called() {
    let host = host();
    let pod = Arc::new(Pod::default());
    let calc = compile_text(&host, CALC).await;
    assert_eq!(calc.kind(), ProgramKind::Library);
    let (calc, _) = start_program(&host, &pod, "calc", &calc, nothing).await;
    let calc = calc.unwrap();
    let sum = "(i32.ne (call $add (i32.const 40) (i32.const 2)) (i32.const 42))";
    // Joined: "up" and " and away" is the text that it has.
    let text = "(call $join (i32.const 16) (i32.const 2) (i32.const 18) (i32.const 9) (i32.const 64))
        (i32.ne (i32.load (i32.const 68)) (i32.const 11))
        (i64.ne (i64.load (i32.load (i32.const 64))) (i64.load (i32.const 16))) i32.or";
    for body in [sum, text] {
        let exit = ask(&host, &pod, body).await;
        assert_eq!(exit.code, 0, "{exit:?}");
    }
    assert!(calc.usage().cpu_ns > 0 && calc.usage().memory_bytes_peak > 0);
    assert_eq!(calc.exit(), None);
    calc.stop(Duration::from_secs(60));
    assert_eq!(wait(&calc).await.code, 0);
}

#[tokio::test]
async fn an_instance_belongs_to_its_caller_or_to_all() {
    let host = host();
    let pod = Arc::new(Pod::default());
    let (calc, _) = start(&host, &pod, "calc", CALC, nothing).await;
    let calc = calc.unwrap();
    let ask = async |from: u32| ask(&host, &pod, &counts(from, 3)).await.code;
    assert_eq!((ask(1).await, ask(1).await), (0, 0), "each caller begins anew");
    eventually("the end of what the callers had", || {
        calc.usage().memory_bytes == 0
    })
    .await;
    calc.kill();
    wait(&calc).await;
    let (_kept, _) = start(&host, &pod, "calc", CALC, |spec| spec.spec.reuse = true).await;
    assert_eq!(
        (ask(1).await, ask(4).await),
        (0, 0),
        "one goes on where the other was"
    );
}

#[tokio::test]
async fn what_fails_there_is_told_here() {
    let host = host();
    let pod = Arc::new(Pod::default());
    let limit = |spec: &mut Spec| spec.spec.memory_bytes_max = Some(MIB);
    let (calc, log) = start(&host, &pod, "calc", CALC, limit).await;
    let calc = calc.unwrap();
    let exit = ask(&host, &pod, "(call $boom) (i32.const 0)").await;
    assert_eq!(exit.code, 134, "{exit:?}");
    let named = exit
        .message
        .contains("demo:math/calc@1.0.0#boom, which \"calc\" provides, failed: wasm trap");
    assert!(named, "{}", exit.message);
    assert!(
        log.text().contains("demo:math/calc@1.0.0#boom: wasm trap"),
        "{}",
        log.text()
    );
    assert_eq!(calc.exit(), None, "it is one instance that has failed");

    // Out of memory: the callee ends of it, and the caller fails.
    let exit = ask(&host, &pod, "(call $grow) (i32.const 0)").await;
    assert_eq!(exit.code, 134, "{exit:?}");
    assert!(
        exit.message.contains("memory limit of 1.0 MiB exceeded"),
        "{}",
        exit.message
    );
    let end = wait(&calc).await;
    assert_eq!((end.code, end.reason.as_str()), (137, "OOMKilled"));

    // Who is killed while it waits takes with it what it waits for, and the other way round.
    let (calc, _) = start(&host, &pod, "calc", CALC, nothing).await;
    let calc = calc.unwrap();
    let endless = caller("(call $spin) (i32.const 0)");
    let (caller, _) = start(&host, &pod, "asks", &endless, nothing).await;
    let caller = caller.unwrap();
    eventually("the call", || {
        calc.usage().cpu_ns > 0 && calc.usage().memory_bytes > 0
    })
    .await;
    caller.kill();
    assert_eq!(wait(&caller).await.code, 137);
    eventually("the end of the call", || calc.usage().memory_bytes == 0).await;
    let (caller, _) = start(&host, &pod, "asks", &endless, nothing).await;
    eventually("the call", || calc.usage().memory_bytes > 0).await;
    calc.kill();
    let exit = wait(&caller.unwrap()).await;
    assert!(exit.message.contains("it was ended"), "{exit:?}");
}

#[tokio::test]
async fn a_provider_may_come_late_and_come_again() {
    let host = host();
    let pod = Arc::new(Pod::default());
    let ask = caller(&counts(1, 1));
    let others = |spec: &mut Spec| {
        let member = spec.spec.membership.as_mut().unwrap();
        member.others = vec!["calc".into()];
    };
    let (asked, calc) = tokio::join!(start(&host, &pod, "asks", &ask, others), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        start(&host, &pod, "calc", CALC, nothing).await.0.unwrap()
    });
    assert_eq!(wait(&asked.0.unwrap()).await.code, 0);
    // It is between two runs: whoever calls waits.
    calc.kill();
    wait(&calc).await;
    let (asked, _) = start(&host, &pod, "asks", &ask, others).await;
    let _again = start(&host, &pod, "calc", CALC, nothing).await.0.unwrap();
    assert_eq!(wait(&asked.unwrap()).await.code, 0);
}

#[tokio::test]
async fn what_nobody_or_too_many_provide_is_refused() {
    let host = host();
    let pod = Arc::new(Pod::default());
    let ask = caller("(i32.const 0)");
    let refusal = async |pod: &Arc<Pod>, change: fn(&mut Spec)| {
        let (started, _) = start(&host, pod, "asks", &ask, change).await;
        started.map(drop).unwrap_err().to_string()
    };
    let text = refusal(&pod, nothing).await;
    assert!(
        text.contains("`demo:math/calc@1.0.0`") && text.contains("this host offers WASI"),
        "{text}"
    );
    // Nor does a program that stands alone find anything, or one that nobody can call do anything.
    let text = refusal(&pod, |spec| spec.spec.membership = None).await;
    assert!(text.contains("this host offers WASI"), "{text}");
    let (alone, _) = start(&host, &pod, "calc", CALC, |spec| spec.spec.membership = None).await;
    let text = alone.map(drop).unwrap_err().to_string();
    assert!(text.contains("nobody who could call"), "{text}");

    let (_one, _) = start(&host, &pod, "one", CALC, nothing).await;
    let (_two, _) = start(&host, &pod, "two", CALC, nothing).await;
    let text = refusal(&pod, nothing).await;
    assert!(
        text.contains(r#"exported by several programs ("one", "two")"#),
        "{text}"
    );
    let chosen = |spec: &mut Spec| {
        let member = spec.spec.membership.as_mut().unwrap();
        member.chosen = vec![("demo:math/calc@1.0.0".into(), "two".into())];
    };
    let (asked, _) = start(&host, &pod, "asks", &ask, chosen).await;
    assert_eq!(wait(&asked.unwrap()).await.code, 0);

    // Of another type.
    let pod = Arc::new(Pod::default());
    let other = CALC.replace(
        r#"(param "a" u32) (param "b" u32)"#,
        r#"(param "a" u32) (param "c" u32)"#,
    );
    let (_other, _) = start(&host, &pod, "calc", &other, nothing).await;
    let text = refusal(&pod, nothing).await;
    assert!(text.contains("its function `add` has another type"), "{text}");
}

/// A component that calls itself through another, which calls it.
#[tokio::test]
async fn calls_that_go_in_a_circle_end() {
    let passes = |from: &str, to: &str| {
        format!(
            r#"(component
            (import "demo:ring/{to}" (instance $next (export "go" (func))))
            (core func $go (canon lower (func $next "go")))
            (core module $code (import "next" "go" (func $go)) (func (export "go") (call $go))
                (func (export "run") (result i32) (call $go) (i32.const 0)))
            (core instance $code (instantiate $code (with "next" (instance (export "go" (func $go))))))
            (func $go' (canon lift (core func $code "go")))
            (func $run (result (result)) (canon lift (core func $code "run")))
            (instance $own (export "go" (func $go')))
            (instance $command (export "run" (func $run)))
            (export "demo:ring/{from}" (instance $own))
            (export "wasi:cli/run@0.2.0" (instance $command)))"#
        )
    };
    let host = host();
    let pod = Arc::new(Pod::default());
    let other = |name: &'static str| {
        move |spec: &mut Spec| spec.spec.membership.as_mut().unwrap().others = vec![name.into()]
    };
    let (there, back) = (passes("a", "b"), passes("b", "a"));
    let (one, two) = tokio::join!(
        start(&host, &pod, "a", &there, other("b")),
        start(&host, &pod, "b", &back, other("a")),
    );
    for instance in [one.0, two.0] {
        let exit = wait(&instance.unwrap()).await;
        assert_ne!(exit.code, 0, "{exit:?}");
    }
}
