;; Succeeds if 40 and 2 make 42 elsewhere, and a text of LENGTH letters is as long there.
(component
    (import "demo:math/calc@1.0.0" (instance $calc
        (export "add" (func (param "a" u32) (param "b" u32) (result u32)))
        (export "measure" (func (param "text" string) (result u32)))))
    (core module $heap (memory (export "memory") 1) (data (i32.const 16) "how long is this?"))
    (core instance $heap (instantiate $heap))
    (alias core export $heap "memory" (core memory $memory))
    (core func $add (canon lower (func $calc "add")))
    (core func $measure (canon lower (func $calc "measure") (memory $memory)))
    (core module $code
        (import "host" "add" (func $add (param i32 i32) (result i32)))
        (import "host" "measure" (func $measure (param i32 i32) (result i32)))
        (func (export "run") (result i32)
            (i32.or
                (i32.ne (call $add (i32.const 40) (i32.const 2)) (i32.const 42))
                (i32.ne (call $measure (i32.const 16) (i32.const LENGTH)) (i32.const LENGTH)))))
    (core instance $code (instantiate $code (with "host" (instance
        (export "add" (func $add)) (export "measure" (func $measure))))))
    (func $run (result (result)) (canon lift (core func $code "run")))
    (instance $command (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $command)))
