//! Interfaces that are proposals still: settings and log lines.

use crate::support::{compile_text, heap, host, spec};

/// A component that asks for the setting `GREETING` and logs it; without it, it ends with code 1.
fn teller(config: &str, logging: &str) -> String {
    let heap = heap(r#"(data (i32.const 16) "GREETING") (data (i32.const 32) "teller")"#);
    format!(
        r#"(component
        (import "{config}" (instance $config
            (type $error' (variant (case "upstream" string) (case "io" string)))
            (export "error" (type $error (eq $error')))
            (export "get" (func (param "key" string) (result (result (option string) (error $error)))))))
        (import "{logging}" (instance $logging
            (type $level' (enum "trace" "debug" "info" "warn" "error" "critical"))
            (export "level" (type $level (eq $level')))
            (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))
        {heap}
        (core func $get (canon lower (func $config "get") (memory $memory) (realloc $realloc)))
        (core func $log (canon lower (func $logging "log") (memory $memory)))
        (core module $code
            (import "host" "memory" (memory 1))
            (import "host" "get" (func $get (param i32 i32 i32)))
            (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
            (func (export "run") (result i32)
                (call $get (i32.const 16) (i32.const 8) (i32.const 64))
                ;; No error, and something found.
                (if (i32.or (i32.load8_u (i32.const 64)) (i32.eqz (i32.load8_u (i32.const 68)))) (then (return (i32.const 1))))
                (call $log (i32.const 3) (i32.const 32) (i32.const 6) (i32.load (i32.const 72)) (i32.load (i32.const 76)))
                (i32.const 0)))
        (core instance $code (instantiate $code (with "host" (instance
            (export "memory" (memory $memory)) (export "get" (func $get)) (export "log" (func $log))))))
        (func $run (result (result)) (canon lift (core func $code "run")))
        (instance $command (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $command)))"#
    )
}

#[tokio::test]
async fn settings_are_the_environment_and_log_lines_go_to_the_log() {
    let host = host();
    for (config, logging) in [
        (
            "wasi:config/store@0.2.0-draft",
            "wasi:logging/logging@0.1.0-draft",
        ),
        ("wasi:config/store@0.2.0-rc.1", "wasi:logging/logging"),
    ] {
        let program = compile_text(&host, &teller(config, logging)).await;
        let mut given = spec(&[]);
        given.spec.env = vec![("GREETING".into(), "good day".into())];
        let exit = host.start(&program, given.spec).await.unwrap().wait().await;
        assert_eq!(exit.code, 0, "{exit:?}");
        assert_eq!(given.stderr.text(), "WARN teller: good day\n");
        let exit = host.start(&program, spec(&[]).spec).await.unwrap().wait().await;
        assert_eq!(exit.code, 1, "there is no such setting: {exit:?}");
    }
}
