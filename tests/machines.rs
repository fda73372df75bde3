//! A second machine: hosts that join a server on another one, and are reached over the connection
//! that they dialled.

use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::support::hosts::{Host, Hosts, Place};
use crate::support::{eventually, sandboxed};

/// What the other scenarios stand on: who reaches whom, cables, and power.
#[test]
fn hosts_are_machines_of_their_own() {
    sandboxed(|dir| {
        let hosts = Hosts::start(dir);
        let (near, far, behind) = (
            hosts.add("near", Place::Lan),
            hosts.add("far", Place::Far),
            hosts.add("behind", Place::BehindNat),
        );
        for host in [&near, &far, &behind, &hosts.first()] {
            serve_name(host);
        }
        let first = hosts.first();
        for from in [&near, &far, &behind] {
            eventually("a way to the first host", || ask(from, &first));
        }
        for to in [&near, &far] {
            assert_eq!(eventually("a way out", || ask(&first, to)), to.name);
        }
        assert!(ask(&first, &behind).is_err(), "nobody outside may begin");
        assert_eq!(near.run("hostname", &[]).unwrap(), "near\n");

        near.cut();
        assert!(ask(&first, &near).is_err());
        near.mend();
        eventually("a mended cable", || ask(&first, &near));

        near.power_off();
        near.power_on();
        assert!(ask(&first, &near).is_err(), "nothing runs after a power cut");
        serve_name(&near);
        eventually("a host that is back", || ask(&first, &near));
    });
}

/// Starts a web server that answers with the host's name; it ends with the host.
fn serve_name(host: &Arc<Host>) {
    let name = &host.name;
    let script = format!(
        "mkdir -p /tmp/www-{name}; echo {name} > /tmp/www-{name}/index.html; exec busybox httpd -f -p 8000 -h /tmp/www-{name}"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).stdin(Stdio::null());
    host.inside(|| command.spawn()).expect("busybox httpd");
}

fn ask(from: &Arc<Host>, to: &Arc<Host>) -> Result<String, String> {
    let url = format!("http://{}:8000/", to.ip);
    let said = from.run("curl", &["-sS", "-f", "--max-time", "2", &url])?;
    Ok(said.trim().to_owned())
}
