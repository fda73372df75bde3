//! Kernel settings under `/proc/sys`.

use std::io;
use std::path::PathBuf;

/// Sets `name` (dots or slashes between its parts, `net.ipv4.ip_forward`) to
/// `value` unless it has that value already, so that a read-only `/proc/sys`
/// that is already right does no harm.
///
/// Names under `net.` are those of the calling thread's network namespace.
/// Device names that contain dots must be given with slashes throughout.
pub fn set(name: &str, value: &str) -> io::Result<()> {
    let path = path(name);
    match std::fs::read_to_string(&path) {
        Ok(current) if same(&current, value) => Ok(()),
        _ => std::fs::write(&path, value)
            .map_err(|e| io::Error::new(e.kind(), format!("set {} to {value}: {e}", path.display()))),
    }
}

/// Reads `name`, without the trailing newline.
pub fn get(name: &str) -> io::Result<String> {
    let path = path(name);
    let text = std::fs::read_to_string(&path)
        .map_err(|e| io::Error::new(e.kind(), format!("read {}: {e}", path.display())))?;
    Ok(text.trim_end().to_string())
}

fn path(name: &str) -> PathBuf {
    let relative = if name.contains('/') {
        name.to_string()
    } else {
        name.replace('.', "/")
    };
    PathBuf::from("/proc/sys").join(relative.trim_start_matches('/'))
}

/// The kernel separates several values by tabs where people write blanks.
fn same(current: &str, wanted: &str) -> bool {
    current.split_whitespace().eq(wanted.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        assert_eq!(
            path("net.ipv4.ip_forward"),
            PathBuf::from("/proc/sys/net/ipv4/ip_forward")
        );
        assert_eq!(
            path("net/ipv4/conf/eth0.5/rp_filter"),
            PathBuf::from("/proc/sys/net/ipv4/conf/eth0.5/rp_filter")
        );
    }

    #[test]
    fn values_compare_by_words() {
        assert!(same("0\t2147483647\n", "0 2147483647"));
        assert!(!same("1\n", "0"));
    }
}
