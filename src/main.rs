//! The `coracle` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // What the node runs of itself branches off before a runtime, a logger or
    // an argument parser exists: the shim must stay small and single-threaded,
    // and the compiler is bounded from its first step.
    let mut args = std::env::args().skip(1);
    let helper: Option<fn(&[String]) -> i32> = match args.next().as_deref() {
        #[cfg(feature = "oci")]
        Some("shim") => Some(oci::shim_main),
        Some(agent::COMPILE_VERB) => Some(agent::compile_main),
        Some(agent::HOLD_VERB) => Some(agent::hold_main),
        _ => None,
    };
    match helper {
        Some(helper) => {
            let rest: Vec<String> = args.collect();
            ExitCode::from(u8::try_from(helper(&rest)).unwrap_or(1))
        }
        None => coracle::cli::main(),
    }
}
