//! Names as clients see them.

use std::net::SocketAddr;

use client::Cache;
use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RData, Record};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::catalog::Index;
use crate::fixtures;
use zone::Answer;

fn world() -> (Vec<Service>, Vec<EndpointSlice>) {
    let mut external = fixtures::service("shop", "away", "", &[]);
    let spec = external.spec.as_mut().unwrap();
    (spec.type_, spec.external_name) = (Some("ExternalName".into()), Some("www.example.com".into()));
    let mut inside = external.clone();
    inside.metadata.name = Some("alias".into());
    inside.spec.as_mut().unwrap().external_name = Some("web.shop.svc.cluster.local".into());
    let services = vec![
        fixtures::service("shop", "web", "10.43.0.7", &[("http", 80), ("admin", 81)]),
        fixtures::service("shop", "db", "None", &[("sql", 5432)]),
        fixtures::service("shop", "idle", "None", &[("sql", 5432)]),
        external,
        inside,
    ];
    let mut db = fixtures::slice(
        "shop",
        "db",
        "db-1",
        &["10.64.0.2", "10.64.0.3", "10.64.0.4"],
        &[("sql", 5432)],
    );
    let endpoints = db.endpoints.as_mut().unwrap();
    endpoints[0].hostname = Some("db-0".into());
    endpoints[2].conditions.as_mut().unwrap().ready = Some(false);
    let web = fixtures::slice("shop", "web", "web-1", &["10.64.0.9"], &[("http", 8080)]);
    (services, vec![db, web])
}

fn index() -> Index {
    let (services, slices) = world();
    let mut index = Index::default();
    for service in services {
        index.apply_service(&Arc::new(service));
    }
    for slice in slices {
        index.apply_slice(&Arc::new(slice));
    }
    index
}

fn say(record: &Record) -> String {
    match &record.data {
        RData::A(a) => a.to_string(),
        RData::SRV(srv) => format!("{} {} {}", srv.weight, srv.port, srv.target),
        RData::PTR(name) => name.0.to_string(),
        other => other.to_string(),
    }
}

/// What the zone says, in words.
fn ask(name: &str, kind: RecordType) -> String {
    let zone = Zone::new(&fixtures::config("/data".as_ref()));
    match zone.answer(&index(), &zone::parse(name).unwrap(), kind) {
        Answer::Records(records, _) => records.iter().map(say).collect::<Vec<_>>().join(", "),
        Answer::Alias(_, target) => format!("alias {target}"),
        Answer::NoData(_) => "no data".into(),
        Answer::NoName(_) => "no name".into(),
        Answer::Foreign => "foreign".into(),
    }
}

#[test]
fn names_of_the_cluster() {
    use RecordType::{A, AAAA, NS, SOA, SRV, TXT};
    let expected = [
        ("web.shop.svc.cluster.local", A, "10.43.0.7"),
        ("WEB.Shop.svc.Cluster.local", A, "10.43.0.7"),
        ("web.shop.svc.cluster.local", AAAA, "no data"),
        ("web.other.svc.cluster.local", A, "no name"),
        ("nobody.shop.svc.cluster.local", A, "no name"),
        ("db.shop.svc.cluster.local", A, "10.64.0.2, 10.64.0.3"),
        ("db-0.db.shop.svc.cluster.local", A, "10.64.0.2"),
        ("10-64-0-3.db.shop.svc.cluster.local", A, "10.64.0.3"),
        ("10-64-0-4.db.shop.svc.cluster.local", A, "no name"),
        ("x.web.shop.svc.cluster.local", A, "no name"),
        ("idle.shop.svc.cluster.local", A, "no name"),
        ("away.shop.svc.cluster.local", A, "alias www.example.com."),
        ("10-64-0-77.shop.pod.cluster.local", A, "10.64.0.77"),
        ("10-64-0.shop.pod.cluster.local", A, "no name"),
        ("shop.svc.cluster.local", A, "no data"),
        ("other.svc.cluster.local", A, "no name"),
        ("svc.cluster.local", A, "no data"),
        ("cluster.local", A, "no data"),
        (
            "cluster.local",
            SOA,
            "ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5",
        ),
        ("cluster.local", NS, "ns.dns.cluster.local."),
        ("ns.dns.cluster.local", A, "10.43.0.10"),
        ("dns-version.cluster.local", TXT, "1.1.0"),
        (
            "_http._tcp.web.shop.svc.cluster.local",
            SRV,
            "100 80 web.shop.svc.cluster.local.",
        ),
        ("_http._udp.web.shop.svc.cluster.local", SRV, "no name"),
        ("_http._tcp.web.shop.svc.cluster.local", A, "no data"),
        ("http.tcp.web.shop.svc.cluster.local", SRV, "no name"),
        (
            "_sql._tcp.db.shop.svc.cluster.local",
            SRV,
            "50 5432 db-0.db.shop.svc.cluster.local., 50 5432 10-64-0-3.db.shop.svc.cluster.local.",
        ),
        ("_tcp.web.shop.svc.cluster.local", A, "no data"),
        ("example.com", A, "foreign"),
        ("notcluster.local", A, "foreign"),
    ];
    for (name, kind, answer) in expected {
        assert_eq!(ask(name, kind), answer, "{kind} {name}");
    }
}

#[test]
fn addresses_have_names_too() {
    let expected = [
        ("7.0.43.10.in-addr.arpa", "web.shop.svc.cluster.local."),
        ("8.0.43.10.in-addr.arpa", "no name"),
        ("10.0.43.10.in-addr.arpa", "ns.dns.cluster.local."),
        ("2.0.64.10.in-addr.arpa", "db-0.db.shop.svc.cluster.local."),
        ("9.0.64.10.in-addr.arpa", "no name"),
        ("1.2.0.192.in-addr.arpa", "foreign"),
        ("43.10.in-addr.arpa", "foreign"),
    ];
    for (name, answer) in expected {
        assert_eq!(ask(name, RecordType::PTR), answer, "{name}");
    }
}

#[test]
fn the_order_in_which_names_are_tried() {
    let search = search_domains("shop", "cluster.local");
    assert_eq!(
        candidates("web", &search, NDOTS),
        [
            "web.shop.svc.cluster.local.",
            "web.svc.cluster.local.",
            "web.cluster.local.",
            "web."
        ]
    );
    assert_eq!(candidates("a.b.c.d.e.f", &search, NDOTS)[0], "a.b.c.d.e.f.");
    assert_eq!(candidates("web.", &search, NDOTS), ["web."]);
    assert_eq!(candidates("a.b", &[], 1), ["a.b."]);
}

/// A catalog of the world above and the tasks that keep it.
fn catalog() -> (Catalog, Tasks) {
    let tasks = Tasks::new();
    let (services, slices) = world();
    (
        Catalog::over(Cache::fixed(services), Cache::fixed(slices), &tasks),
        tasks,
    )
}

#[tokio::test]
async fn guests_resolve_in_process() {
    let (catalog, _tasks) = catalog();
    let dns = Dns::resolver(&catalog, &fixtures::config("/nonexistent".as_ref()));
    let resolve = async |name: &str| match dns.resolve(name, "shop").await {
        Ok(ips) => ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "),
        Err(error) => error.to_string(),
    };
    assert_eq!(resolve("web").await, "10.43.0.7");
    assert_eq!(resolve("web.shop.svc").await, "10.43.0.7");
    assert_eq!(resolve("web.shop.svc.cluster.local").await, "10.43.0.7");
    assert_eq!(resolve("alias").await, "10.43.0.7");
    assert_eq!(resolve("10.1.2.3").await, "10.1.2.3");
    assert_eq!(resolve("localhost").await, "127.0.0.1");
    assert_eq!(
        resolve("nobody.shop.svc.cluster.local.").await,
        "no such name: nobody.shop.svc.cluster.local."
    );
    assert_eq!(
        resolve("example.com").await,
        "no name server answered for example.com"
    );
    assert_eq!(resolve("").await, "not a domain name: ");
    assert_eq!(
        resolve(&"x".repeat(300)).await.len(),
        "not a domain name: ".len() + 300
    );
}

/// A server on loopback, without an upstream.
async fn served() -> (SocketAddr, Tasks) {
    let (catalog, tasks) = catalog();
    let dir = tempfile::tempdir().unwrap();
    let dns = Dns::resolver(&catalog, &fixtures::config(dir.path()));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let mut server = server::listen(address, dns.lookup).await.unwrap();
    tasks.spawn(
        "dns",
        OnError::Log,
        async move { server.block_until_done().await },
    );
    (address, tasks)
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = 4711;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn by_udp(server: SocketAddr, bytes: &[u8]) -> Message {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(bytes, server).await.unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).await.unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

#[tokio::test]
async fn pods_ask_over_udp_and_tcp() {
    let (address, _tasks) = served().await;
    let bytes = question("Web.shop.svc.cluster.local.", RecordType::A)
        .to_vec()
        .unwrap();
    let answer = by_udp(address, &bytes).await;
    assert_eq!(answer.metadata.id, 4711);
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
    assert_eq!(answer.answers.iter().map(say).collect::<Vec<_>>(), ["10.43.0.7"]);

    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream
        .write_all(&[&(bytes.len() as u16).to_be_bytes(), &bytes[..]].concat())
        .await
        .unwrap();
    let mut over_tcp = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut over_tcp).await.unwrap();
    assert_eq!(Message::from_vec(&over_tcp).unwrap().answers, answer.answers);

    let nothing = question("nobody.shop.svc.cluster.local.", RecordType::A)
        .to_vec()
        .unwrap();
    let answer = by_udp(address, &nothing).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(answer.authorities.len(), 1);
    // No upstream: an answer, and at once.
    let foreign = question("www.example.com.", RecordType::A).to_vec().unwrap();
    assert_eq!(
        by_udp(address, &foreign).await.metadata.response_code,
        ResponseCode::ServFail
    );
}

#[test]
fn both_families_have_names() {
    use RecordType::{A, AAAA, PTR};
    let mut config = fixtures::config("/data".as_ref());
    config.service_cidr = "10.43.0.0/16,fd43::/112".parse().unwrap();
    config.pod_cidr = "10.64.0.0/10,fd64::/64".parse().unwrap();
    let mut index = Index::default();
    let mut web = fixtures::service("shop", "web", "10.43.0.7", &[("http", 80)]);
    web.spec.as_mut().unwrap().cluster_ips = Some(vec!["10.43.0.7".into(), "fd43::7".into()]);
    index.apply_service(&Arc::new(web));
    index.apply_service(&Arc::new(fixtures::service(
        "shop",
        "db",
        "None",
        &[("sql", 5432)],
    )));
    let mut six = fixtures::slice("shop", "db", "db-6", &["fd64::2"], &[("sql", 5432)]);
    six.address_type = "IPv6".into();
    index.apply_slice(&Arc::new(six));
    let zone = Zone::new(&config);
    let ask = |name: &str, kind| match zone.answer(&index, &zone::parse(name).unwrap(), kind) {
        Answer::Records(records, _) => records.iter().map(say).collect::<Vec<_>>().join(", "),
        Answer::NoData(_) => "no data".into(),
        other => format!("{other:?}"),
    };
    let reverse = |ip: &str| {
        let ip: std::net::Ipv6Addr = ip.parse().unwrap();
        let digits = format!("{:032x}", u128::from(ip));
        let labels: Vec<String> = digits.chars().rev().map(String::from).collect();
        format!("{}.ip6.arpa", labels.join("."))
    };
    let dashed = "fd64-0-0-0-0-0-0-2.db.shop.svc.cluster.local";
    let expected = [
        ("web.shop.svc.cluster.local".to_string(), AAAA, "fd43::7"),
        ("web.shop.svc.cluster.local".to_string(), A, "10.43.0.7"),
        ("db.shop.svc.cluster.local".to_string(), AAAA, "fd64::2"),
        ("db.shop.svc.cluster.local".to_string(), A, "no data"),
        ("ns.dns.cluster.local".to_string(), AAAA, "fd43::a"),
        (dashed.to_string(), AAAA, "fd64::2"),
        ("fd64--2.shop.pod.cluster.local".to_string(), AAAA, "fd64::2"),
        (reverse("fd43::7"), PTR, "web.shop.svc.cluster.local."),
        (
            reverse("fd64::2"),
            PTR,
            "fd64-0-0-0-0-0-0-2.db.shop.svc.cluster.local.",
        ),
    ];
    for (name, kind, answer) in expected {
        assert_eq!(ask(&name, kind), answer, "{kind} {name}");
    }
}
