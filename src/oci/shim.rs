//! The shim: one small process per pod that its containers are children of.
//!
//! It has one thread, because the runtime library clones itself and then
//! allocates, which hangs in a process with threads. It lives in the pod's own
//! mount, UTS, IPC and network namespaces, so that containers inherit these and
//! their root file systems vanish from the machine with it. It knows nothing
//! of Kubernetes and is told everything over its socket.

mod bundle;
mod container;
mod devices;
mod enter;
mod groups;
mod huge_pages;
mod memory;
mod outputs;
mod passwd;
mod propagation;
mod reaper;
mod rights;
mod rootfs;
mod seccomp;
mod serve;
mod sub_paths;
mod surroundings;
mod users;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::rc::Rc;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::spec::PodSpec;
use surroundings::{SHM, Surroundings};
use users::Users;

/// The shim's `main`: to be called, before any thread exists, when the program
/// was started as `PROGRAM shim FOLDER CGROUP`; `args` are what follows `shim`.
/// Returns the exit code.
pub fn shim_main(args: &[String]) -> i32 {
    let [dir, cgroup] = args else {
        eprintln!("shim is started by the agent and not by hand: it takes a folder and a cgroup");
        return 2;
    };
    match run(Path::new(dir), cgroup) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("shim: {error}");
            1
        }
    }
}

/// When memory runs out, the shim goes only after all containers.
const OOM_SCORE: i32 = -998;
/// What programs find they may open, unless they ask for more.
const OPEN_FILES: u64 = 1024;

/// Takes back what the node asked for itself: containers inherit it from here.
/// Says how low their scores may be: without the privilege for it (in a
/// container of somebody else's, say) no score can be lowered.
fn step_back() -> i32 {
    let asked = [
        sys::process::set_nice(0),
        sys::process::lower_open_files(OPEN_FILES),
    ];
    for error in asked.into_iter().filter_map(Result::err) {
        eprintln!("shim: the kernel refused: {error}");
    }
    match sys::process::set_oom_score(OOM_SCORE) {
        Ok(()) => OOM_SCORE,
        Err(_) => sys::process::oom_score(),
    }
}

fn run(dir: &Path, cgroup: &str) -> Result<(), Box<dyn std::error::Error>> {
    let listener = given_socket()?;
    let oom_score_min = step_back();
    let pod: PodSpec = serde_json::from_slice(&fs::read(dir.join("pod.json"))?)?;
    nix::unistd::setsid()?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let users = Users::of(&pod)?;
    let machine = sys::mounts::current()?;
    settle(&pod, users.as_ref())?;
    let stage = users::stage(dir, users.as_ref())?;
    if !pod.host_ipc {
        memory(&stage.join(SHM), users.as_ref().map_or(0, |users| users.first))?;
    }
    groups::lay_out(&stage)?;
    let pid_holder = match pod.share_pid && !pod.host_pid {
        true => Some(sys::pidns::hold(users.as_ref().map(Users::namespace))?),
        false => None,
    };
    // What enters a container comes from here: its processes may not look into one that is on its way.
    nix::sys::prctl::set_dumpable(false)?;
    fs::write(dir.join("shim.pid"), std::process::id().to_string())?;
    let surroundings = Rc::new(Surroundings {
        dir: dir.to_owned(),
        stage,
        users,
        machine,
        cgroup: cgroup.to_owned(),
        pod,
        capabilities: sys::process::capabilities()?,
        oom_score_min,
        pid_holder,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        serve::serve(listener, surroundings).await
    })?;
    Ok(())
}

/// The size that containerd gives it.
const SHM_OPTIONS: &str = "mode=1777,size=65536k";

fn memory(path: &Path, owner: u32) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(path)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("{SHM_OPTIONS},uid={owner},gid={owner}");
    mount(Some("shm"), path, Some("tmpfs"), flags, Some(options.as_str()))?;
    Ok(())
}

/// The socket that the agent has bound and given as standard input, which is empty from here on.
fn given_socket() -> std::io::Result<UnixListener> {
    let listener = UnixListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    nix::unistd::dup2_stdin(fs::File::open("/dev/null")?)?;
    Ok(listener)
}

/// Enters the namespaces that the pod's containers share.
fn settle(pod: &PodSpec, users: Option<&Users>) -> Result<(), Box<dyn std::error::Error>> {
    let mut own = Vec::new();
    if pod.netns.is_some() {
        own.push(("uts", CloneFlags::CLONE_NEWUTS));
    }
    if !pod.host_ipc {
        own.push(("ipc", CloneFlags::CLONE_NEWIPC));
    }
    if let Some(netns) = &pod.netns {
        sys::netns::enter(sys::netns::open(netns)?)?;
    }
    match users {
        Some(users) => users.enter_own(&own)?,
        None => unshare(own.iter().fold(CloneFlags::empty(), |all, (_, kind)| all | *kind))?,
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Mounts that the machine makes later (volumes) come in; ours do not go out.
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_SLAVE,
        None::<&str>,
    )?;
    if pod.netns.is_some() && !pod.hostname.is_empty() {
        nix::unistd::sethostname(&pod.hostname)?;
    }
    for (name, value) in &pod.sysctls {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        let written = match (fs::write(&path, value), users) {
            (Err(error), Some(users)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                users.as_root(|| fs::write(&path, value))?
            }
            (written, _) => written,
        };
        written.map_err(|error| format!("sysctl {name}: {error}"))?;
    }
    Ok(())
}
