//! The API's proxies, to a program that no pod runs: Endpoints that were written by hand lead to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use serde_json::json;

use crate::support::cluster::curl;
use crate::support::extension::Extension;
use crate::support::rest::As;
use crate::support::running::Running;
use crate::support::sandbox::NODE_IP;
use crate::support::{Cluster, assert_has, eventually, sandboxed};

const PORT: u16 = 8099;
const PROXY: &str = "/api/v1/namespaces/default/services/old:web/proxy";
const PAGE: &str =
    "<html><a href=\"/next?a=1\">next</a> <img src='pic.png'><script>'<a href=\"/no\">'</script></html>";

#[test]
fn endpoints_written_by_hand_are_mirrored_and_proxied_to() {
    sandboxed(|dir| {
        let cluster = Cluster::start_as("server", dir.join("data"), &[]);
        std::thread::spawn(serve);
        cluster.apply(&service(
            "old",
            &json!({"name": "web", "port": 80, "targetPort": PORT}),
        ));
        cluster.apply(&endpoints("old", &json!({"name": "web", "port": PORT})));
        slices_follow(&cluster);
        every_verb_goes_through(&cluster);
        redirects_and_links_come_back(&cluster);
        cluster.echoes(&format!("{PROXY}/echo"));
        what_is_no_target_is_refused(&cluster);
        tls_is_spoken_if_asked_for(&cluster, dir);
        kubectl_proxies_too(&cluster);
        cluster.ok(&["delete", "endpoints", "old"]);
        eventually("the end of the mirrored slice", || {
            match mirrored(&cluster)?.as_str() {
                "" => Ok(()),
                left => Err(left.to_owned()),
            }
        });
    });
}

/// A Service without a selector.
pub fn service(name: &str, port: &serde_json::Value) -> String {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [port]}})
        .to_string()
}

/// Endpoints for it that lead to the sandbox.
pub fn endpoints(name: &str, port: &serde_json::Value) -> String {
    json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name, "labels": {"by": "hand"}},
        "subsets": [{"addresses": [{"ip": NODE_IP}], "ports": [port]}]})
    .to_string()
}

/// Addresses and labels of the slices that mirror `old`.
fn mirrored(cluster: &Cluster) -> Result<String, String> {
    let slices = "kubernetes.io/service-name=old,\
                  endpointslice.kubernetes.io/managed-by=endpointslicemirroring-controller.k8s.io";
    let path = "{range .items[*]}{.endpoints[*].addresses[0]} {.metadata.labels.by}\n{end}";
    cluster.try_ok(&[
        "get",
        "endpointslices",
        "-l",
        slices,
        "-o",
        &format!("jsonpath={path}"),
    ])
}

fn slices_follow(cluster: &Cluster) {
    let becomes = |wanted: &str| {
        eventually("the mirrored slice", || match mirrored(cluster)? {
            found if found.trim() == wanted => Ok(()),
            found => Err(found),
        });
    };
    becomes(&format!("{NODE_IP} hand"));
    cluster.ok(&["label", "endpoints", "old", "by=foot", "--overwrite"]);
    becomes(&format!("{NODE_IP} foot"));
    cluster.ok(&[
        "label",
        "endpoints",
        "old",
        "endpointslice.kubernetes.io/skip-mirror=true",
    ]);
    becomes("");
    cluster.ok(&[
        "label",
        "endpoints",
        "old",
        "endpointslice.kubernetes.io/skip-mirror-",
    ]);
    becomes(&format!("{NODE_IP} foot"));
}

fn every_verb_goes_through(cluster: &Cluster) {
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let body = if method == "GET" { "" } else { "some words" };
        let kind = if body.is_empty() { "" } else { "text/plain" };
        let answer = cluster.call(&As::Admin, method, &format!("{PROXY}/a%20b/c?d=e"), kind, body);
        assert_eq!(answer.code, 200, "{method}: {}", answer.body);
        let seen = &answer.body;
        assert_eq!(seen["line"], format!("{method} /a%20b/c?d=e HTTP/1.1"));
        assert_eq!(seen["body"], body);
        let head = seen["head"].as_str().unwrap();
        assert_has(
            head,
            &[
                &format!("x-forwarded-uri: {PROXY}/a%20b/c"),
                "host: 127.0.0.1:6443",
            ],
        );
        assert!(!head.contains("authorization"), "{head}");
    }
}

/// Head and body of an answer.
fn whole(cluster: &Cluster, path: &str) -> String {
    cluster.curled(&["-i", "--http1.1", "--compressed"], path)
}

fn redirects_and_links_come_back(cluster: &Cluster) {
    let there = format!("location: {PROXY}/");
    assert_has(&whole(cluster, PROXY), &["301 Moved Permanently", &there]);
    let led = format!("location: {PROXY}/page");
    let moved = whole(cluster, &format!("{PROXY}/moved"));
    assert_has(&moved, &["302 ", &led]);
    assert!(
        !moved.to_lowercase().contains("access-control-allow-origin"),
        "{moved}"
    );
    assert_has(
        &whole(cluster, &format!("{PROXY}/away")),
        &["location: http://192.0.2.99/page"],
    );
    let page = PAGE.replace("\"/next", &format!("\"{PROXY}/next"));
    assert_has(&whole(cluster, &format!("{PROXY}/page")), &[&page]);
}

fn what_is_no_target_is_refused(cluster: &Cluster) {
    let services = "/api/v1/namespaces/default/services";
    let get = |path: &str| cluster.call(&As::Admin, "GET", &format!("{services}/{path}"), "", "");
    get("ftp:old:web/proxy/").is(400, "BadRequest", &["invalid service request \"ftp:old:web\""]);
    get("none/proxy/").is(404, "NotFound", &["services \"none\" not found"]);
    get("old:nothing/proxy/").is(
        503,
        "ServiceUnavailable",
        &["no service port \"nothing\" found for service \"old\""],
    );
}

fn tls_is_spoken_if_asked_for(cluster: &Cluster, dir: &std::path::Path) {
    let _extension = Extension::start(dir, cluster);
    cluster.apply(&crate::support::extension::service());
    cluster.apply(&crate::support::extension::slice());
    let through = "/api/v1/namespaces/default/services/https:boats:443/proxy/";
    eventually("TLS through the proxy", || {
        // It knows only servers, and so says no, but it could be talked to.
        let answer = cluster.call(&As::Admin, "GET", through, "", "");
        match (answer.code, answer.message()) {
            (401, "who are you?") => Ok(()),
            _ => Err(format!("{answer:?}")),
        }
    });
}

/// `kubectl proxy` lends its holder's rights to whoever reaches it, for all sorts of requests.
fn kubectl_proxies_too(cluster: &Cluster) {
    let mut proxy = cluster.kubectl(&["proxy", "--port=0", "--reject-paths=^/api/v1/secrets"]);
    let mut proxy = Running(proxy.stdout(Stdio::piped()).spawn().expect("kubectl"));
    let mut line = String::new();
    let mut said = BufReader::new(proxy.0.stdout.take().expect("stdout"));
    said.read_line(&mut line).expect("a line");
    let address = line
        .trim()
        .strip_prefix("Starting to serve on ")
        .expect("an address");
    let asked = |args: &[&str], path: &str| {
        curl(&[args, &["--max-time", "20", &format!("http://{address}{path}")]].concat())
    };
    assert_has(&asked(&[], "/version").unwrap(), &["gitVersion"]);
    let map = r#"{"metadata":{"name":"by-proxy"},"data":{"a":"1"}}"#;
    let post = ["-H", "Content-Type: application/json", "--data-binary", map];
    let maps = "/api/v1/namespaces/default/configmaps";
    assert_has(&asked(&post, maps).unwrap(), &["\"by-proxy\""]);
    assert_eq!(cluster.field("configmap/by-proxy", "{.data.a}").unwrap(), "1");
    let watched = asked(
        &[],
        &format!("{maps}?watch=true&timeoutSeconds=1&fieldSelector=metadata.name=by-proxy"),
    );
    assert_has(&watched.unwrap(), &["\"type\":\"ADDED\"", "\"by-proxy\""]);
    assert_has(&asked(&[], &format!("{PROXY}/page")).unwrap(), &["<img src="]);
    assert_has(&asked(&[], "/api/v1/secrets").unwrap_err(), &["403"]);
}

/// A server of HTTP/1.1 that says what it was asked, or a page, or leads elsewhere.
fn serve() {
    let listener = TcpListener::bind((NODE_IP, PORT)).expect("the sandbox's address");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || answer(stream));
    }
}

fn answer(stream: TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut lines: Vec<String> = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let head = lines[1..].join("\n").to_lowercase();
    let length = lines.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let path = lines[0].split(' ').nth(1).unwrap_or_default();
    if path == "/echo" {
        return echo(reader);
    }
    let (status, headers, text) = match path {
        "/page" => (
            "200 OK",
            "Content-Type: text/html; charset=utf-8\r\n",
            PAGE.to_owned(),
        ),
        "/moved" => {
            let headers = "Location: /page\r\nAccess-Control-Allow-Origin: *\r\n";
            ("302 Found", headers, String::new())
        }
        "/away" => ("302 Found", "Location: http://192.0.2.99/page\r\n", String::new()),
        _ => {
            let body = String::from_utf8_lossy(&body).into_owned();
            let seen = json!({"line": lines[0], "head": head, "body": body}).to_string();
            ("200 OK", "Content-Type: application/json\r\n", seen)
        }
    };
    let whole = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    // Whoever asked may be gone.
    let _ = reader.get_mut().write_all(whole.as_bytes());
}

/// Changes to a protocol in which every byte comes back.
fn echo(mut stream: BufReader<TcpStream>) {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    let mut byte = [0];
    let mut written = stream.get_mut().write_all(head.as_bytes());
    while written.is_ok() && stream.read_exact(&mut byte).is_ok() {
        written = stream.get_mut().write_all(&byte);
    }
}
