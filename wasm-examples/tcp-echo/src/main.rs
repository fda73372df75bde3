//! A TCP echo server on `wasi:sockets`, and the clients to try it with.
//!
//! - no arguments: listens on 0.0.0.0, port `PORT` or 8080; greets each
//!   connection with `hello from NAME` and echoes what it gets
//! - `connect HOST:PORT TEXT`: looks HOST up, sends TEXT, prints what comes back
//! - `udp-serve`: answers every datagram on that port with `NAME: datagram`
//! - `udp-send HOST:PORT TEXT`: sends a datagram, prints the answer and its sender

mod address;
mod tcp;
mod udp;

use early_heap as _;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        [] | ["serve"] => tcp::serve(port()),
        ["connect", target, text] => tcp::connect(target, text),
        ["udp-serve"] => udp::serve(port()),
        ["udp-send", target, text] => udp::send(target, text),
        _ => Err(
            "usage: tcp-echo [serve | connect HOST:PORT TEXT | udp-serve | udp-send HOST:PORT TEXT]".into(),
        ),
    };
    if let Err(error) = result {
        eprintln!("tcp-echo: {error}");
        std::process::exit(1);
    }
}

fn port() -> u16 {
    std::env::var("PORT")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(8080)
}

/// Who answers: the pod's name, or plain `wasm`.
fn name() -> String {
    std::env::var("POD_NAME")
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "wasm".into())
}
