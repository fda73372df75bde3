//! The `coracle` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The shim must stay small and single-threaded, so it branches off before
    // a runtime, a logger or an argument parser exists.
    #[cfg(feature = "oci")]
    {
        let mut args = std::env::args();
        if args.nth(1).as_deref() == Some("shim") {
            let rest: Vec<String> = args.collect();
            return ExitCode::from(u8::try_from(oci::shim_main(&rest)).unwrap_or(1));
        }
    }
    coracle::cli::main()
}
