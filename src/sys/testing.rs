//! For tests that need the rights of root.

/// Runs `test` in fresh network and mount namespaces. Without the rights the
/// test is skipped and says so; with `CI=true` that is a failure.
pub fn as_root(test: impl FnOnce() + Send) {
    if let Err(e) = crate::netns::isolated(test) {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "needs root in CI: {e}"
        );
        eprintln!("SKIPPED, needs root: {e}");
    }
}
