//! A `wasi:http` handler that shows where it runs.
//!
//! | path | answer |
//! |---|---|
//! | `/env/NAME` | the variable's value, 404 without it |
//! | `/file?path=P` | the file's text, 404 without it |
//! | `/write?path=P&text=T` | writes the file |
//! | `/fetch?url=U` | what a GET of U answered: status line, blank line, body |
//! | `/ready` | 200, or 503 while `READY=false` or the file `READY_FILE` is missing |
//! | `/echo` | the request's body |
//! | `/sleep?ms=N` | answers after so many milliseconds |
//! | `/alloc?mib=N` | takes and touches so much memory |
//! | `/spin` | never answers |
//! | `/panic` | traps |
//! | other | `hello from NAME: PATH` |

mod fetch;
mod query;

use early_heap as _;
use query::parameter;
use std::io::Read;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wasip2::http::proxy::export!(Hello);

struct Hello;

/// Status and body of an answer.
type Answer = (u16, Vec<u8>);

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_else(|| "/".to_string());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let (status, body) = answer(&request, path, query);
        respond(out, status, &body);
    }
}

fn answer(request: &IncomingRequest, path: &str, query: &str) -> Answer {
    if let Some(name) = path.strip_prefix("/env/") {
        return found(std::env::var(name).map(String::into_bytes));
    }
    let file = || parameter(query, "path");
    match path {
        "/file" => found(std::fs::read(file())),
        "/write" => match std::fs::write(file(), parameter(query, "text")) {
            Ok(()) => text(200, "written"),
            Err(error) => text(500, &error.to_string()),
        },
        "/fetch" => match fetch::get(&parameter(query, "url")) {
            Ok(body) => (200, body),
            Err(error) => text(502, &error),
        },
        "/ready" if ready() => text(200, "ready"),
        "/ready" => text(503, "not ready"),
        "/echo" => (200, body_of(request)),
        "/sleep" => {
            let ms = parameter(query, "ms").parse().unwrap_or(0);
            std::thread::sleep(std::time::Duration::from_millis(ms));
            text(200, "slept")
        }
        "/alloc" => {
            let mib: usize = parameter(query, "mib").parse().unwrap_or(0);
            let block = std::hint::black_box(vec![1u8; mib << 20]);
            text(200, &format!("allocated {} MiB", block.len() >> 20))
        }
        "/spin" => loop {
            std::hint::black_box(0);
        },
        "/panic" => panic!("asked to panic"),
        _ => text(200, &format!("hello from {}: {path}", name())),
    }
}

fn text(status: u16, text: &str) -> Answer {
    (status, format!("{text}\n").into_bytes())
}

fn found<E: std::fmt::Display>(result: Result<Vec<u8>, E>) -> Answer {
    match result {
        Ok(body) => (200, body),
        Err(error) => text(404, &error.to_string()),
    }
}

/// The pod's name, told by the downward API or by the host name.
fn name() -> String {
    ["POD_NAME", "HOSTNAME"]
        .iter()
        .find_map(|key| std::env::var(key).ok())
        .unwrap_or_else(|| "wasm".to_string())
}

fn ready() -> bool {
    let told = std::env::var("READY").map_or(true, |word| word != "false");
    told && std::env::var("READY_FILE").map_or(true, |file| std::fs::metadata(file).is_ok())
}

fn body_of(request: &IncomingRequest) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(body) = request.consume()
        && let Ok(mut stream) = body.stream()
    {
        let _ = stream.read_to_end(&mut bytes);
    }
    bytes
}

fn respond(out: ResponseOutparam, status: u16, bytes: &[u8]) {
    let headers = Fields::new();
    let _ = headers.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]);
    let _ = headers.set("content-length", &[bytes.len().to_string().into_bytes()]);
    let response = OutgoingResponse::new(headers);
    let _ = response.set_status_code(status);
    let body = response.body();
    ResponseOutparam::set(out, Ok(response));
    let Ok(body) = body else { return };
    if let Ok(stream) = body.write() {
        for piece in bytes.chunks(4096) {
            if stream.blocking_write_and_flush(piece).is_err() {
                return;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}
