//! A server of NFS 4 in the sandbox's network: the kernel's own. It is told by its files what `rpc.nfsd`, `exportfs` and
//! `rpc.mountd` would tell it, so that none of them need be installed.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};

/// Where the kernel's server listens to orders, if it has one.
const CONTROL: &str = "/proc/fs/nfsd";
/// Where it keeps what it was told of clients and folders.
const KNOWN: &str = "/proc/net/rpc";
/// What it is told holds until this second of the era.
const FOREVER: &str = "2147483647";
/// Known by a number, whatever device it lies on; acknowledged before it is on the disk; no looks at what is above.
const FLAGS: u32 = 0x2000 | 0x10 | 0x400;

/// The server; ended when dropped.
pub struct Server;

impl Server {
    /// Serves a folder to this machine, as the root of all that is served; `None` where the kernel has no server, or has
    /// not loaded it.
    pub fn start(folder: &Path) -> Option<Self> {
        let known = fs::read_to_string("/proc/filesystems").expect("the kernel's file systems");
        if !known.lines().any(|line| line.ends_with("\tnfsd")) {
            return None;
        }
        mount(
            Some("nfsd"),
            CONTROL,
            Some("nfsd"),
            MsFlags::empty(),
            None::<&str>,
        )
        .expect("the server's files");
        // Whom it served before it waits for, as short a time as it can be told.
        order("nfsv4leasetime", "10");
        order("nfsv4gracetime", "10");
        // The third version needs further programs.
        order("versions", "-3");
        order("portlist", "tcp 2049");
        let folder = folder.display();
        know("auth.unix.ip", &format!("nfsd 127.0.0.1 {FOREVER} machine"));
        know(
            "nfsd.export",
            &format!("machine {folder} {FOREVER} {FLAGS} 65534 65534 0"),
        );
        // Handles that begin with the number (the first kind of them) are of that folder.
        know("nfsd.fh", &format!("machine 1 \\x00000000 {FOREVER} {folder}"));
        order("threads", "2");
        Some(Self)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its threads are the kernel's: they would outlive this process.
        let _ = fs::write(format!("{CONTROL}/threads"), "0\n");
    }
}

fn order(file: &str, text: &str) {
    fs::write(format!("{CONTROL}/{file}"), format!("{text}\n")).unwrap_or_else(|why| panic!("{file}: {why}"));
}

fn know(table: &str, text: &str) {
    let file = format!("{KNOWN}/{table}/channel");
    fs::write(&file, format!("{text}\n")).unwrap_or_else(|why| panic!("{file}: {text}: {why}"));
}
