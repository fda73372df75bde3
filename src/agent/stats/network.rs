//! What went over the network, from the kernel's counters of a namespace.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

/// One interface's counters since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Errors while receiving.
    pub rx_errors: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Errors while sending.
    pub tx_errors: u64,
}

/// The interfaces of the namespace this process lives in.
pub fn here() -> Vec<Interface> {
    read()
}

/// The interfaces of another namespace; none if it is gone.
pub fn inside(namespace: &Path) -> Vec<Interface> {
    let read = sys::netns::open(namespace).and_then(|namespace| sys::netns::with(namespace, read));
    read.unwrap_or_default()
}

fn read() -> Vec<Interface> {
    // Of the thread: it may be visiting another namespace than its process.
    parse(&fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default())
}

/// The table of `net/dev`: two lines of headings, then a name and sixteen numbers each. The loopback
/// interface does not count.
fn parse(table: &str) -> Vec<Interface> {
    let lines = table.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, numbers)| {
            let numbers: Vec<u64> = numbers
                .split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect();
            let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
            Interface {
                name: name.trim().to_owned(),
                rx_bytes: number(0),
                rx_errors: number(2),
                tx_bytes: number(8),
                tx_errors: number(10),
            }
        })
        .filter(|interface| interface.name != "lo")
        .collect()
}

/// The counters as a summary has them: those of `eth0`, or of the first interface, and then all.
pub fn summary(interfaces: &[Interface], at: Timestamp) -> Value {
    let main = interfaces.iter().find(|one| one.name == "eth0");
    let Some(main) = main.or(interfaces.first()) else {
        return Value::Null;
    };
    let counters = |one: &Interface| {
        json!({"name": one.name, "rxBytes": one.rx_bytes, "rxErrors": one.rx_errors,
            "txBytes": one.tx_bytes, "txErrors": one.tx_errors})
    };
    let mut value = counters(main);
    value["time"] = json!(at);
    value["interfaces"] = interfaces.iter().map(counters).collect();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0: 4096      10    1    0    0     0          0         0     2048       5    2    0    0     0       0          0
";

    #[test]
    fn counters_are_read_and_shown() {
        let found = parse(TABLE);
        assert_eq!(found.len(), 1);
        let at = Timestamp::UNIX_EPOCH;
        let shown = summary(&found, at);
        assert_eq!(
            (&shown["rxBytes"], &shown["txBytes"]),
            (&json!(4096), &json!(2048))
        );
        assert_eq!((&shown["rxErrors"], &shown["txErrors"]), (&json!(1), &json!(2)));
        assert_eq!(shown["interfaces"][0]["name"], "eth0");
        assert_eq!(summary(&[], at), Value::Null);
    }
}
