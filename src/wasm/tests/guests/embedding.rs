//! The example of embedding works as it is printed.

#[path = "../../examples/hello.rs"]
mod hello;

#[test]
fn the_example_runs() {
    hello::main().unwrap();
}
