//! Coracle inside other programs: the examples are built with the tests and run here.

use std::process::Command;

use crate::support::tools::example;
use crate::support::{assert_has, sandboxed};

fn output(command: &mut Command) -> String {
    let out = command.output().expect("the example");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(out.status.success(), "{}{}", text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

#[test]
fn a_control_plane_runs_inside_another_program() {
    sandboxed(|_dir| {
        let said = output(&mut Command::new(example("embed")));
        assert_has(&said, &["greeting", "Hello from inside"]);
    });
}

#[test]
fn the_wasm_host_runs_alone() {
    sandboxed(|_dir| {
        let said = output(&mut Command::new(example("hello")));
        assert_has(&said, &["hello", "ended with code 3", "an embedded guest"]);
    });
}
