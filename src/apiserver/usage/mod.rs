//! `metrics.k8s.io/v1beta1`: what nodes and pods use at this moment, for `kubectl top` and whoever scales by it.
//!
//! ```text
//! a question ─▶ which nodes ─▶ scrape each (through its agent's connection) ─▶ scrape.rs: text to counters
//!                                  two scrapes ─▶ rate.rs ─▶ objects.rs: NodeMetrics, PodMetrics
//! ```
//!
//! Nothing is asked of any node unless somebody wants to know: the first question takes two scrapes a moment apart,
//! the next ones compare with what was scraped before. When somebody installs a metrics server of their own, its
//! APIService takes this group version over (see `aggregation`).

mod kinds;
mod objects;
mod rate;
mod scrape;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::object;
use api::request::{Reply, Request, Verb};
use api::selector::{FieldSelector, LabelSelector};
use api::status::Status;
use base::Clock;
use futures_util::{StreamExt, stream};
use http::Method;
use serde_json::{Value, json};

pub use kinds::{GROUP, all as kinds};

use crate::body::read;
use crate::http::reply;
use crate::lookup::Lookup;
use crate::nodes::{NodeDialer, NodeLinks};
use rate::Used;
use scrape::Scrape;

/// A scrape that is younger is as good as a new one.
const FRESH: Duration = Duration::from_secs(5);
/// What a rate is measured over, at least and at most.
const WINDOW_MIN: Duration = Duration::from_secs(1);
const WINDOW_MAX: Duration = Duration::from_secs(90);
/// How long a node may take to answer, and how many are asked at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 32;
const PAGE_BYTES_MAX: usize = 16 << 20;

/// What nodes were scraped.
#[derive(Clone, Default)]
struct Kept {
    /// The latest.
    last: Option<Arc<Scrape>>,
    /// The one before, which rates are measured from.
    before: Option<Arc<Scrape>>,
}

/// Answers questions about what is used.
pub struct Usage {
    nodes: NodeLinks,
    lookup: Arc<dyn Lookup>,
    clock: Arc<dyn Clock>,
    // A std mutex: nothing awaits while it is held.
    kept: Mutex<BTreeMap<String, Kept>>,
}

impl Usage {
    /// Asks nodes over these links; which there are, and their pods, is looked up.
    pub fn new(nodes: NodeLinks, lookup: Arc<dyn Lookup>, clock: Arc<dyn Clock>) -> Self {
        Self {
            nodes,
            lookup,
            clock,
            kept: Mutex::default(),
        }
    }

    /// Answers a request for `nodes` or `pods` of the group.
    ///
    /// # Errors
    /// 404 for what is not there or has not been measured, 405 for everything but reading.
    pub async fn answer(&self, request: &Request) -> Result<Reply, Status> {
        let plural = request.resource.plural.as_str();
        if !matches!(request.verb, Verb::Get | Verb::List) || !matches!(plural, "nodes" | "pods") {
            return Err(Status::method_not_allowed(GROUP, plural, request.verb.name()));
        }
        let wanted = self.wanted(request)?;
        let on: BTreeSet<String> = match plural {
            "nodes" => wanted.iter().map(|node| object::name(node).to_owned()).collect(),
            _ => wanted
                .iter()
                .map(|pod| object::get_str(pod, &["spec", "nodeName"]).to_owned())
                .collect(),
        };
        let used = self.used(on).await;
        let now = self.clock.now();
        let made = wanted.iter().filter_map(|one| match plural {
            "nodes" => objects::node(one, used.get(object::name(one))?, now),
            _ => objects::pod(one, used.get(object::get_str(one, &["spec", "nodeName"]))?, now),
        });
        let made: Vec<Value> = made.collect();
        let body = match request.verb {
            Verb::Get => made
                .into_iter()
                .next()
                .ok_or_else(|| objects::not_found(request))?,
            _ => objects::list(plural, made),
        };
        Ok(Reply {
            code: 200,
            body: body.to_string().into(),
            warnings: Vec::new(),
        })
    }

    /// The nodes or pods that a request is about.
    fn wanted(&self, request: &Request) -> Result<Vec<Value>, Status> {
        let plural = request.resource.plural.as_str();
        let namespace = if plural == "nodes" {
            ""
        } else {
            request.namespace.as_str()
        };
        let labels = LabelSelector::parse(&request.options.label_selector).map_err(Status::bad_request)?;
        let fields = FieldSelector::parse(&request.options.field_selector).map_err(Status::bad_request)?;
        let found = match request.verb {
            Verb::Get => self
                .lookup
                .find("", plural, namespace, &request.name)
                .into_iter()
                .collect(),
            _ => self.lookup.selected("", plural, namespace, "", ""),
        };
        let parsed = found
            .iter()
            .filter_map(|found| serde_json::from_slice::<Value>(&found.text).ok());
        Ok(parsed
            .filter(|one| labels.matches(object::get(one, &["metadata", "labels"])) && fits(&fields, one))
            .collect())
    }

    /// What is used on each of these nodes; those that do not answer are left out.
    async fn used(&self, nodes: BTreeSet<String>) -> BTreeMap<String, Used> {
        let asked = stream::iter(nodes.into_iter().filter(|node| self.nodes.connected(node)));
        let used = asked.map(|node| async move {
            let used = self.of_node(&node).await;
            if let Err(why) = &used {
                tracing::debug!(node, why, "a node could not be measured");
            }
            Some((node, used.ok()?))
        });
        used.buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    async fn of_node(&self, node: &str) -> Result<Used, String> {
        let now = self.clock.now();
        let mut kept = self.kept(node);
        if kept.last.as_ref().is_none_or(|last| last.age(now) >= FRESH) {
            kept = self.keep(node, self.scrape(node).await?);
        }
        if let Some(used) = kept.used() {
            return Ok(used);
        }
        tokio::time::sleep(WINDOW_MIN).await;
        let kept = self.keep(node, self.scrape(node).await?);
        kept.used()
            .ok_or_else(|| "its counters cannot be compared".to_owned())
    }

    fn kept(&self, node: &str) -> Kept {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(node).cloned().unwrap_or_default()
    }

    /// Takes a scrape in, and forgets nodes that nobody has asked about for long.
    fn keep(&self, node: &str, scrape: Scrape) -> Kept {
        let now = scrape.at;
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, kept| kept.last.as_ref().is_some_and(|last| last.age(now) <= WINDOW_MAX));
        let kept = all.entry(node.to_owned()).or_default();
        kept.before = kept.last.take();
        kept.last = Some(Arc::new(scrape));
        kept.clone()
    }

    async fn scrape(&self, node: &str) -> Result<Scrape, String> {
        let mut request = http::Request::new(reply::empty());
        *request.method_mut() = Method::GET;
        let path = format!("/{}/metrics/resource", client::link::NODE);
        *request.uri_mut() = path.parse().map_err(|_| "the path is none".to_owned())?;
        let asked = async {
            let response = self
                .nodes
                .request(node, request)
                .await
                .map_err(|status| status.message)?;
            let code = response.status();
            let page = read(response.into_body(), PAGE_BYTES_MAX).await;
            let page = page.map_err(|_| "the answer broke off".to_owned())?;
            if !code.is_success() {
                return Err(format!("code {code}"));
            }
            Ok(Scrape::parse(&String::from_utf8_lossy(&page), self.clock.now()))
        };
        let answered = tokio::time::timeout(ANSWER_WITHIN, asked).await;
        answered.map_err(|_| "it does not answer".to_owned())?
    }
}

impl Kept {
    /// What was used between the two scrapes; `None` when they are too near or too far apart.
    fn used(&self) -> Option<Used> {
        let (last, before) = (self.last.as_ref()?, self.before.as_ref()?);
        let window = before.age(last.at);
        (WINDOW_MIN..=WINDOW_MAX)
            .contains(&window)
            .then(|| Used::between(before, last))
    }
}

/// Whether an object has what a field selector asks for: all that it may ask for is the name and namespace.
fn fits(fields: &FieldSelector, object: &Value) -> bool {
    let values: BTreeMap<String, String> = BTreeMap::from([
        ("metadata.name".to_owned(), object::name(object).to_owned()),
        (
            "metadata.namespace".to_owned(),
            object::namespace(object).to_owned(),
        ),
    ]);
    fields.matches(&json!(values))
}

#[cfg(test)]
mod tests;
