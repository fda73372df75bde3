//! Guests that misbehave: traps, memory, CPU, and being ended.

use crate::support::*;
use coracle_wasm::{Exit, ExitReason, InstanceSpec};
use std::time::{Duration, Instant};

async fn end_of(text: &str, limit: impl FnOnce(&mut InstanceSpec)) -> Exit {
    let host = host();
    let program = compile_text(&host, text).await;
    let mut spec = spec(&[]);
    limit(&mut spec.spec);
    run(&host, &program, spec).await.0
}

#[tokio::test]
async fn traps_are_named() {
    let exit = end_of(
        "(module (func $inner unreachable) (func $main (export \"_start\") call $inner))",
        |_| {},
    )
    .await;
    assert_eq!((exit.code, exit.reason), (134, ExitReason::Error));
    assert_eq!(
        exit.message,
        "wasm trap: wasm `unreachable` instruction executed in inner < main"
    );
    let divide = "(module (func (export \"_start\") (drop (i32.div_u (i32.const 1) (i32.const 0)))))";
    let exit = end_of(divide, |_| {}).await;
    assert!(exit.message.contains("integer divide by zero"), "{exit:?}");
    let deep = "(module (func $f (export \"_start\") call $f call $f))";
    let exit = end_of(deep, |_| {}).await;
    assert_eq!(exit.code, 134);
    assert!(exit.message.contains("call stack exhausted"), "{exit:?}");
}

#[tokio::test]
async fn rust_panics_and_deep_recursion() {
    let host = host();
    for file in ["hello-cli.module.wasm", "hello-cli.wasm"] {
        let program = compile(&host, file).await;
        let (exit, _, stderr) = run(&host, &program, spec(&["--panic"])).await;
        assert_eq!(exit.code, 134, "{file}: {exit:?}");
        assert!(stderr.contains("asked to panic"), "{stderr}");
        let (exit, ..) = run(&host, &program, spec(&["--recurse"])).await;
        assert_eq!(exit.code, 134, "{file}: {exit:?}");
        assert!(exit.message.starts_with("wasm trap: "), "{exit:?}");
    }
}

#[tokio::test]
async fn memory_beyond_the_limit_is_oom_killed() {
    let host = host();
    for file in ["hello-cli.module.wasm", "hello-cli.wasm"] {
        let program = compile(&host, file).await;
        let limited = |mib: &str| {
            let mut spec = spec(&["--alloc", mib]);
            spec.spec.memory_bytes_max = Some(32 * MIB);
            spec
        };
        let (exit, stdout, _) = run(&host, &program, limited("16")).await;
        assert_eq!(exit.code, 0, "{file}: {exit:?}");
        assert!(stdout.contains("allocated 16 MiB"));
        let (exit, ..) = run(&host, &program, limited("64")).await;
        assert_eq!(
            (exit.code, exit.reason),
            (137, ExitReason::OomKilled),
            "{file}: {exit:?}"
        );
        assert!(
            exit.message.contains("memory limit of 32.0 MiB exceeded"),
            "{exit:?}"
        );
    }
}

#[tokio::test]
async fn large_initial_memories_and_tables_are_held_to_the_limit() {
    let small = |spec: &mut InstanceSpec| spec.memory_bytes_max = Some(MIB);
    let exit = end_of("(module (memory 100) (func (export \"_start\")))", small).await;
    assert_eq!((exit.code, exit.reason), (137, ExitReason::OomKilled), "{exit:?}");
    let exit = end_of(
        "(module (table 190000 funcref) (func (export \"_start\")))",
        small,
    )
    .await;
    assert_eq!(exit.reason, ExitReason::OomKilled, "{exit:?}");
    let grow = "(module (table 1 funcref) (func (export \"_start\")
        (loop $l (drop (table.grow 0 (ref.null func) (i32.const 10000))) (br $l))))";
    let exit = end_of(grow, small).await;
    assert_eq!(exit.reason, ExitReason::OomKilled, "{exit:?}");
}

#[tokio::test]
async fn a_guest_s_own_maximum_is_not_an_oom() {
    // memory.grow answers -1, the guest copes and ends well.
    let text = "(module (memory 1 2) (func (export \"_start\")
        (if (i32.ne (memory.grow (i32.const 5)) (i32.const -1)) (then unreachable))))";
    assert_eq!(end_of(text, |_| {}).await.code, 0);
}

/// Requests that fail for other reasons must not take what was granted off the
/// books.
#[tokio::test]
async fn impossible_growth_does_not_hide_the_possible() {
    let text = "(module (memory 1) (func (export \"_start\") (loop $l
        (drop (memory.grow (i32.const 16)))
        (drop (memory.grow (i32.const 65536)))
        (br $l))))";
    let exit = end_of(text, |spec| spec.memory_bytes_max = Some(64 * MIB)).await;
    assert_eq!(exit.reason, ExitReason::OomKilled, "{exit:?}");
}

#[tokio::test]
async fn usage_is_counted_and_a_kill_is_prompt() {
    let host = host();
    let program = compile(&host, "hello-cli.wasm").await;
    let instance = host
        .start(&program, spec(&["--alloc", "8", "--spin"]).spec)
        .await
        .unwrap();
    eventually("a tenth of a second of CPU time", || {
        instance.usage().cpu_ns > 100_000_000
    })
    .await;
    let usage = instance.usage();
    assert!(
        usage.memory_bytes > MIB && usage.memory_bytes_peak >= 9 * MIB,
        "{usage:?}"
    );
    assert_eq!(instance.exit(), None);
    let start = Instant::now();
    instance.kill();
    let exit = wait(&instance).await;
    assert_eq!((exit.code, exit.reason), (137, ExitReason::Error));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(instance.usage().memory_bytes, 0);
}

#[tokio::test]
async fn stop_gives_a_command_its_grace() {
    let host = host();
    let program = compile(&host, "hello-cli.wasm").await;
    // It ends by itself within the grace.
    let quick = host
        .start(&program, spec(&["--sleep", "200", "--exit", "0"]).spec)
        .await
        .unwrap();
    quick.stop(Duration::from_secs(30));
    assert_eq!(wait(&quick).await.code, 0);
    // Asleep in a host call, and computing: both are ended when it is over.
    for args in [&["--sleep", "600000"][..], &["--spin"]] {
        let stubborn = host.start(&program, spec(args).spec).await.unwrap();
        let start = Instant::now();
        stubborn.stop(Duration::from_millis(300));
        assert_eq!(wait(&stubborn).await.code, 137);
        assert!(start.elapsed() >= Duration::from_millis(300));
    }
}

#[tokio::test]
async fn cpu_quota_is_roughly_held() {
    let host = host();
    let program = compile(&host, "hello-cli.wasm").await;
    let mut limited = spec(&["--spin"]);
    limited.spec.cpu_millis_max = Some(200);
    let instance = host.start(&program, limited.spec).await.unwrap();
    eventually("the first use", || instance.usage().cpu_ns > 20_000_000).await;
    let (start, before) = (Instant::now(), instance.usage().cpu_ns);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = (instance.usage().cpu_ns - before) as f64;
    let share = used / start.elapsed().as_nanos() as f64;
    // The machine may be busy, so only the upper bound is meaningful.
    assert!(share < 0.27, "{share}");
    assert!(share > 0.01, "{share}");
    instance.kill();
}

#[tokio::test]
async fn spinning_guests_leave_room_for_others() {
    let host = host();
    let program = compile(&host, "hello-cli.wasm").await;
    let mut spinners = Vec::new();
    for _ in 0..6 {
        spinners.push(host.start(&program, spec(&["--spin"]).spec).await.unwrap());
    }
    let start = Instant::now();
    let (exit, ..) = run(&host, &program, spec(&["--sleep", "10", "--exit", "0"])).await;
    assert_eq!(exit.code, 0);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    spinners.iter().for_each(|spinner| spinner.kill());
    for spinner in &spinners {
        assert_eq!(wait(spinner).await.code, 137);
    }
}

#[tokio::test]
async fn dropping_host_and_handles_ends_guests() {
    let host = host();
    let program = compile(&host, "hello-cli.wasm").await;
    let mut output = spec(&["--sleep", "300", "--stderr", "still here"]);
    let stderr = output.stderr.clone();
    output.spec.args.push("--exit".into());
    output.spec.args.push("0".into());
    drop(host.start(&program, output.spec).await.unwrap());
    drop((host, program));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(stderr.text(), "");
}
