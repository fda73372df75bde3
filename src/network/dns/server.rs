//! The listening half: hickory's server around a [`Lookup`].

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use base::SystemRandom;
use hickory_proto::op::{Edns, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};

use super::lookup::{Lookup, Reply};

/// A TCP connection on which nothing is asked is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Answers that may wait on one TCP connection.
const TCP_ANSWERS_MAX: usize = 32;
/// UDP answers stay below what any path takes in one piece.
const UDP_BYTES_MAX: u16 = 1232;

/// Listens on UDP and TCP; serving ends when the server is dropped.
pub(super) async fn listen(address: SocketAddr, lookup: Lookup) -> io::Result<Server<Handler>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("DNS on {address}: {error}"));
    let udp = UdpSocket::bind(address).await.map_err(named)?;
    let tcp = TcpListener::bind(udp.local_addr()?).await.map_err(named)?;
    let mut server = Server::new(Handler { lookup });
    server.register_socket(udp);
    server.register_listener(tcp, IDLE, TCP_ANSWERS_MAX);
    Ok(server)
}

pub(super) struct Handler {
    lookup: Lookup,
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, out: R) -> ResponseInfo {
        let reply = self.reply(request).await;
        match send(request, &reply, out).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, client = %request.src(), "DNS answer not sent");
                failed(request)
            }
        }
    }
}

impl Handler {
    async fn reply(&self, request: &Request) -> Reply {
        if request.metadata.op_code != OpCode::Query {
            return Reply::empty(ResponseCode::NotImp, false);
        }
        let Ok(info) = request.request_info() else {
            return Reply::empty(ResponseCode::FormErr, false);
        };
        let transfer = matches!(info.query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if info.query.query_class() != DNSClass::IN || transfer {
            return Reply::empty(ResponseCode::Refused, false);
        }
        let mut reply = self.lookup.ask(info.query.original()).await;
        // Clients take the first address; the order is the load balancing of
        // headless Services. Aliases stay in front of what they lead to.
        if reply
            .answers
            .iter()
            .all(|record| matches!(record.record_type(), RecordType::A | RecordType::AAAA))
        {
            base::random::shuffle(&SystemRandom, &mut reply.answers);
        }
        reply
    }
}

async fn send<R: ResponseHandler>(
    request: &Request,
    reply: &Reply,
    mut out: R,
) -> Result<ResponseInfo, hickory_server::net::NetError> {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.response_code = reply.code;
    metadata.authoritative = reply.authoritative;
    metadata.recursion_available = true;
    let edns = request.edns.as_ref().map(|asked| {
        let mut edns = Edns::new();
        edns.set_max_payload(asked.max_payload().clamp(512, UDP_BYTES_MAX))
            .set_version(0);
        edns
    });
    let mut builder = MessageResponseBuilder::from_message_request(request);
    if let Some(edns) = &edns {
        builder.edns(edns);
    }
    let response = builder.build(
        metadata,
        &reply.answers,
        &reply.authorities,
        [],
        &reply.additionals,
    );
    out.send_response(response).await
}

/// What hickory notes about a question that got no answer.
fn failed(request: &Request) -> ResponseInfo {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.response_code = ResponseCode::ServFail;
    hickory_proto::op::Header {
        metadata,
        counts: Default::default(),
    }
    .into()
}
