//! A server of gRPC's health protocol for the scenarios (`grpc.health.v1.Health/Check`).
//!
//! `health FOLDER PORT` answers for the services that have a file in FOLDER with what that file says, such as `SERVING`;
//! `overall` stands for the server as a whole. Other services are unknown to it.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use plugins::answer::{Answer, Asked, answer, unknown};
use plugins::{Call, Status};
use tokio::net::TcpListener;

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "State", tag = "1")]
    status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum State {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
}

plugins::calls! {
    HealthCheckRequest => "/grpc.health.v1.Health/Check" => HealthCheckResponse;
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().expect("FOLDER PORT");
    let folder = Arc::new(PathBuf::from(next()));
    let address = format!("0.0.0.0:{}", next());
    let listener = TcpListener::bind(&address)
        .await
        .expect("an address to listen on");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let folder = folder.clone();
        let service = service_fn(move |asked| {
            let folder = folder.clone();
            async move { Ok::<_, Infallible>(dispatch(&folder, asked).await) }
        });
        let connection = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

async fn dispatch(folder: &Path, asked: Asked) -> Answer {
    match asked.uri().path() {
        HealthCheckRequest::METHOD => {
            let folder = folder.to_owned();
            answer(asked, |r| async move { check(&folder, r) }).await
        }
        _ => unknown(&asked),
    }
}

fn check(folder: &Path, asked: HealthCheckRequest) -> Result<HealthCheckResponse, Status> {
    let name = match asked.service.as_str() {
        "" => "overall",
        service => service,
    };
    let told =
        std::fs::read_to_string(folder.join(name)).map_err(|_| Status::not_found("unknown service"))?;
    let status = match told.trim() {
        "SERVING" => State::Serving,
        "NOT_SERVING" => State::NotServing,
        _ => State::Unknown,
    };
    Ok(HealthCheckResponse {
        status: status.into(),
    })
}
