//! Embeds the Wasm host in a program of one's own: runs a command, then serves
//! a `wasi:http` handler on loopback and asks it something. Needs no root, no
//! cluster and no configuration.
//!
//! ```text
//! cargo run -p coracle-wasm --example hello
//! LISTEN=127.0.0.1:8080 cargo run -p coracle-wasm --example hello   # serves until Ctrl-C
//! ```

use coracle_wasm::{Host, HostConfig, HostNetwork, InstanceSpec, Output, Program};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Anything = Box<dyn std::error::Error>;

/// The guests, inside this program like the host that runs them.
const COMMAND: &[u8] = include_bytes!("../../../wasm-examples/hello-cli.module.wasm");
const SERVER: &[u8] = include_bytes!("../../../wasm-examples/hello-http.wasm");

/// Passes on what guests print.
struct Print;

impl Output for Print {
    fn write(&self, bytes: &[u8]) {
        let _ = std::io::stdout().write_all(bytes);
    }
}

/// Runs a command, then a server.
#[tokio::main]
pub async fn main() -> Result<(), Anything> {
    let host = Host::new(HostConfig {
        max_instances: 100,
        ..HostConfig::default()
    })?;
    run_a_command(&host).await?;
    let wanted = std::env::var("LISTEN").ok();
    let address = wanted.as_deref().unwrap_or("127.0.0.1:0").parse()?;
    serve(&host, address, wanted.is_some()).await
}

/// Runs a core module to its end.
async fn run_a_command(host: &Host) -> Result<(), Anything> {
    let program = load(host, "hello-cli", COMMAND).await?;
    let mut spec = specification("hello-cli");
    spec.args = ["hello-cli", "--exit", "3"].map(String::from).to_vec();
    spec.env = vec![("GREETING".into(), "hello".into())];
    spec.memory_bytes_max = Some(16 << 20);
    let exit = host.start(&program, spec).await?.wait().await;
    println!("ended with code {} ({})", exit.code, exit.reason.as_str());
    Ok(())
}

/// Serves a component, asks it one thing, stops it.
async fn serve(host: &Host, address: SocketAddr, until_interrupted: bool) -> Result<(), Anything> {
    let program = load(host, "hello-http", SERVER).await?;
    let mut spec = specification("hello-http");
    spec.http_address = Some(address);
    spec.env = vec![("POD_NAME".into(), "an embedded guest".into())];
    let server = host.start(&program, spec).await?;
    let address = server.http_address().ok_or("it does not listen")?;
    println!("serving at http://{address}");
    println!("{}", get(address, "/embedding").await?);
    if until_interrupted {
        tokio::signal::ctrl_c().await?;
    }
    server.stop(Duration::from_secs(5));
    println!("ended with code {}", server.wait().await.code);
    Ok(())
}

/// Any text that names the bytes will do as a key; without a cache folder it
/// only has to be unique within this process.
async fn load(host: &Host, name: &str, guest: &'static [u8]) -> Result<Program, Anything> {
    Ok(host.compile(name, guest.into()).await?)
}

fn specification(name: &str) -> InstanceSpec {
    let mut spec = InstanceSpec::new(name, Arc::new(HostNetwork));
    spec.stdout = Arc::new(Print);
    spec.stderr = Arc::new(Print);
    spec
}

async fn get(address: SocketAddr, path: &str) -> Result<String, Anything> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer
        .rsplit("\r\n\r\n")
        .next()
        .unwrap_or_default()
        .trim()
        .to_string())
}
