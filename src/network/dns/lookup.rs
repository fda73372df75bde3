//! One question from beginning to end: the cluster's zone first, then
//! upstream, along aliases.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::upstream::Upstream;
use super::zone::{Answer, Zone};
use crate::catalog::Catalog;

/// Aliases that are followed for one question.
const ALIASES_MAX: usize = 8;
/// How long a question may wait for the first list of Services: better late
/// than a "no such name" that the client believes.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a question leads to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reply {
    pub code: ResponseCode,
    /// Whether it is the cluster's zone that speaks.
    pub authoritative: bool,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
}

/// Everything that answering takes.
#[derive(Clone)]
pub(super) struct Lookup {
    pub catalog: Catalog,
    pub zone: Arc<Zone>,
    pub upstream: Arc<Upstream>,
}

impl Lookup {
    /// Answers a question.
    pub(super) async fn ask(&self, query: &Query) -> Reply {
        let kind = query.query_type();
        let mut name = query.name().clone();
        let mut reply = Reply::empty(ResponseCode::NoError, true);
        for _ in 0..=ALIASES_MAX {
            if !self.zone.owns(&name) {
                let asked = self.foreign(name, query).await;
                return reply.continued_by(asked);
            }
            if tokio::time::timeout(PATIENCE, self.catalog.synced())
                .await
                .is_err()
            {
                return Reply::empty(ResponseCode::ServFail, false);
            }
            // In a statement of its own: the lock must not be held across an await.
            let answer = self.zone.answer(&self.catalog.read(), &name, kind);
            match answer {
                Answer::Alias(record, target) => {
                    reply.answers.push(record);
                    if kind == RecordType::CNAME {
                        return reply;
                    }
                    name = target;
                }
                other => return reply.continued_by(other.into()),
            }
        }
        Reply::empty(ResponseCode::ServFail, false)
    }

    async fn foreign(&self, name: Name, query: &Query) -> Reply {
        let mut question = Query::query(name, query.query_type());
        question.set_query_class(query.query_class());
        match self.upstream.ask(&question).await {
            None => Reply::empty(ResponseCode::ServFail, false),
            Some(message) => Reply {
                code: message.metadata.response_code,
                authoritative: false,
                answers: message.answers,
                authorities: message.authorities,
                additionals: message.additionals,
            },
        }
    }
}

impl Reply {
    pub(super) fn empty(code: ResponseCode, authoritative: bool) -> Reply {
        let none = Vec::new;
        Reply {
            code,
            authoritative,
            answers: none(),
            authorities: none(),
            additionals: none(),
        }
    }

    /// The addresses among the answers.
    pub(super) fn addresses(&self) -> Vec<std::net::IpAddr> {
        let address = |record: &Record| match &record.data {
            RData::A(a) => Some(a.0.into()),
            RData::AAAA(a) => Some(a.0.into()),
            _ => None,
        };
        self.answers.iter().filter_map(address).collect()
    }

    /// What the aliases so far led to.
    fn continued_by(mut self, rest: Reply) -> Reply {
        let authoritative = if self.answers.is_empty() {
            rest.authoritative
        } else {
            self.authoritative
        };
        self.answers.extend(rest.answers);
        Reply {
            authoritative,
            answers: self.answers,
            ..rest
        }
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        let mut reply = Reply::empty(ResponseCode::NoError, true);
        match answer {
            Answer::Records(answers, additionals) => {
                (reply.answers, reply.additionals) = (answers, additionals);
            }
            Answer::Alias(record, _) => reply.answers.push(record),
            Answer::NoData(soa) => reply.authorities.push(soa),
            Answer::NoName(soa) => {
                reply.code = ResponseCode::NXDomain;
                reply.authorities.push(soa);
            }
            Answer::Foreign => reply.code = ResponseCode::Refused,
        }
        reply
    }
}
