;; A core module that accepts connections at descriptor 3, greets whoever comes, and says again what it hears.
(module
    (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_recv" (func $recv (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_send" (func $send (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 64) "hello from a module\n")
    (func $buffer (param $at i32) (param $length i32)
        (i32.store (i32.const 16) (local.get $at))
        (i32.store (i32.const 20) (local.get $length)))
    (func $say (param $fd i32) (result i32)
        (call $send (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 24)))
    (func (export "_start") (local $fd i32)
        (loop $next
            (if (call $accept (i32.const 3) (i32.const 0) (i32.const 0)) (then (call $exit (i32.const 11))))
            (local.set $fd (i32.load (i32.const 0)))
            (call $buffer (i32.const 64) (i32.const 20))
            (block $end
                (loop $echo
                    (br_if $end (call $say (local.get $fd)))
                    (call $buffer (i32.const 1024) (i32.const 4096))
                    (br_if $end (call $recv (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 24) (i32.const 28)))
                    (br_if $end (i32.eqz (i32.load (i32.const 24))))
                    (call $buffer (i32.const 1024) (i32.load (i32.const 24)))
                    (br $echo)))
            (drop (call $close (local.get $fd)))
            (br $next))))
