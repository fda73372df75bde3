//! AppArmor: the profile of containers that name none, and whether the machine enforces any.
//!
//! It is given to the kernel by `apparmor_parser`, whose compiled form changes with the kernel's; without that program
//! there is none. Like everything in the kernel it bears the node's own name, and goes with the node.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;

use crate::spec::OciError;

const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
/// The kernel's door for profiles.
const KERNEL: &str = "/sys/kernel/security/apparmor";
/// Where distributions install it.
const PARSERS: [&str; 2] = ["/sbin/apparmor_parser", "/usr/sbin/apparmor_parser"];

/// Whether the kernel enforces profiles.
pub fn is_enforced() -> bool {
    fs::read_to_string(ENABLED).is_ok_and(|text| text.starts_with('Y'))
}

/// Whether a profile can be given to containers that name none.
pub fn has_default() -> bool {
    is_enforced() && Path::new(KERNEL).join(".replace").exists() && parser().is_some()
}

fn parser() -> Option<&'static str> {
    PARSERS.into_iter().find(|path| Path::new(path).exists())
}

/// The name of a node's profile.
pub(crate) fn name(instance_id: &str) -> String {
    format!("coracle-{instance_id}")
}

/// Gives the kernel the node's profile, in place of one that it has.
///
/// # Errors
/// What the parser said.
pub(crate) async fn load(instance_id: &str) -> Result<(), OciError> {
    let fail = |why: String| OciError::Create(format!("loading the AppArmor profile: {why}"));
    let parser = parser().ok_or_else(|| fail("apparmor_parser is not installed".to_owned()))?;
    let mut child = tokio::process::Command::new(parser)
        .args(["--replace", "--skip-cache"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| fail(format!("{parser}: {error}")))?;
    if let Some(mut input) = child.stdin.take() {
        // One that ends before it has read all says why below.
        let _ = input.write_all(profile(&name(instance_id)).as_bytes()).await;
    }
    let output = child
        .wait_with_output()
        .await
        .map_err(|error| fail(error.to_string()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(fail(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

/// Takes the node's profile from the kernel, if it has it.
pub(crate) fn remove(instance_id: &str) {
    // It fails where there is none, which is what is wanted.
    let _ = fs::write(Path::new(KERNEL).join(".remove"), name(instance_id));
}

/// What containerd's profile permits and refuses: everything of a container's own, and of the kernel's files what does
/// not change the machine.
fn profile(name: &str) -> String {
    format!(
        r#"profile "{name}" flags=(attach_disconnected,mediate_deleted) {{
  file,
  network,
  capability,
  umount,

  # Its own processes, and whoever started it.
  signal (receive) peer=unconfined,
  signal (send, receive) peer="{name}",
  ptrace (trace, read, tracedby, readby) peer="{name}",

  deny mount,

  # Of /proc, processes' own folders and the settings of shared memory are left.
  deny /proc/* w,
  deny /proc/{{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}}/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/kernel/{{?,??,[^s][^h][^m]**}} w,
  deny /proc/{{sysrq-trigger,mem,kmem,kcore}} rwklx,

  # Of /sys, control groups are left.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/security/** rwklx,
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_bears_the_nodes_name() {
        let text = profile(&name("0a1b2c3d"));
        assert!(text.starts_with("profile \"coracle-0a1b2c3d\" flags="), "{text}");
        assert!(text.contains("peer=\"coracle-0a1b2c3d\""), "{text}");
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
