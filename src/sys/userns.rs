//! User namespaces: root and all other users inside are somebody else, who may do nothing, outside.
//!
//! A namespace lives as long as something is in it or belongs to it. Here the network namespace that is made with
//! it belongs to it and is held by a bind mount, so [`owner`] of that finds it again, after any restart.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

/// How many users and groups every namespace has: from 0 inside, from a first one of the machine's outside.
pub const IDS: u32 = 1 << 16;

/// Asks for the user namespace that a namespace belongs to.
const NS_GET_USERNS: libc::Ioctl = 0xb701;

/// A process that does nothing but be in namespaces; it ends when this is dropped.
#[derive(Debug)]
pub struct Holder(Pid);

impl Holder {
    /// The file of one of its namespaces: `net`, `ipc`, `uts`, `user`.
    pub fn file(&self, kind: &str) -> PathBuf {
        format!("/proc/{}/ns/{kind}", self.0).into()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Nothing else can end it, so neither can fail; whoever starts a process must reap it.
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// Makes a user namespace whose ids are those of this machine from `first` on, and namespaces of the kinds
/// `also` that belong to it.
///
/// # Errors
/// The kernel's: none are allowed (`user.max_user_namespaces`), say.
pub fn create(first: u32, also: CloneFlags) -> io::Result<Holder> {
    let (holder, _) = start(CloneFlags::CLONE_NEWUSER | also, || Ok(0))?;
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", holder.0), format!("0 {first} {IDS}"))?;
    }
    Ok(holder)
}

/// Makes further namespaces that belong to the user namespace `owner`.
///
/// # Errors
/// The kernel's.
pub fn create_in(owner: &OwnedFd, also: CloneFlags) -> io::Result<Holder> {
    let prepare = || {
        setns(owner, CloneFlags::CLONE_NEWUSER)?;
        unshare(also)?;
        Ok(0)
    };
    start(CloneFlags::empty(), prepare).map(|(holder, _)| holder)
}

/// The user namespace that another namespace belongs to.
///
/// # Errors
/// The kernel's, for what is no namespace, or one further up than this process may see.
pub fn owner(namespace: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: takes no memory; the descriptor is open.
    let fd = unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), NS_GET_USERNS) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just opened it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds the file, or all that is mounted from a folder on, at `place`, where its own ids are shown as those of
/// the user namespace `users`. What is mounted below keeps the machine's.
///
/// # Errors
/// The kernel's: `EINVAL` for a file system that cannot do this.
pub fn bind_mapped(from: impl AsFd, place: &Path, users: &OwnedFd) -> io::Result<()> {
    let tree = crate::mounts::copy(from)?;
    let wanted = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(users.as_raw_fd()).unwrap_or_default(),
    };
    // SAFETY: the path is a literal that ends in NUL; the structure lives on, and its size is given.
    let mapped = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const wanted,
            size_of_val(&wanted),
        )
    };
    Errno::result(mapped)?;
    crate::mounts::attach(&tree, place)
}

/// Starts a process that prepares itself, says what came of it (a number), and waits to be ended. What it does is
/// for system calls only: another thread may have held any lock when the memory was copied.
pub(crate) fn start(
    flags: CloneFlags,
    prepare: impl FnOnce() -> nix::Result<i32>,
) -> io::Result<(Holder, i32)> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let flags = u64::try_from(flags.bits() | libc::SIGCHLD).unwrap_or_default();
    // SAFETY: as fork does, without a new stack; the child makes system calls and nothing else.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if pid == 0 {
        let told = match prepare() {
            Ok(number) => [0, number],
            Err(error) => [error as i32, 0],
        };
        let [error, number] = told.map(i32::to_ne_bytes);
        for part in [error, number] {
            // Its parent sees the pipe's end otherwise.
            let _ = nix::unistd::write(&writer, &part);
        }
        sleep_for_ever();
    }
    let pid = i32::try_from(Errno::result(pid)?).map_err(io::Error::other)?;
    let holder = Holder(Pid::from_raw(pid));
    drop(writer);
    let mut told = [[0; 4]; 2];
    let mut reader = fs::File::from(reader);
    for part in &mut told {
        reader.read_exact(part)?;
    }
    match told.map(i32::from_ne_bytes) {
        [0, number] => Ok((holder, number)),
        [error, _] => Err(io::Error::from_raw_os_error(error)),
    }
}

pub(crate) fn sleep_for_ever() -> ! {
    // SAFETY: plain system calls with constants and a literal that ends in NUL. Nothing here can be refused;
    // a first process in its namespace gets no signal that it has not asked for.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_NAME, c"pause".as_ptr());
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
    }
    loop {
        // SAFETY: waits for a signal.
        unsafe { libc::pause() };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, chown};

    use super::*;
    use crate::testing::as_root;

    #[test]
    fn what_is_made_with_it_belongs_to_it() {
        as_root(|| {
            let holder = create(1_000_000, CloneFlags::CLONE_NEWNET).unwrap();
            let map = fs::read_to_string(format!("/proc/{}/uid_map", holder.0)).unwrap();
            let words: Vec<&str> = map.split_whitespace().collect();
            assert_eq!(words, ["0", "1000000", "65536"]);
            let users = owner(fs::File::open(holder.file("net")).unwrap()).unwrap();
            let inode = |fd: &OwnedFd| nix::sys::stat::fstat(fd).unwrap().st_ino;
            assert_eq!(inode(&users), fs::metadata(holder.file("user")).unwrap().ino());
            // It lives on in what belongs to it.
            let net = fs::File::open(holder.file("net")).unwrap();
            drop(holder);
            let found = owner(&net).unwrap();
            assert_eq!(inode(&found), inode(&users));
            let more = create_in(&found, CloneFlags::CLONE_NEWIPC).unwrap();
            assert_eq!(
                inode(&owner(fs::File::open(more.file("ipc")).unwrap()).unwrap()),
                inode(&users)
            );
        });
    }

    #[test]
    fn files_are_shown_as_the_namespaces_own() {
        as_root(|| {
            let work = || {
                let temp = tempfile::tempdir().unwrap();
                let (from, to) = (temp.path().join("from"), temp.path().join("to"));
                fs::create_dir(&from).unwrap();
                fs::create_dir(&to).unwrap();
                fs::write(from.join("file"), "").unwrap();
                chown(from.join("file"), Some(7), Some(8)).unwrap();
                let holder = create(1_000_000, CloneFlags::empty()).unwrap();
                let users = fs::File::open(holder.file("user")).unwrap().into();
                bind_mapped(fs::File::open(&from).unwrap(), &to, &users).unwrap();
                let seen = fs::metadata(to.join("file")).unwrap();
                assert_eq!((seen.uid(), seen.gid()), (1_000_007, 1_000_008));
                nix::mount::umount2(&to, nix::mount::MntFlags::MNT_DETACH).unwrap();
            };
            crate::netns::isolated(work).unwrap();
        });
    }
}
