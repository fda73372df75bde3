//! One more process in a container, confined as its first one.
//!
//! The runtime library's own way into a container leaves out seccomp profiles and user namespaces: what it runs there
//! could do more than the container may. So it is called one level below its builders here, and told of all.

use std::error::Error;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;

use libcgroups::common::CgroupConfig;
use libcontainer::container::Container;
use libcontainer::notify_socket::{NotifyListener, NotifySocket};
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::container_main_process::container_main_process;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::default::get_executor;
use nix::fcntl::OFlag;
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::outputs::{Ends, Far, NearEnd};
use super::users::Users;

/// The far ends of the process' streams: three pipes, or a socket for the terminal that the library makes.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    pub(super) console: Option<OwnedFd>,
}

impl Streams {
    /// The far ends, and the near ones.
    pub(super) fn of(ends: Ends) -> io::Result<(Streams, NearEnd)> {
        Ok(match ends.far {
            Far::Console(listener) => {
                let streams = Streams {
                    console: Some(UnixStream::connect(ends.console)?.into()),
                    ..Streams::default()
                };
                (streams, NearEnd::Terminal(listener))
            }
            Far::Pipes {
                stdin,
                stdout,
                stderr,
            } => {
                let [stdin, stdout, stderr] = [stdin, stdout, stderr].map(Some);
                let streams = Streams {
                    stdin,
                    stdout,
                    stderr,
                    console: None,
                };
                (streams, NearEnd::Pipes(ends.near))
            }
        })
    }
}

/// The container that is entered.
pub(super) struct Place<'a> {
    pub(super) id: &'a str,
    /// Its folder, with its bundle.
    pub(super) dir: &'a Path,
    /// The folder of what the library knows of it.
    pub(super) state: &'a Path,
    /// Its root file system.
    pub(super) root: &'a Path,
    pub(super) cgroup: &'a str,
    /// Its main process.
    pub(super) pid: Pid,
    /// The users of its pod, if it has its own.
    pub(super) users: Option<&'a Users>,
    /// How readily the kernel ends its processes when memory runs out.
    pub(super) oom_score: i32,
}

/// Runs `process` there; returns its id when its program was executed.
pub(super) fn run(place: &Place<'_>, process: Value, streams: Streams) -> Result<Pid, Box<dyn Error>> {
    let (spec, _namespaces) = spec(place, process)?;
    let door = place.dir.join("enter.sock");
    // What is there belongs to one that broke off: this process does one thing at a time.
    let _ = fs::remove_file(&door);
    let (told, tell) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let fd = |stream: &Option<OwnedFd>| stream.as_ref().map(AsRawFd::as_raw_fd);
    let args = ContainerArgs {
        container_type: ContainerType::TenantContainer {
            exec_notify_fd: tell.as_raw_fd(),
        },
        syscall: SyscallType::default(),
        spec: Rc::new(spec),
        rootfs: place.root.to_owned(),
        console_socket: fd(&streams.console),
        notify_listener: NotifyListener::new(&door)?,
        preserve_fds: 0,
        // Without it the library loads no seccomp profile.
        container: Some(Container::load(place.state.to_owned())?),
        user_ns_config: None,
        cgroup_config: CgroupConfig {
            cgroup_path: place.cgroup.into(),
            systemd_cgroup: false,
            container_name: place.id.to_owned(),
        },
        detached: true,
        executor: get_executor(),
        no_pivot: false,
        stdin: fd(&streams.stdin),
        stdout: fd(&streams.stdout),
        stderr: fd(&streams.stderr),
        as_sibling: false,
        pid_file: None,
    };
    let pid = sys::process::with_oom_score(place.oom_score, || container_main_process(&args))??;
    drop(streams);
    NotifySocket::new(door.as_path()).notify_container_start()?;
    let _ = fs::remove_file(&door);
    // The process has the other end, and closes it with its program's start, or says what went wrong.
    drop(tell);
    let mut why = String::new();
    fs::File::from(told).read_to_string(&mut why)?;
    match why.is_empty() {
        // The library speaks of processes in the types of an older nix.
        true => Ok(Pid::from_raw(pid.as_raw())),
        false => Err(why.into()),
    }
}

/// The container's own specification, with all of its namespaces to be joined; they are open as long as the second
/// part lives.
fn spec(place: &Place<'_>, process: Value) -> Result<(Spec, Vec<OwnedFd>), Box<dyn Error>> {
    let mut config: Value = serde_json::from_slice(&fs::read(place.dir.join("config.json"))?)?;
    let mut namespaces = Vec::new();
    if let Some(users) = place.users {
        namespaces.push(json!({"type": "user", "path": users.path()}));
    }
    let mut open = Vec::new();
    let made = config["linux"]["namespaces"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for (kind, file) in [("pid", "pid"), ("cgroup", "cgroup"), ("mount", "mnt")] {
        if made.iter().any(|namespace| namespace["type"] == kind) {
            let namespace: OwnedFd = fs::File::open(format!("/proc/{}/ns/{file}", place.pid))?.into();
            namespaces.push(json!({"type": kind, "path": sys::beneath::path_of(&namespace)}));
            open.push(namespace);
        }
    }
    let mut linux = json!({"namespaces": namespaces, "cgroupsPath": place.cgroup});
    if let Some(profile) = config["linux"].get("seccomp") {
        linux["seccomp"] = profile.clone();
    }
    config["linux"] = linux;
    config["process"] = process;
    Ok((serde_json::from_value(config)?, open))
}
