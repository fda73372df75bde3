//! What Services may ask for: the same pod again, a pod here, ports by name,
//! names of their own, and ports of the node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::support::manifests::{BUSYBOX, idle_pod, oci_web, service, wasm_web};
use crate::support::sandbox::NODE_IP;
use crate::support::udp::{self, Client};
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

fn patch(cluster: &Cluster, service: &str, spec: &str) {
    cluster.ok(&[
        "patch",
        "service",
        service,
        "-p",
        &format!(r#"{{"spec":{spec}}}"#),
    ]);
}

/// Who answered these many times.
fn answers(count: usize, ask: impl Fn() -> Result<String, String>) -> BTreeSet<String> {
    (0..count)
        .map(|_| ask().expect("an answer").trim().to_owned())
        .collect()
}

#[test]
fn a_client_stays_with_its_pod() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&oci_web("web", 3));
        cluster.apply(&wasm_web("client", 1, false));
        cluster.deployed("web", 3);
        cluster.deployed("client", 1);
        let url = format!("http://{}/", cluster.cluster_ip("web"));
        let client = cluster.pods("app=client").pop_first().unwrap();
        let guest = cluster.pod_ip(&client);
        patch(&cluster, "web", r#"{"sessionAffinity":"ClientIP"}"#);
        let seconds = "{.spec.sessionAffinityConfig.clientIP.timeoutSeconds}";
        assert_eq!(cluster.field("service/web", seconds).unwrap(), "10800");
        eventually("one pod for the host", || {
            match answers(20, || cluster.curl(&url)) {
                one if one.len() == 1 => Ok(()),
                more => Err(format!("{more:?}")),
            }
        });
        assert_eq!(answers(20, || cluster.fetch(&guest, &url)).len(), 1, "a guest");
        // The pod goes: another one answers, and stays.
        let mine = cluster.curl(&url).unwrap();
        let pod = mine.trim().rsplit(' ').next().unwrap().to_owned();
        cluster.ok(&["delete", "pod", &pod, "--grace-period=0", "--force"]);
        let next = eventually("another pod", || match cluster.curl(&url)? {
            same if same == mine => Err(same),
            other => Ok(other),
        });
        assert_eq!(
            answers(20, || cluster.curl(&url)),
            [next.trim().to_owned()].into()
        );
        patch(
            &cluster,
            "web",
            r#"{"sessionAffinity":"None","sessionAffinityConfig":null}"#,
        );
        cluster.deployed("web", 3);
        eventually("all pods again", || match answers(40, || cluster.curl(&url)) {
            all if all.len() == 3 => Ok(()),
            some => Err(format!("{some:?}")),
        });
    });
}

/// A web server on `port`, which it calls `http`.
fn named(name: &str, port: u16) -> String {
    format!(
        r#"
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: named}}}}
spec:
  hostname: {name}
  subdomain: group
  containers:
  - name: web
    image: {BUSYBOX}
    command: [sh, -c, "mkdir -p /www && echo {name} > /www/index.html && exec httpd -f -p {port} -h /www"]
    ports: [{{name: http, containerPort: {port}}}]
"#
    )
}

#[test]
fn ports_and_pods_have_names() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&format!("{}{}", named("one", 8081), named("two", 8082)));
        cluster.apply(&idle_pod("client"));
        cluster.apply(
            r#"
apiVersion: v1
kind: Service
metadata: {name: front}
spec:
  selector: {app: named}
  ports:
  - {name: web, port: 80, targetPort: http}
  - {name: fixed, port: 81, targetPort: 8082}
---
apiVersion: v1
kind: Service
metadata: {name: group}
spec:
  clusterIP: None
  selector: {app: named}
  ports: [{name: web, port: 80, targetPort: http}]
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: front.default.svc.cluster.local}
"#,
        );
        for pod in ["one", "two", "client"] {
            cluster.pod_ready(pod);
        }
        // One name, another number in each pod.
        let url = format!("http://{}/", cluster.cluster_ip("front"));
        eventually("both by the named port", || {
            let both = answers(20, || cluster.curl(&url));
            if both.len() == 2 {
                Ok(())
            } else {
                Err(format!("{both:?}"))
            }
        });
        let fixed = format!("http://{}:81/", cluster.cluster_ip("front"));
        eventually("the fixed port", || has(&cluster.curl(&fixed)?, &["two"]));
        let lookup =
            |kind: &str, name: &str| cluster.exec("client", &["nslookup", &format!("-type={kind}"), name]);
        let found = |kind: &str, name: &str, words: &[&str]| {
            eventually(name, || has(&lookup(kind, name)?, words));
        };
        let (one, two) = (cluster.pod_ip("one"), cluster.pod_ip("two"));
        found("a", "group.default.svc.cluster.local", &[&one, &two]);
        found("a", "one.group.default.svc.cluster.local", &[&one]);
        found(
            "srv",
            "_web._tcp.group.default.svc.cluster.local",
            &[
                "8081 one.group.default.svc.cluster.local",
                "8082 two.group.default.svc.cluster.local",
            ],
        );
        found(
            "cname",
            "elsewhere.default.svc.cluster.local",
            &["front.default.svc.cluster.local"],
        );
        let wget = || cluster.wget("client", "http://elsewhere/");
        eventually("an answer by the alias", wget);
    });
}

#[test]
fn unready_pods_are_published_on_demand() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&wasm_web("web", 1, true));
        let url = format!("http://{}/", cluster.cluster_ip("web"));
        let pod = eventually("a pod", || {
            cluster.pods("app=web").pop_first().ok_or("none".to_owned())
        });
        cluster.until(&format!("pod/{pod}"), "{.status.phase}", "Running");
        assert_has(&cluster.curl(&url).unwrap_err(), &["curl: (7)"]);
        // A guest hears it at once as well.
        cluster.ok(&["run", "guest", "--image=local/hello-http:1"]);
        cluster.pod_ready("guest");
        let guest = cluster.pod_ip("guest");
        let fetch = format!(
            "http://{guest}:8080/fetch?url={}",
            url.replace(':', "%3A").replace('/', "%2F")
        );
        // Without `-f`: the answer of the guest says how it fared.
        let out = std::process::Command::new("curl")
            .args(["-sS", "--max-time", "5", &fetch])
            .output();
        let said = String::from_utf8_lossy(&out.expect("curl").stdout).to_lowercase();
        assert_has(&said, &["refused"]);
        patch(&cluster, "web", r#"{"publishNotReadyAddresses":true}"#);
        eventually("an answer of an unready pod", || cluster.curl(&url));
    });
}

#[test]
fn a_pod_meets_itself_behind_its_service() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        for (name, manifest) in [("oci", oci_web("oci", 1)), ("wasm", wasm_web("wasm", 1, false))] {
            cluster.apply(&manifest);
            cluster.deployed(name, 1);
            let pod = cluster.pods(&format!("app={name}")).pop_first().unwrap();
            let url = format!("http://{}/", cluster.cluster_ip(name));
            let said = eventually("its own answer", || match name {
                "oci" => cluster.wget(&pod, &url),
                _ => cluster.fetch(&cluster.pod_ip(&pod), &url),
            });
            assert_has(&said, &[&pod]);
        }
    });
}

#[test]
fn node_ports_policies_and_health_checks() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&oci_web("web", 1));
        cluster.deployed("web", 1);
        patch(
            &cluster,
            "web",
            r#"{"type":"LoadBalancer","externalTrafficPolicy":"Local","externalIPs":["203.0.113.77"]}"#,
        );
        let field = |path: &str| cluster.field("service/web", path).unwrap();
        let port = field("{.spec.ports[0].nodePort}");
        eventually("the node port", || {
            cluster.curl(&format!("http://{NODE_IP}:{port}/"))
        });
        cluster
            .curl("http://203.0.113.77/")
            .expect("the external address");
        let health = field("{.spec.healthCheckNodePort}");
        let check = || {
            let url = format!("http://{NODE_IP}:{health}/");
            let out = std::process::Command::new("curl")
                .args(["-sS", "-i", "--max-time", "5", &url])
                .output();
            String::from_utf8(out.expect("curl").stdout).map_err(|e| e.to_string())
        };
        let healthy = [
            "HTTP/1.1 200 OK",
            "X-Load-Balancing-Endpoint-Weight: 1",
            r#""localEndpoints":1"#,
            r#""serviceProxyHealthy":true"#,
        ];
        eventually("a healthy node", || has(&check()?, &healthy));
        cluster.ok(&["scale", "deployment", "web", "--replicas=0"]);
        let unhealthy = ["HTTP/1.1 503", r#""localEndpoints":0"#, r#""name":"web""#];
        eventually("a node without pods", || has(&check()?, &unhealthy));
        eventually("a refusal at the node port", || {
            let said = cluster.curl(&format!("http://{NODE_IP}:{port}/"));
            has(&said.err().unwrap_or_default(), &["curl: (7)"])
        });
        patch(
            &cluster,
            "web",
            r#"{"type":"ClusterIP","externalTrafficPolicy":null,"externalIPs":null}"#,
        );
        eventually("no health check any more", || {
            if check()?.is_empty() {
                Ok(())
            } else {
                Err("it still answers".to_owned())
            }
        });
    });
}

#[test]
fn udp_finds_its_server_and_leaves_it() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let node: IpAddr = NODE_IP.parse().expect("an address");
        let (first, second) = (udp::server(node, b"first"), udp::server(node, b"second"));
        cluster.apply(&udp::echo_service(false));
        cluster.apply(&udp::echo_slice(node, first));
        let node_port = cluster
            .field("service/echo", "{.spec.ports[0].nodePort}")
            .unwrap();
        for to in [
            format!("{}:7", cluster.cluster_ip("echo")),
            format!("{NODE_IP}:{node_port}"),
        ] {
            cluster.apply(&udp::echo_slice(node, first));
            let client = Client::new(node, to.parse().expect("an address"));
            client.told("first");
            cluster.apply(&udp::echo_slice(node, second));
            client.told("second");
        }
    });
}

#[test]
fn a_port_of_the_node_leads_to_its_pod() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let pod = |name: &str, image: &str, command: &str, port: &str| {
            format!(
                r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  containers:
  - name: web
    image: {image}
    {command}
    ports: [{{containerPort: 8080, {port}}}]
"#
            )
        };
        let serve = r#"command: [sh, -c, "mkdir -p /www && echo hello from oci > /www/index.html && exec httpd -f -p 8080 -h /www"]"#;
        cluster.apply(&pod("oci", BUSYBOX, serve, "hostPort: 8001"));
        cluster.apply(&pod(
            "wasm",
            "local/hello-http:1",
            "",
            &format!("hostPort: 8002, hostIP: {NODE_IP}"),
        ));
        for (name, port) in [("oci", 8001), ("wasm", 8002)] {
            cluster.pod_ready(name);
            let url = format!("http://{NODE_IP}:{port}/");
            eventually("an answer at the node's port", || {
                has(&cluster.curl(&url)?, &[&format!("hello from {name}")])
            });
        }
        // Across a restart of the node's process, and until the pod goes.
        let mut cluster = cluster;
        cluster.kill();
        cluster.restart();
        for (name, port) in [("oci", 8001), ("wasm", 8002)] {
            let url = format!("http://{NODE_IP}:{port}/");
            eventually("an answer after a restart", || cluster.curl(&url));
            cluster.ok(&["delete", "pod", name]);
            eventually("a free port", || match cluster.curl(&url) {
                Err(why) => has(&why, &["curl: (7)"]),
                Ok(said) => Err(said),
            });
        }
    });
}

#[test]
fn services_of_both_families_get_an_address_of_each() {
    sandboxed(|dir| {
        let ranges = [
            "--pod-cidr",
            "10.64.0.0/10,fd64::/64",
            "--service-cidr",
            "10.43.0.0/16,fd43::/112",
        ];
        let cluster = Cluster::stocked(dir, &ranges);
        let make = |name: &str, more: &str| {
            cluster.apply(&service(name).replace("spec:", &format!("spec:\n  {more}")));
        };
        make("plain", "type: ClusterIP");
        make("six", "ipFamilies: [IPv6]");
        make("both", "ipFamilyPolicy: PreferDualStack");
        let field = |name: &str, path: &str| cluster.field(&format!("service/{name}"), path).unwrap();
        assert_eq!(
            field("plain", "{.spec.ipFamilies} {.spec.ipFamilyPolicy}"),
            r#"["IPv4"] SingleStack"#
        );
        assert!(field("six", "{.spec.clusterIP}").starts_with("fd43::"));
        let ips = field("both", "{.spec.clusterIPs[*]}");
        assert!(ips.starts_with("10.43.") && ips.contains(" fd43::"), "{ips}");
        patch(&cluster, "plain", r#"{"ipFamilyPolicy":"RequireDualStack"}"#);
        assert_eq!(field("plain", "{.spec.ipFamilies}"), r#"["IPv4","IPv6"]"#);
        patch(&cluster, "plain", r#"{"ipFamilyPolicy":"SingleStack"}"#);
        assert_eq!(field("plain", "{.spec.ipFamilies}"), r#"["IPv4"]"#);
        cluster.apply(&idle_pod("client"));
        cluster.pod_ready("client");
        let six = field("six", "{.spec.clusterIP}");
        let lookup = |name: &str| cluster.exec("client", &["nslookup", "-type=aaaa", name]);
        eventually("an AAAA record", || {
            has(&lookup("six.default.svc.cluster.local")?, &[&six])
        });
    });
}
