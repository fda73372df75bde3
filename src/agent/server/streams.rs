//! `kubectl exec` and `kubectl attach`: frames between the client and a process.

use std::sync::Arc;

use api::status::Status;
use bytes::Bytes;
use client::link::frames::{self, Decoder};
use http::Response;
use http_body_util::BodyExt;
use oci::{ExecSpec, Process, Stream, WindowSize};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::body::{Body, BoxError, streamed};
use super::query::Query;
use super::service::Target;
use crate::context::Context;
use crate::runtime::Runtime;

const WAITING_FRAMES_MAX: usize = 16;

type Out = mpsc::Sender<Result<Bytes, BoxError>>;

pub(super) async fn exec(
    node: &Arc<Context>,
    target: &Target,
    query: &Query,
    input: Body,
) -> Result<Response<Body>, Status> {
    let id = target.running()?;
    let (runtime, id) = runtime_of(node, &id)?;
    let spec = ExecSpec {
        args: query.all("command"),
        tty: query.is("tty"),
        stdin: query.is("stdin"),
    };
    if spec.args.is_empty() {
        return Err(Status::bad_request(
            "you must specify at least 1 command for the container",
        ));
    }
    match runtime.exec(id, &spec).await {
        Ok(process) => Ok(run(process, query, input)),
        // The stream opens all the same: clients read the reason from its error channel.
        Err(error) => Ok(failed(&format!("error executing command in container: {error}"))),
    }
}

fn runtime_of<'a>(node: &'a Context, id: &'a str) -> Result<(&'a Arc<dyn Runtime>, &'a str), Status> {
    let found = node.runtimes.of_container(id);
    found.ok_or_else(|| Status::internal("no such runtime"))
}

pub(super) async fn attach(
    node: &Arc<Context>,
    target: &Target,
    query: &Query,
    input: Body,
) -> Result<Response<Body>, Status> {
    let id = target.running()?;
    let (runtime, id) = runtime_of(node, &id)?;
    match runtime.attach(id, query.is("stdin")).await {
        Ok(process) => Ok(run(process, query, input)),
        Err(error) => Ok(failed(&format!("error attaching to container: {error}"))),
    }
}

fn failed(message: &str) -> Response<Body> {
    let (out, receiver) = mpsc::channel(1);
    let status = Status::internal(message).to_value();
    let _ = out.try_send(Ok(frames::encode(frames::ERROR, status.to_string().as_bytes())));
    Response::new(streamed(receiver))
}

fn run(process: Process, query: &Query, input: Body) -> Response<Body> {
    let (out, receiver) = mpsc::channel(WAITING_FRAMES_MAX);
    let wanted = (query.is("stdout"), query.is("stderr"));
    tokio::spawn(pump(process, wanted, input, out));
    Response::new(streamed(receiver))
}

/// Carries bytes both ways until the process ends or the client goes; dropping
/// the process then ends what exec started.
async fn pump(mut process: Process, wanted: (bool, bool), input: Body, out: Out) {
    let (stdin, resize) = (process.stdin.take(), process.resize.clone());
    let feeding = tokio::spawn(feed(input, stdin, resize));
    let gone = out.clone();
    tokio::select! {
        () = drain(process, wanted, out) => {}
        () = gone.closed() => {}
    }
    feeding.abort();
}

async fn drain(mut process: Process, wanted: (bool, bool), out: Out) {
    while let Some(chunk) = process.output.recv().await {
        let (channel, wanted) = match chunk.stream {
            Stream::Stdout => (frames::STDOUT, wanted.0),
            Stream::Stderr => (frames::STDERR, wanted.1),
        };
        if wanted && out.send(Ok(frames::encode(channel, &chunk.bytes))).await.is_err() {
            return;
        }
    }
    let status = match (&mut process.exit).await {
        Ok(Ok(code)) => end(code),
        Ok(Err(error)) => Status::internal(error).to_value(),
        Err(_) => Status::internal("the end of the process was not seen").to_value(),
    };
    let _ = out
        .send(Ok(frames::encode(frames::ERROR, status.to_string().as_bytes())))
        .await;
}

/// The `v1.Status` that tells a process's exit code.
fn end(code: i32) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width")]
    width: u16,
    #[serde(rename = "Height")]
    height: u16,
}

async fn feed(mut input: Body, mut stdin: Option<mpsc::Sender<Bytes>>, resize: mpsc::Sender<WindowSize>) {
    let mut decoder = Decoder::default();
    while let Some(Ok(frame)) = input.frame().await {
        let Ok(bytes) = frame.into_data() else { continue };
        decoder.push(&bytes);
        loop {
            match decoder.next_frame() {
                Ok(Some((frames::STDIN, payload))) => {
                    // A process that no longer listens does not end the session.
                    if let Some(sender) = &stdin
                        && !payload.is_empty()
                        && sender.send(payload).await.is_err()
                    {
                        stdin = None;
                    }
                }
                Ok(Some((frames::RESIZE, payload))) => {
                    if let Ok(size) = serde_json::from_slice::<Size>(&payload) {
                        let _ = resize.try_send(WindowSize {
                            width: size.width,
                            height: size.height,
                        });
                    }
                }
                Ok(Some((frames::CLOSE, payload))) if payload.first() == Some(&frames::STDIN) => stdin = None,
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "a client's stream is broken");
                    return;
                }
            }
        }
    }
}
