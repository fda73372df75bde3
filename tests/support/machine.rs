//! A machine made of namespaces: network, mounts, processes and host name of its own.
//!
//! `unshare` holds it: its child is process 1 of the machine, reaps orphans, and
//! takes everything along when it ends. The machine ends with the scenario,
//! since the scenario's own process namespace encloses it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::said::said;
use super::tools;

/// What process 1 does, given the host name, the scenario's folder and the program's: it forgets the mounts that others
/// made in the folder so far, and has a `/tmp` of its own (process ids, which repeat from machine to
/// machine, name files there) in which only that folder is shared, and the program's if it is there.
const INIT: &str = r#"
set -e
hostname "$1"
grep " $2/" /proc/self/mounts | cut -d' ' -f2 | tac | xargs -r -n1 umount -l
mount -t tmpfs tmpfs /mnt
for shared in "$2" "$3"; do
    case "$shared" in /tmp/*)
        mkdir -p "/mnt/${shared#/tmp/}"
        mount --bind "$shared" "/mnt/${shared#/tmp/}" ;;
    esac
done
mount --move /mnt /tmp
ip link set lo up
echo up
sleep infinity
exit $?
"#;

/// A running machine; dropping it is pulling its plug.
pub struct Machine {
    holder: u32,
    init: Pid,
}

impl Machine {
    /// Starts a machine of that host name that shares the folder `dir` with the scenario.
    pub fn start(name: &str, dir: &Path) -> Self {
        let mut holder = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--uts", "--fork"])
            .args(["--kill-child=KILL", "--mount-proc", "--"])
            .args(["sh", "-c", INIT, "machine", name])
            .arg(dir)
            .arg(tools::coracle().parent().expect("a folder"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, from util-linux");
        let mut line = String::new();
        let out = holder.stdout.as_mut().expect("stdout");
        BufReader::new(out).read_line(&mut line).expect("a line");
        assert_eq!(line, "up\n", "the machine {name} did not start");
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        let init = std::fs::read_to_string(children).expect("the list of children");
        let init = Pid::from_raw(init.trim().parse().expect("one child"));
        let id = holder.id();
        // It ends only when the scenario has asked for the exit codes of all programs that it started in
        // the machine, which may be long after these were killed.
        std::thread::spawn(move || holder.wait());
        Self { holder: id, init }
    }

    /// A process in the machine's network namespace, by its id in the scenario.
    pub fn holder(&self) -> u32 {
        self.holder
    }

    /// Runs `act` on a thread inside the machine; programs that it starts run there.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let spaces = [
            ("pid_for_children", CloneFlags::CLONE_NEWPID),
            ("uts", CloneFlags::CLONE_NEWUTS),
            ("net", CloneFlags::CLONE_NEWNET),
            ("mnt", CloneFlags::CLONE_NEWNS),
        ];
        let open = |name| File::open(format!("/proc/{}/ns/{name}", self.holder));
        let spaces = spaces.map(|(name, kind)| (open(name).expect("a namespace"), kind));
        std::thread::scope(|scope| {
            let visit = scope.spawn(|| {
                // A thread that shares its root folder with others may not change mount namespaces.
                unshare(CloneFlags::CLONE_FS).expect("unshare");
                for (space, kind) in &spaces {
                    setns(space.as_fd(), *kind).expect("setns");
                }
                act()
            });
            visit.join().unwrap_or_else(|why| std::panic::resume_unwind(why))
        })
    }

    /// Runs a program to its end; its standard output, or what it said on standard error.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String, String> {
        said(self.inside(|| Command::new(program).args(args).output().expect(program)))
    }

    /// Runs a shell script, which must succeed.
    pub fn script(&self, script: &str) {
        if let Err(why) = self.run("sh", &["-ec", script]) {
            panic!("{why}\n{script}");
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let space = space_of(self.init);
        // Everything in the process namespace is killed with its first process.
        let _ = kill(self.init, Signal::SIGKILL);
        while runs_in(space.as_deref()) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The process namespace of a process.
fn space_of(process: Pid) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/pid")).ok()
}

/// Whether a process in that namespace is alive, be it only to end.
fn runs_in(space: Option<&Path>) -> bool {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    space.is_some()
        && ids
            .map(Pid::from_raw)
            .any(|id| space_of(id).as_deref() == space && lives(id))
}

fn lives(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    // Process 1 waits in its end for the exit codes of those that others started, with nothing left of it.
    let emptied = std::fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|text| text.is_empty());
    !matches!(state, None | Some('Z' | 'X')) && !emptied
}
