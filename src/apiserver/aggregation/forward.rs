//! A request on its way to a server that extends the API.

use std::time::Duration;

use api::request::{Reply, User};
use api::status::Status;
use bytes::Bytes;
use client::url;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Request, Response};

use super::{Aggregation, Remote};
use crate::authn::front_proxy;
use crate::body::Body;
use crate::body::read;
use crate::http::reply;
use crate::nodes::unreachable;
use crate::passing::Passed;

/// How long a request from this process may take.
const CALL_WITHIN: Duration = Duration::from_secs(60);
/// The longest document that is read.
const DOCUMENT_BYTES_MAX: usize = 32 << 20;

impl Aggregation {
    /// Passes a user's request on; failures are answers in Kubernetes' words.
    pub async fn forward(&self, remote: &Remote, user: &User, request: Request<Body>) -> Response<Body> {
        if !remote.available {
            return reply::text(503, "service unavailable\n");
        }
        match self.exchange(remote, user, request).await {
            Ok(response) => response,
            Err(why) => {
                tracing::warn!(service = remote.name, why, "a request could not be passed on");
                reply::text(503, format!("{}\n", unreachable(why).message))
            }
        }
    }

    /// Passes a user's question for a document on, which may not be at a path of the group version.
    pub async fn forward_document(
        &self,
        remote: &Remote,
        user: &User,
        asked: &Request<Body>,
    ) -> Response<Body> {
        let mut request = Request::new(reply::empty());
        *request.uri_mut() = asked.uri().clone();
        *request.headers_mut() = asked.headers().clone();
        self.forward(remote, user, request).await
    }

    /// Carries out a request from this process, which has been authorised.
    ///
    /// # Errors
    /// The other server's refusal; 503 when it cannot be reached.
    pub async fn call(&self, remote: &Remote, asked: api::request::Request) -> Result<Reply, Status> {
        if !remote.available {
            return Err(Status::unavailable("service unavailable"));
        }
        let mut request = Request::new(reply::full(asked.body.clone()));
        *request.method_mut() = url::method(asked.verb);
        *request.uri_mut() = url::path_and_query(&asked).parse().map_err(Status::internal)?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let (false, Ok(kind)) = (asked.body.is_empty(), HeaderValue::from_str(&asked.content_type)) {
            headers.insert(CONTENT_TYPE, kind);
        }
        let exchanged = async {
            let response = self
                .exchange(remote, &asked.user, request)
                .await
                .map_err(unreachable)?;
            let code = response.status();
            let body = read(response.into_body(), DOCUMENT_BYTES_MAX).await;
            Ok((code, body.map_err(|_| unreachable("unexpected EOF"))?))
        };
        let answered = tokio::time::timeout(CALL_WITHIN, exchanged).await;
        let late = || Status::timeout("Timeout: request did not complete within the allotted timeout");
        let (code, body) = answered.map_err(|_| late())??;
        if !code.is_success() {
            let said = serde_json::from_slice::<Status>(&body)
                .ok()
                .filter(|said| said.code > 0);
            let plain = || Status::new(code.as_u16(), "", String::from_utf8_lossy(&body).trim());
            return Err(said.unwrap_or_else(plain));
        }
        Ok(Reply {
            code: code.as_u16(),
            body: body.into(),
            warnings: Vec::new(),
        })
    }

    /// Asks for a document in the server's own name; its code and body.
    pub(super) async fn fetch(
        &self,
        remote: &Remote,
        path: &str,
        within: Duration,
    ) -> Result<(u16, Bytes), String> {
        let mut request = Request::new(reply::empty());
        *request.uri_mut() = path.parse().map_err(|_| format!("{path:?} is no path"))?;
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static("application/json"));
        // Whoever may do everything is asked by nobody for more rights.
        let user = User::new("system:kube-aggregator", &["system:masters"]);
        let asked = async {
            let response = self.exchange(remote, &user, request).await?;
            let code = response.status().as_u16();
            let body = read(response.into_body(), DOCUMENT_BYTES_MAX).await;
            Ok((code, body.map_err(|_| "unexpected EOF".to_owned())?))
        };
        let shown = remote
            .endpoint
            .as_ref()
            .map_or("", |endpoint| endpoint.origin.as_str());
        let failed = |why: String| format!("Get \"{shown}{path}\": {why}");
        let answered = tokio::time::timeout(within, asked).await;
        answered
            .map_err(|_| failed("context deadline exceeded".to_owned()))?
            .map_err(failed)
    }

    async fn exchange(
        &self,
        remote: &Remote,
        user: &User,
        request: Request<Body>,
    ) -> Result<Response<Body>, String> {
        let endpoint = remote.endpoint.as_ref().map_err(Clone::clone)?;
        let who = self.identity.credentials(self.clock.now())?;
        // An HTTP/2 request names its host in its URI.
        let path = request.uri().path().to_owned();
        let host = endpoint.origin.trim_start_matches("https://");
        let mut passed = Passed::new(request, &path, host).map_err(|status| status.message)?;
        let headers = passed.request.headers_mut();
        if let Ok(host) = HeaderValue::from_str(host) {
            headers.insert(http::header::HOST, host);
        }
        front_proxy::introduce(headers, user);
        let stream = self.outbound.connect(endpoint, &who).await?;
        let answered = passed.over(stream).await;
        answered.map_err(|status| {
            let said = status.message.as_str();
            said.strip_prefix("error trying to reach service: ")
                .unwrap_or(said)
                .to_owned()
        })
    }
}
