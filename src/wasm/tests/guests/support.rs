//! What the tests share: a host, a pod's network, the example programs, a tiny HTTP client.

use async_trait::async_trait;
use bytes::Bytes;
use coracle_wasm::{
    Exit, Host, HostConfig, HostNetwork, Instance, InstanceSpec, Interfaces, MemoryOutput, Neighbours,
    Network, Program, ResolveError, memory_output,
};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const MIB: u64 = 1 << 20;

/// A port to which the rules of a [`Pod`] let nobody connect.
pub const FORBIDDEN: u16 = 9;

/// The plain host's network, used by one pod.
#[derive(Default)]
pub struct Pod {
    neighbours: Neighbours,
    interfaces: Interfaces,
}

#[async_trait]
impl Network for Pod {
    fn pod_ip(&self) -> IpAddr {
        HostNetwork.pod_ip()
    }
    fn loopback(&self) -> IpAddr {
        HostNetwork.loopback()
    }
    fn may_bind(&self, _: SocketAddr) -> bool {
        true
    }
    fn may_connect(&self, address: SocketAddr) -> bool {
        address.port() != FORBIDDEN
    }
    fn neighbours(&self) -> Option<&Neighbours> {
        Some(&self.neighbours)
    }
    fn interfaces(&self) -> Option<&Interfaces> {
        Some(&self.interfaces)
    }
    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        HostNetwork.resolve(name).await
    }
}

/// A host whose compiled programs are shared with the other tests.
pub fn host() -> Host {
    Host::new(config()).unwrap()
}

pub fn config() -> HostConfig {
    let cache_dir = Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cwasm"));
    HostConfig {
        cache_dir,
        max_instances: 64,
        threads: Some(2),
        ..HostConfig::default()
    }
}

/// A file in `wasm-examples`. The checkout is asked for when the test runs: a
/// target folder that several checkouts share may hold the build of another.
pub fn example(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is"))
        .join("../../wasm-examples")
        .join(name)
}

pub fn example_bytes(name: &str) -> Bytes {
    std::fs::read(example(name)).unwrap().into()
}

/// Compiles an example. Its key is its content's, as it must be.
pub async fn compile(host: &Host, name: &str) -> Program {
    let bytes = example_bytes(name);
    host.compile(&digest(&bytes), bytes).await.unwrap()
}

pub fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    format!("sha256:{:x}", sha2::Sha256::digest(bytes))
}

/// Compiles a program in text form.
pub async fn compile_text(host: &Host, text: &str) -> Program {
    host.compile(&digest(text.as_bytes()), Bytes::from(text.to_string()))
        .await
        .unwrap()
}

/// A part of a component's text: `$memory` with some data in it, and `$realloc`, which gives out what lies behind.
pub fn heap(data: &str) -> String {
    format!(
        r#"(core module $heap
            (memory (export "memory") 1)
            {data}
            (global $at (mut i32) (i32.const 1024))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                (global.get $at)
                (global.set $at (i32.add (global.get $at) (i32.and (i32.add (local.get 3) (i32.const 7)) (i32.const -8))))))
        (core instance $heap (instantiate $heap))
        (alias core export $heap "memory" (core memory $memory))
        (alias core export $heap "realloc" (core func $realloc))"#
    )
}

/// A specification on the plain host network whose outputs can be read.
pub struct Spec {
    pub spec: InstanceSpec,
    pub stdout: Arc<MemoryOutput>,
    pub stderr: Arc<MemoryOutput>,
}

pub fn spec(args: &[&str]) -> Spec {
    let (stdout, stderr) = (memory_output(), memory_output());
    let mut spec = InstanceSpec::new("test", Arc::new(HostNetwork));
    spec.args = std::iter::once("guest")
        .chain(args.iter().copied())
        .map(String::from)
        .collect();
    spec.stdout = stdout.clone();
    spec.stderr = stderr.clone();
    Spec { spec, stdout, stderr }
}

/// Runs a program to its end; gives the end and what it printed.
pub async fn run(host: &Host, program: &Program, spec: Spec) -> (Exit, String, String) {
    let instance = host.start(program, spec.spec).await.unwrap();
    let exit = wait(&instance).await;
    (exit, spec.stdout.text(), spec.stderr.text())
}

pub async fn wait(instance: &Instance) -> Exit {
    tokio::time::timeout(Duration::from_secs(60), instance.wait())
        .await
        .expect("the guest does not end")
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The status and body of a GET.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    try_get(address, path).await.unwrap()
}

pub async fn try_get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    talk(address, head.as_bytes()).await
}

/// Sends bytes, reads an answer to its end.
pub async fn talk(address: SocketAddr, request: &[u8]) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    Ok((status, body.to_string()))
}
