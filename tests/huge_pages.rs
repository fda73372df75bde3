//! Huge pages: counted by the node, asked for by pods, mounted as volumes.

use crate::support::manifests::{BUSYBOX, IDLE};
use crate::support::{Cluster, assert_has, sandboxed};

/// How many pages of 2 MiB the machine keeps.
const PAGES: &str = "/proc/sys/vm/nr_hugepages";

/// Pages that are kept while this exists, beside those that were.
struct Kept(u64);

impl Kept {
    fn more(pages: u64) -> Kept {
        let before = count();
        std::fs::write(PAGES, (before + pages).to_string()).expect("root may keep pages");
        assert_eq!(
            count(),
            before + pages,
            "the machine has not enough memory in one piece"
        );
        Kept(before)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = std::fs::write(PAGES, self.0.to_string());
    }
}

fn count() -> u64 {
    let text = std::fs::read_to_string(PAGES).expect("a kernel with huge pages");
    text.trim().parse().expect("a number")
}

fn pod(name: &str, huge: &str, medium: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  - {{name: main, image: \
         \"{BUSYBOX}\", command: [sh, -c, {IDLE:?}], resources: {{limits: {{memory: 32Mi, hugepages-2Mi: {huge}}}}}, \
         volumeMounts: [{{name: pages, mountPath: /pages}}]}}\n  volumes: [{{name: pages, emptyDir: {{medium: \
         {medium}}}}}]\n"
    )
}

#[test]
fn huge_pages_are_given_to_who_asks() {
    sandboxed(|dir| {
        let kept = Kept::more(8);
        let all = (kept.0 + 8) * 2;
        let cluster = Cluster::stocked(dir, &[]);
        let node = cluster.ok(&["get", "nodes", "-o", "name"]);
        for list in ["capacity", "allocatable"] {
            let path = format!("{{.status.{list}.hugepages-2Mi}}");
            cluster.until(node.trim(), &path, &format!("{all}Mi"));
        }
        cluster.apply(&pod("huge", "8Mi", "HugePages"));
        cluster.apply(&pod("sized", "4Mi", "HugePages-2Mi"));
        for name in ["huge", "sized"] {
            cluster.pod_ready(name);
            let run = |script: &str| cluster.exec(name, &["sh", "-c", script]).unwrap();
            assert_has(
                &run("grep ' /pages ' /proc/mounts"),
                &["hugetlbfs", "pagesize=2M"],
            );
            // Two pages, taken from those that the machine keeps.
            let free = "sed -n 's/HugePages_Free: *//p' /proc/meminfo";
            let taken = format!("a=$({free}); fallocate -l 4194304 /pages/file; b=$({free}); echo $((a-b))");
            assert_eq!(run(&taken), "2\n");
        }
        // More than are left.
        cluster.apply(&pod("greedy", &format!("{all}Mi"), "HugePages"));
        cluster.event("greedy", "FailedScheduling", &["Insufficient hugepages-2Mi"]);
        // A medium that nobody asked for.
        cluster.apply(&pod("other", "2Mi", "HugePages-1Gi"));
        let text = "medium HugePages-1Gi: hugePages storage requested, but there is no resource request for huge pages";
        cluster.event("other", "FailedMount", &[text]);
        cluster.ok(&["delete", "pods", "--all", "--timeout=60s"]);
        drop(kept);
    });
}
