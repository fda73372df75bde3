//! How much of the machine's huge pages a container may use, as the runtime library is told of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The kernel's folder of sizes.
const SIZES: &str = "/sys/kernel/mm/hugepages";

/// Limits for every size that the machine has: none of those that were not asked for. Where the kernel does not limit
/// them, there is nothing to say.
pub(super) fn limits(asked: &BTreeMap<u64, u64>) -> Vec<Value> {
    if !sys::cgroup::offers("hugetlb") {
        return Vec::new();
    }
    let sizes = std::fs::read_dir(SIZES).into_iter().flatten().flatten();
    let sizes = sizes.filter_map(|size| {
        let name = size.file_name().into_string().ok()?;
        let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
        kib.parse::<u64>().ok()?.checked_mul(1024)
    });
    describe(sizes, asked)
}

fn describe(sizes: impl Iterator<Item = u64>, asked: &BTreeMap<u64, u64>) -> Vec<Value> {
    let limit = |page| json!({"pageSize": name(page), "limit": asked.get(&page).copied().unwrap_or(0)});
    sizes.map(limit).collect()
}

/// A page's size as control groups name it: `2MB`.
fn name(page: u64) -> String {
    let (mut number, mut unit) = (page / 1024, "KB");
    for larger in ["MB", "GB"] {
        if number < 1024 {
            break;
        }
        (number, unit) = (number / 1024, larger);
    }
    format!("{number}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_is_not_to_be_had() {
        let asked = [(2 << 20, 4 << 20)].into();
        assert_eq!(
            describe([64 << 10, 2 << 20, 1 << 30].into_iter(), &asked),
            [
                json!({"pageSize": "64KB", "limit": 0}),
                json!({"pageSize": "2MB", "limit": 4 << 20}),
                json!({"pageSize": "1GB", "limit": 0})
            ]
        );
    }
}
