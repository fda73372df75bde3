//! Processors that containers have for themselves (`cpu-manager-policy: static`).

use crate::support::manifests::{BUSYBOX, IDLE};
use crate::support::{Cluster, assert_has, eventually, sandboxed};

fn pod(name: &str, resources: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers: [{{name: main, image: \"{BUSYBOX}\", \
         command: [sh, -c, {IDLE:?}], resources: {resources}}}]\n"
    )
}

/// The processors on which a pod's first process may run.
fn allowed(cluster: &Cluster, pod: &str) -> Result<String, String> {
    let said = cluster.exec(
        pod,
        &["sed", "-n", "s/Cpus_allowed_list:\\t//p", "/proc/1/status"],
    )?;
    Ok(said.trim().to_owned())
}

fn runs_on(cluster: &Cluster, pod: &str, cpus: &str) {
    eventually(&format!("{pod} on {cpus}"), || match allowed(cluster, pod)? {
        found if found == cpus => Ok(()),
        found => Err(found),
    });
}

#[test]
fn who_asks_for_whole_ones_has_them_alone() {
    sandboxed(|dir| {
        let number = std::thread::available_parallelism().unwrap().get();
        assert!(number >= 2, "one processor cannot be divided");
        let range = |first: usize| match first + 1 == number {
            true => format!("{first}"),
            false => format!("{first}-{}", number - 1),
        };
        let mut cluster = Cluster::stocked(dir, &["--cpu-manager-policy", "static", "--reserved-cpus", "0"]);
        let node = cluster.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
        cluster.until(
            &format!("node/{node}"),
            "{.status.allocatable.cpu}",
            &(number - 1).to_string(),
        );
        cluster.apply(&pod("shares", "{}"));
        cluster.pod_ready("shares");
        runs_on(&cluster, "shares", &range(0));

        let whole = "{limits: {cpu: \"1\", memory: 32Mi}}";
        cluster.apply(&pod("alone", whole));
        cluster.pod_ready("alone");
        runs_on(&cluster, "alone", "1");
        let rest = match number {
            2 => "0".to_owned(),
            _ => format!("0,{}", range(2)),
        };
        runs_on(&cluster, "shares", &rest);
        // Parts of one are shared.
        cluster.apply(
            &pod("part", "{limits: {cpu: 10m, memory: 32Mi}}")
                .replace("spec:", &format!("spec:\n  nodeName: {node}")),
        );
        cluster.pod_ready("part");
        runs_on(&cluster, "part", &rest);
        // Too many: the node says so itself where the scheduler was not asked.
        let many = format!("{{limits: {{cpu: \"{number}\", memory: 32Mi}}}}");
        cluster.apply(&pod("many", &many).replace("spec:", &format!("spec:\n  nodeName: {node}")));
        cluster.until("pod/many", "{.status.phase}", "Failed");
        let why = cluster
            .field("pod/many", "{.status.reason}: {.status.message}")
            .unwrap();
        let text = format!(
            "requested={number}, available={}, which is unexpected",
            number - 2
        );
        assert_has(
            &why,
            &[
                "UnexpectedAdmissionError: ",
                "not enough cpus available to satisfy request",
                &text,
            ],
        );

        // Another agent finds everybody where they were.
        cluster.stop();
        cluster.restart();
        cluster.ready();
        runs_on(&cluster, "alone", "1");
        runs_on(&cluster, "shares", &rest);
        cluster.ok(&["delete", "pod", "alone", "--timeout=60s"]);
        runs_on(&cluster, "shares", &range(0));
        cluster.ok(&["delete", "pods", "--all", "--timeout=60s"]);
    });
}
