//! Damaged addresses, headers and small bodies of requests.

use api::request::Verb;
use base::SeededRandom;
use http::{HeaderMap, HeaderValue, Version};
use proptest::prelude::*;

use super::{convert, negotiate, path, query};
use crate::streams::upgrade;

const PATHS: [&str; 8] = [
    "/api/v1/namespaces/a%2Fb/pods/web-1/log",
    "/apis/apps/v1/namespaces/default/deployments/web/scale",
    "/api/v1/watch/namespaces/default/pods/a",
    "/api/v1/nodes/https:n-1:10250/proxy/a//b/../c",
    "/api/v1/namespaces/default/services/http:web:80/proxy/",
    "/openapi/v3/apis/apps/v1",
    "/.well-known/openid-configuration",
    "/apis/coracle.dev/v1/%zz",
];
const QUERIES: [&str; 6] = [
    "labelSelector=a%3Db%2Cc+in+%28d%29&fieldSelector=metadata.name%3Da&limit=5&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEi",
    "watch=1&resourceVersion=12&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&allowWatchBookmarks=true",
    "dryRun=All&fieldManager=kubectl&fieldValidation=Strict&force=true",
    "gracePeriodSeconds=-1&propagationPolicy=Foreground&orphanDependents=false",
    "timeoutSeconds=99999999999999999999&pretty=%00&includeObject=Object",
    "container=a&command=sh&command=-c&stdin=true&tty=1&sinceTime=2024-01-01T00%3A00%3A00Z&tailLines=-5",
];
const HEADERS: [&str; 7] = [
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;q=0.5,*/*;q=0",
    "application/vnd.kubernetes.protobuf;stream=watch,application/yaml",
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,text/html;q=1e9",
    "gzip;q=0.1, identity, deflate",
    "Upgrade, keep-alive",
    "v5.channel.k8s.io, v4.base64.channel.k8s.io,base64url.bearer.authorization.k8s.io.YQ",
    "SPDY/3.1",
];
fn damaged(random: &SeededRandom, texts: &[&str]) -> String {
    let mut bytes = random
        .one_of(texts)
        .copied()
        .unwrap_or_default()
        .as_bytes()
        .to_vec();
    random.damage(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

proptest! {
    #[test]
    fn damaged_addresses_are_refused_or_read(seed: u64) {
        let random = SeededRandom::new(seed);
        let path = damaged(&random, &PATHS);
        path::parse(&path);
        path::parse_foreign(&path);
        let query = query::Query::parse(&damaged(&random, &QUERIES));
        for verb in [Verb::List, Verb::Watch, Verb::Delete] {
            let _ = query::options(&query, verb, "kubectl/v1.36.0");
        }
        let _ = (convert::include(&query), convert::pretty(&query, "curl/8"));
    }

    #[test]
    fn damaged_headers_are_refused_or_read(seed: u64) {
        let random = SeededRandom::new(seed);
        let mut headers = HeaderMap::new();
        for name in ["accept", "accept-encoding", "connection", "upgrade", "sec-websocket-protocol", "sec-websocket-key"] {
            if let Ok(value) = HeaderValue::from_bytes(damaged(&random, &HEADERS).as_bytes()) {
                headers.append(name, value);
            }
        }
        for tables in [true, false] {
            let _ = negotiate::form(&headers, tables);
        }
        negotiate::accepted(&headers);
        negotiate::gzip(&headers);
        let _ = upgrade::required(Version::HTTP_11, &headers);
        let _ = upgrade::to_websocket(&headers, "v5.channel.k8s.io");
    }
}
