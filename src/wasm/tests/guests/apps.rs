//! Several `wasi:http` programs behind one address.

use crate::support::*;
use coracle_wasm::{AllowedHosts, AppPart, Host, Instance, Mount};
use std::net::SocketAddr;

async fn part(host: &Host, name: &str, routes: &[&str], allowed: &[&str]) -> AppPart {
    let mut spec = spec(&[]).spec;
    spec.http_address = Some("127.0.0.1:0".parse().unwrap());
    spec.env = vec![("POD_NAME".into(), name.into()), ("COLOUR".into(), name.into())];
    spec.allowed_hosts = Some(AllowedHosts::parse(allowed.iter().copied()).unwrap());
    AppPart {
        program: compile(host, "hello-http.wasm").await,
        routes: routes.iter().map(|route| (*route).to_owned()).collect(),
        spec,
    }
}

async fn start(host: &Host, parts: Vec<AppPart>) -> (Instance, SocketAddr) {
    let instance = host.start_app(parts).await.unwrap();
    let address = instance.http_address().unwrap();
    (instance, address)
}

#[tokio::test]
async fn routes_lead_to_programs_with_their_own_environment_and_files() {
    let host = host();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("page.txt"), "static").unwrap();
    let mut files = part(&host, "files", &["/file"], &[]).await;
    files.spec.mounts = vec![Mount {
        host: dir.path().into(),
        inside: Default::default(),
        guest: "/".into(),
        read_only: true,
    }];
    let parts = vec![
        part(&host, "all", &["/env/..."], &[]).await,
        part(&host, "one", &["/env/COLOUR", "/hello"], &[]).await,
        files,
    ];
    let (instance, address) = start(&host, parts).await;
    assert_eq!(get(address, "/env/COLOUR").await, (200, "one".into()));
    assert_eq!(get(address, "/env/POD_NAME").await, (200, "all".into()));
    assert_eq!(
        get(address, "/hello").await,
        (200, "hello from one: /hello\n".into())
    );
    assert_eq!(get(address, "/file?path=/page.txt").await, (200, "static".into()));
    let (status, text) = get(address, "/nowhere").await;
    assert_eq!((status, text.contains("no route")), (404, true), "{text}");
    assert_eq!(
        instance.usage().requests,
        4,
        "all programs count into one account"
    );
    instance.stop(std::time::Duration::from_secs(5));
    assert_eq!(wait(&instance).await.code, 0);
}

#[tokio::test]
async fn a_program_reaches_the_hosts_it_may_and_no_other() {
    let host = host();
    let (_target, target) = start(&host, vec![part(&host, "target", &["/..."], &[]).await]).await;
    let allowed = format!("http://127.0.0.1:{}", target.port());
    let (_free, free) = start(&host, vec![part(&host, "free", &["/..."], &[&allowed]).await]).await;
    let fetch = format!("/fetch?url=http://{target}/env/COLOUR");
    assert_eq!(get(free, &fetch).await, (200, "HTTP 200\n\ntarget".into()));
    let other = part(&host, "bound", &["/fetch"], &["https://example.com"]).await;
    let (_bound, bound) = start(&host, vec![other]).await;
    let (status, text) = get(bound, &fetch).await;
    assert_ne!(status, 200, "{text}");
    assert!(text.to_lowercase().contains("denied"), "{text}");
}

#[tokio::test]
async fn spins_own_interfaces_are_refused_by_name() {
    let text = r#"(component
        (import "fermyon:spin/key-value@2.0.0" (instance (export "open" (func))))
        (core module $code (func (export "handle")))
        (core instance $made (instantiate $code))
        (func $handle (canon lift (core func $made "handle")))
        (instance $handler (export "handle" (func $handle)))
        (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#;
    let host = host();
    let compiled = host.compile(&digest(text.as_bytes()), text.into()).await;
    let error = compiled.unwrap_err().to_string();
    for words in ["fermyon:spin/key-value@2.0.0", "not offered here"] {
        assert!(error.contains(words), "{error}");
    }
}
