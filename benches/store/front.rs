//! Our store behind the part of etcd's API that the load needs: as thin as it can be, so that what is measured is
//! the store. A process of its own, as etcd is one.

use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use store::{Expect, ListQuery, MemberChange, Op, Outcome, Peer, Record, Store};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::grpc::Client;
use crate::pipes;
use crate::proto::*;
use crate::value::REVISION_AT;

/// Events in one message of a watch, at most.
const EVENTS_MAX: usize = 256;

/// One process with a store.
#[derive(clap::Args)]
pub struct Front {
    /// The store's folder.
    #[arg(long)]
    dir: PathBuf,
    /// Where clients call.
    #[arg(long)]
    listen: String,
    /// Where other members call.
    #[arg(long)]
    peers: Option<String>,
    /// The group to join, and where its founder's clients call.
    #[arg(long, num_args = 2, value_names = ["CLUSTER", "ADDRESS"])]
    join: Option<Vec<String>>,
}

/// Serves until it is killed. Says its group's id in a line when it is open.
pub async fn serve(front: Front) -> anyhow::Result<()> {
    let cluster = front.join.as_ref().map(|join| join[0].parse()).transpose()?;
    // One that is started again is in the group.
    let fresh = !front.dir.exists();
    let store = pipes::open(&front.dir, front.peers.as_deref(), cluster).await?;
    println!("{}", store.cluster());
    let listener = TcpListener::bind(&front.listen).await?;
    if let (true, Some([_, founder]), Some(peers)) = (fresh, front.join.as_deref(), &front.peers) {
        join(&store, founder, peers).await?;
    }
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let store = store.clone();
        tokio::spawn(async move {
            let answer = hyper::service::service_fn(move |request| answer(store.clone(), request));
            // A client that goes away is its own affair.
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(4096)
                .initial_connection_window_size(8 << 20)
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

async fn join(store: &Store, founder: &str, peers: &str) -> anyhow::Result<()> {
    let request = JoinRequest {
        id: store.member(),
        name: peers.to_owned(),
        address: peers.to_owned(),
    };
    let mut founder = Client::connect(founder).await?;
    founder.call::<PutResponse>(JOIN, &request).await.map(drop)
}

async fn answer(store: Store, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let path = request.uri().path().to_owned();
    let answer = match path.as_str() {
        WATCH => watch(store, request.into_body()).await.map(Answer::Stream),
        _ => unary(&store, &path, request.into_body())
            .await
            .map(|bytes| Answer::Unary(Some(bytes), false)),
    };
    let response = Response::builder().header(CONTENT_TYPE, "application/grpc");
    let response = match answer {
        Ok(answer) => response.body(answer),
        Err(error) => {
            eprintln!("{path}: {error:#}");
            response
                .header("grpc-status", "2")
                .body(Answer::Unary(None, true))
        }
    };
    Ok(response.unwrap_or_else(|_| Response::new(Answer::Unary(None, true))))
}

async fn unary(store: &Store, path: &str, body: Incoming) -> anyhow::Result<Bytes> {
    let body = body.collect().await?.to_bytes().slice(5..);
    Ok(match path {
        PUT => frame(&put(store, PutRequest::decode(body)?).await?),
        RANGE => frame(&range(store, RangeRequest::decode(body)?).await?),
        STATUS => frame(&status(store).await?),
        MOVE_LEADER => frame(&hand_over(store, MoveLeaderRequest::decode(body)?).await?),
        JOIN => frame(&take_in(store, JoinRequest::decode(body)?).await?),
        _ => bail!("nobody answers this"),
    })
}

fn header(store: &Store, revision: u64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: store.cluster(),
        member_id: store.member(),
        revision: revision as i64,
        raft_term: 0,
    })
}

async fn put(store: &Store, request: PutRequest) -> anyhow::Result<PutResponse> {
    let op = Op::Put {
        key: std::str::from_utf8(&request.key)?.to_owned(),
        record: Record {
            text: request.value,
            revision_at: REVISION_AT,
            ..Record::default()
        },
        expect: Expect::Any,
    };
    match store.commit(vec![op]).await?.as_slice() {
        [Outcome::Put(entry)] => Ok(PutResponse {
            header: header(store, entry.revision),
        }),
        other => bail!("one outcome was expected: {other:?}"),
    }
}

fn key_value(entry: &store::Entry) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(entry.key.as_bytes()),
        create_revision: entry.created as i64,
        mod_revision: entry.revision as i64,
        version: 1,
        value: entry.text.clone(),
    }
}

async fn range(store: &Store, request: RangeRequest) -> anyhow::Result<RangeResponse> {
    let key = std::str::from_utf8(&request.key)?;
    let (revision, entries) = match request.range_end.is_empty() {
        true => {
            let entry = store.get(key).await?;
            (store.revision(), entry.into_iter().collect())
        }
        false => {
            let listing = store.list(ListQuery::prefix(key)).await?;
            (listing.revision, listing.entries)
        }
    };
    Ok(RangeResponse {
        header: header(store, revision),
        count: entries.len() as i64,
        kvs: entries.iter().map(|entry| key_value(entry)).collect(),
        more: false,
    })
}

async fn status(store: &Store) -> anyhow::Result<StatusResponse> {
    Ok(StatusResponse {
        header: header(store, store.revision()),
        leader: store.status().await?.leadership.leader.unwrap_or(0),
    })
}

/// Answers, as etcd does, when somebody else leads.
async fn hand_over(store: &Store, request: MoveLeaderRequest) -> anyhow::Result<PutResponse> {
    store
        .change_members(MemberChange::Lead(request.target_id))
        .await?;
    store
        .leadership()
        .wait_for(|now| now.leader == Some(request.target_id))
        .await?;
    Ok(PutResponse {
        header: header(store, store.revision()),
    })
}

/// Takes a member in, and waits until it votes.
async fn take_in(store: &Store, request: JoinRequest) -> anyhow::Result<PutResponse> {
    let JoinRequest { id, name, address } = request;
    store
        .change_members(MemberChange::Add(Peer {
            id,
            name,
            address,
            ..Peer::default()
        }))
        .await?;
    while let Err(error) = store.change_members(MemberChange::Promote(id)).await {
        eprintln!("not yet: {error}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Ok(PutResponse {
        header: header(store, store.revision()),
    })
}

async fn watch(store: Store, mut body: Incoming) -> anyhow::Result<mpsc::Receiver<Bytes>> {
    let mut bytes = BytesMut::new();
    let asked = loop {
        if let Some(asked) = unframe::<WatchRequest>(&mut bytes)? {
            break asked.create.context("a watch to begin with")?;
        }
        let frame = body.frame().await.context("it ended")??;
        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
    };
    let prefix = std::str::from_utf8(&asked.key)?.to_owned();
    let from = match asked.start_revision {
        0 => store.revision(),
        revision => revision as u64 - 1,
    };
    let mut watch = store.watch(&prefix, from)?;
    let (send, answers) = mpsc::channel(16);
    tokio::spawn(async move {
        let created = WatchResponse {
            header: header(&store, from),
            created: true,
            ..WatchResponse::default()
        };
        let mut next = frame(&created);
        while send.send(next).await.is_ok() {
            let Some(Ok(first)) = watch.next().await else {
                break;
            };
            let mut events = vec![first];
            while let (true, Some(Ok(event))) = (events.len() < EVENTS_MAX, watch.try_next()) {
                events.push(event);
            }
            next = frame(&told(&store, &events));
        }
        // Until here: a request that is over would end the answer.
        drop(body);
    });
    Ok(answers)
}

fn told(store: &Store, events: &[Arc<store::Event>]) -> WatchResponse {
    let event = |event: &Arc<store::Event>| Event {
        kind: i32::from(event.kind == store::Change::Delete),
        kv: Some(key_value(&event.entry)),
    };
    WatchResponse {
        header: header(store, events.last().map_or(0, |event| event.revision)),
        events: events.iter().map(event).collect(),
        ..WatchResponse::default()
    }
}

/// An answer's body.
pub enum Answer {
    /// One message, then the status; the flag says that all of it was sent.
    Unary(Option<Bytes>, bool),
    /// Messages as they come.
    Stream(mpsc::Receiver<Bytes>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut *self {
            Answer::Stream(messages) => std::task::ready!(messages.poll_recv(context)).map(Frame::data),
            Answer::Unary(_, true) => None,
            Answer::Unary(message, over) => Some(match message.take() {
                Some(message) => Frame::data(message),
                None => {
                    *over = true;
                    let status = ("grpc-status".parse(), HeaderValue::from_static("0"));
                    Frame::trailers(HeaderMap::from_iter(status.0.map(|name| (name, status.1))))
                }
            }),
        };
        Poll::Ready(next.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Answer::Unary(_, true))
    }
}
