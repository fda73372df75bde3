//! Programs beside the cluster that end with the test.

use std::process::Child;

/// A program that runs; ended when dropped, if it has not ended by itself.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
