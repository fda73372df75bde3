//! The end of a container that is out of memory, where the kernel ends single processes (control groups, version 1).

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::sync::watch;

use crate::spec::Exit;

/// How often, and how many times, the kernel's count of kills is looked at after a notice.
const OOM_LOOK_EVERY: Duration = Duration::from_millis(10);
const OOM_LOOKS: u32 = 50;

/// Sees to it that a container which is out of memory ends as a whole: the kernel may have killed a child of its main
/// process only. Ends with the container.
pub(super) fn guard(cgroup: String, mut exit: watch::Receiver<Option<Exit>>) {
    let notice = match sys::cgroup::oom_notice(&cgroup) {
        Ok(Some(notice)) => notice,
        Ok(None) => return,
        Err(error) => return eprintln!("shim: cannot watch the memory of {cgroup}: {error}"),
    };
    tokio::task::spawn_local(async move {
        tokio::select! {
            _ = exit.wait_for(Option::is_some) => {}
            () = killed_for_memory(notice, &cgroup) => sys::cgroup::kill_all(&cgroup),
        }
    });
}

/// Waits until the kernel has killed a process of the group for lack of memory.
/// It gives notice before it does so, and sometimes finds some memory after all.
async fn killed_for_memory(notice: OwnedFd, cgroup: &str) {
    let Ok(notice) = sys::ready::watched(notice) else {
        return std::future::pending().await;
    };
    loop {
        let Ok(mut ready) = notice.readable().await else {
            return std::future::pending().await;
        };
        // The count of notices does not matter; reading it is what makes the next one show.
        let _ = nix::unistd::read(notice.get_ref(), &mut [0; 8]);
        ready.clear_ready();
        for _ in 0..OOM_LOOKS {
            if sys::cgroup::oom_kills(cgroup) > 0 {
                return;
            }
            tokio::time::sleep(OOM_LOOK_EVERY).await;
        }
    }
}
