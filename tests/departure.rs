//! A server that is told to end: nobody's request is cut, and those who come too late are told so.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::rest::{As, head};
use crate::support::unfinished::Unfinished;
use crate::support::{Cluster, assert_has, eventually, sandboxed};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// How long it says that it is not ready before it turns anybody away.
const DELAY: Duration = Duration::from_secs(6);

#[test]
fn a_server_ends_without_cutting_anybody_off() {
    sandboxed(|dir| {
        let delay = DELAY.as_secs().to_string();
        let mut cluster =
            Cluster::start_as("server", dir.join("data"), &["--shutdown-delay-duration", &delay]);
        let token = cluster.editor("jane");
        cluster.admin_files();
        let mut watch = cluster.stream(&format!("{MAPS}?watch=1"));
        let awaited = "coracle_bodies_awaited 1";
        let slow = Unfinished::begin(&cluster, &token);
        eventually("the open request", || {
            crate::support::has(&cluster.try_ok(&["get", "--raw", "/metrics"])?, &[awaited])
        });
        let began = Instant::now();
        cluster.signal(Signal::SIGTERM);
        let ready = |path: &str| cluster.call(&As::Admin, "GET", path, "", "").code;
        eventually("that it is not ready", || match ready("/readyz") {
            500 => Ok(()),
            code => Err(code.to_string()),
        });
        // It is alive, and goes on answering for as long as it said.
        assert_eq!(ready("/livez"), 200);
        assert_eq!(ready(MAPS), 200);
        assert!(began.elapsed() < DELAY, "the machine is too slow for this delay");
        let late = eventually("those who come too late", || {
            let head = head(&cluster, Some(&token), MAPS);
            if head.contains(" 429") {
                Ok(head)
            } else {
                Err(head)
            }
        });
        assert!(
            began.elapsed() >= DELAY,
            "it turned somebody away before it said so"
        );
        assert_has(&late, &["retry-after: 1"]);
        assert_eq!(ready("/livez"), 200);
        // What was begun is finished; then the server ends, and says goodbye to those who watch.
        assert_eq!(slow.end(), "201");
        assert!(eventually("its end", || cluster.ended().ok_or("it runs".to_owned())).success());
        assert!(watch.wait().expect("curl").success(), "the watch was cut off");
    });
}
