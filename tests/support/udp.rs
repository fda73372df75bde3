//! Clients and servers of UDP on this machine.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::{eventually, has};

/// How long a client waits before it asks again.
const PATIENCE: Duration = Duration::from_millis(500);

/// A server that answers everything with a word, for as long as this process lives; its port.
pub fn server(at: IpAddr, word: &'static [u8]) -> u16 {
    let socket = UdpSocket::bind((at, 0)).expect("a socket");
    let port = socket.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(word, from);
        }
    });
    port
}

/// One client, with one port.
pub struct Client {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Client {
    /// A client at an address of this machine that asks at `to`.
    pub fn new(from: IpAddr, to: SocketAddr) -> Self {
        let socket = UdpSocket::bind((from, 0)).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.connect(to).expect("a way there");
        Self { socket, to }
    }

    /// Asks once; the answer.
    pub fn ask(&self) -> Result<String, String> {
        let mut said = [0; 64];
        self.socket.send(b"who?").map_err(|e| e.to_string())?;
        let length = self.socket.recv(&mut said).map_err(|e| e.to_string())?;
        Ok(String::from_utf8_lossy(&said[..length]).into_owned())
    }

    /// Asks until it is answered by that word.
    pub fn told(&self, word: &str) {
        eventually(&format!("{word} at {}", self.to), || has(&self.ask()?, &[word]));
    }
}

/// A Service `echo` of type NodePort at UDP port 7, of both families on demand.
pub fn echo_service(dual: bool) -> String {
    let families = if dual {
        "ipFamilyPolicy: RequireDualStack, "
    } else {
        ""
    };
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: echo}}, \
         spec: {{type: NodePort, {families}ports: [{{port: 7, protocol: UDP}}]}}}}"
    )
}

/// The slice that leads `echo` to a server.
pub fn echo_slice(at: IpAddr, port: u16) -> String {
    let family = if at.is_ipv4() { "IPv4" } else { "IPv6" };
    format!(
        r#"
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: echo-{}, labels: {{kubernetes.io/service-name: echo}}}}
addressType: {family}
ports: [{{name: "", port: {port}, protocol: UDP}}]
endpoints: [{{addresses: ["{at}"]}}]
"#,
        family.to_lowercase()
    )
}
