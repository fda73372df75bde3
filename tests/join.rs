//! A control plane and a node as two processes, as on two machines: the node
//! is reached only over the connection that it dialled.

use crate::support::manifests::{BUSYBOX, idle_pod, wasm_web};
use crate::support::sandbox::NODE_IP;
use crate::support::{Cluster, eventually, sandboxed};

#[test]
fn a_node_joins_by_token_and_runs_pods() {
    sandboxed(|dir| {
        let server = Cluster::start_as("server", dir.join("server"), &[]);
        let url = format!("https://{NODE_IP}:6443");
        let token = server.dir.join("agent-token");
        let token = token.to_str().unwrap();
        let args = ["--server", &url, "--token-file", token, "--node-name", "edge"];
        let mut agent = Cluster::start_as("agent", dir.join("agent"), &args);
        agent.busybox();
        agent.guests();
        server.ready();
        let requests = server.ok(&["get", "certificatesigningrequests", "--no-headers"]);
        assert!(requests.contains("Approved,Issued"), "{requests}");

        server.apply(&idle_pod("box"));
        server.apply(&wasm_web("web", 2, false));
        server.pod_ready("box");
        server.deployed("web", 2);
        assert_eq!(server.field("pod/box", "{.spec.nodeName}").unwrap(), "edge");
        assert_eq!(
            server.field("pod/box", "{.spec.containers[0].image}").unwrap(),
            BUSYBOX
        );
        assert_eq!(
            server.exec("box", &["echo", "over the link"]).unwrap(),
            "over the link\n"
        );
        eventually("an answer through the Service", || {
            server.wget("box", "http://web/")
        });

        // With its certificate on disk the node needs no token any more, and its container runs on.
        let started = "{.status.containerStatuses[0].state.running.startedAt}";
        let before = server.field("pod/box", started).unwrap();
        agent.kill();
        agent.restart();
        eventually("the link is back", || server.exec("box", &["true"]));
        assert_eq!(server.field("pod/box", started).unwrap(), before);
    });
}
