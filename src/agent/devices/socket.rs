//! The sockets on which the node itself is asked: a folder of each, in which it has the kubelet's name.

use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use plugins::answer::{self, Answer, Asked};

/// The socket's name, as programs know it.
pub const SOCKET: &str = "kubelet.sock";

/// Makes the folder, if it is not there.
///
/// # Errors
/// The disk.
pub fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)
}

/// Answers on the socket of a folder. Never ends, unless the folder cannot be used.
///
/// # Errors
/// The disk.
pub async fn serve<H, F>(folder: &Path, handle: H) -> io::Result<()>
where
    H: Fn(Asked) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    make(folder)?;
    answer::serve(&folder.join(SOCKET), handle).await
}
