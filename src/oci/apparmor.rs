//! AppArmor: the profile of containers that name none, and whether the machine enforces any.
//!
//! It is given to the kernel by `apparmor_parser`, whose compiled form changes with the kernel's; without that program
//! there is none. Like everything in the kernel it bears the node's own name, and goes with the node.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

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

/// Whether the kernel has a profile; `None` where it cannot be asked.
pub(crate) fn is_loaded(name: &str) -> Option<bool> {
    let list = fs::read_to_string(Path::new(KERNEL).join("profiles")).ok()?;
    Some(lists(&list, name))
}

/// `list` is the kernel's: a name and its mode (`name (enforce)`) in each line.
fn lists(list: &str, name: &str) -> bool {
    let lines = list.lines().filter_map(|line| line.rsplit_once(" ("));
    lines.into_iter().any(|(one, _)| one == name)
}

fn parser() -> Option<&'static str> {
    PARSERS.into_iter().find(|path| Path::new(path).exists())
}

/// The name of a node's profile.
fn name(instance_id: &str) -> String {
    format!("coracle-{instance_id}")
}

/// A node's own profile, for containers that name none.
pub(crate) struct Profile {
    name: String,
    /// This process has given it to the kernel: what an earlier build gave may say something else.
    given: Mutex<bool>,
}

impl Profile {
    /// That of a node.
    pub fn of(instance_id: &str) -> Profile {
        Profile {
            name: name(instance_id),
            given: Mutex::default(),
        }
    }

    /// Its name, when the kernel has it; empty where there can be none.
    ///
    /// # Errors
    /// What the parser said.
    pub async fn ready(&self) -> Result<String, OciError> {
        if !has_default() {
            return Ok(String::new());
        }
        let mut given = self.given.lock().await;
        // Whoever loads the machine's profiles anew may throw out those of which no file is known.
        if !*given || is_loaded(&self.name) == Some(false) {
            load(&self.name).await?;
            *given = true;
        }
        Ok(self.name.clone())
    }
}

/// Gives the kernel a node's profile, in place of one of that name.
async fn load(name: &str) -> Result<(), OciError> {
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
        let _ = input.write_all(profile(name).as_bytes()).await;
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

/// Takes a node's profile from the kernel, if it has it.
pub(crate) fn remove(instance_id: &str) {
    // It fails where there is none, which is what is wanted.
    let _ = fs::write(Path::new(KERNEL).join(".remove"), name(instance_id));
}

/// Everything of a container's own; of the kernel's files, and of other processes, nothing that changes the machine.
/// Containers that other runtimes start are held in the same way.
fn profile(name: &str) -> String {
    format!(
        r#"profile "{name}" flags=(attach_disconnected, mediate_deleted) {{
  capability,
  file,
  network,

  # It takes away what it was given; what it would mount could hide what is refused below.
  umount,
  deny mount,

  # Its own processes know each other; the node, which nothing confines, ends them.
  ptrace (read, readby, trace, tracedby) peer="{name}",
  signal (receive, send) peer="{name}",
  signal (receive) peer=unconfined,

  # Of /proc, the folders of processes are left, and in sys/kernel the settings of shared memory, which are its own.
  deny /proc/* w,
  deny /proc/{{[^1-9s],s[^y],sy[^s],sys[^/]}}** w,
  deny /proc/sys/{{[^k],k[^e]}}** w,
  deny /proc/sys/kernel/{{[^s],s[^h],sh[^m]}}** w,
  deny /proc/{{kcore,kmem,mem,sysrq-trigger}} klrwx,

  # Of /sys, control groups are left; what tells of the machine's firmware, power and policies is not even read.
  deny /sys/{{[^f],f[^s],fs/[^c],fs/c[^g]}}** klwx,
  deny /sys/{{devices/virtual/powercap,firmware,kernel/security}}/** klrwx,
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

    #[test]
    fn profiles_are_known_by_their_whole_names() {
        let list = "tight (enforce)\n/usr/bin/man (complain)\nmine (old) (enforce)\n";
        for name in ["tight", "/usr/bin/man", "mine (old)"] {
            assert!(lists(list, name), "{name}");
        }
        for name in ["loose", "mine", "tigh", ""] {
            assert!(!lists(list, name), "{name}");
        }
    }
}
