//! ServiceCIDRs: the one that the cluster was made with exists, each says whether it is ready, and none goes while
//! Services have addresses that lie in no other. Pure.

use std::net::IpAddr;
use std::time::Duration;

use api::cidr::Cidr;
use api::object;
use api::value;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::order::{Collection, What, Write, condition};

/// Where they are.
pub(super) const RANGES: Collection = ("networking.k8s.io", "servicecidrs", "");
/// The one that the cluster was made with.
const DEFAULT: &str = "kubernetes";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// For so long a range that goes may still be what somebody is about to take an address from.
const GRACE: Duration = Duration::from_secs(10);
const READY: [&str; 3] = ["True", "", "Kubernetes Service CIDR is ready"];
const BLOCKED: [&str; 3] = [
    "False",
    "Terminating",
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
];

/// What to write, and when to look again though nothing changes. `configured` are the cluster's ranges, `taken` the
/// addresses that Services have.
pub(super) fn plan(
    configured: &[String],
    live: &[Value],
    taken: &[IpAddr],
    now: Timestamp,
) -> (Vec<Write>, Option<Duration>) {
    let mut writes: Vec<Write> = default(configured, live).into_iter().collect();
    let mut again: Option<Duration> = None;
    for range in live {
        let what = if object::deletion_timestamp(range).is_none() {
            kept(range, now)
        } else if is_needed(range, live, taken) {
            condition(range, "Ready", BLOCKED, now).map(|new| (What::ReplaceStatus, new))
        } else {
            match left(range, now) {
                Some(wait) => {
                    again = Some(again.map_or(wait, |before| before.min(wait)));
                    None
                }
                None => released(range),
            }
        };
        writes.extend(what.map(|(what, object)| write(what, object)));
    }
    (writes, again)
}

fn write(what: What, object: Value) -> Write {
    Write {
        collection: RANGES,
        what,
        object,
    }
}

/// The cluster's own range, which may get a second family.
fn default(configured: &[String], live: &[Value]) -> Option<Write> {
    let Some(range) = live.iter().find(|range| object::name(range) == DEFAULT) else {
        let new = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": DEFAULT, "finalizers": [FINALIZER]}, "spec": {"cidrs": configured},
        });
        return Some(write(What::Create, new));
    };
    let cidrs = value::list(range, "spec.cidrs");
    let widened =
        cidrs.len() == 1 && configured.len() == 2 && cidrs.first()?.as_str() == Some(configured.first()?);
    widened.then(|| {
        let mut new = range.clone();
        object::set(&mut new, &["spec", "cidrs"], json!(configured));
        write(What::Replace, new)
    })
}

fn kept(range: &Value, now: Timestamp) -> Option<(What, Value)> {
    let finalizers = finalizers(range);
    if finalizers.iter().any(|name| name == FINALIZER) {
        return condition(range, "Ready", READY, now).map(|new| (What::ReplaceStatus, new));
    }
    let all: Vec<String> = finalizers.into_iter().chain([FINALIZER.to_owned()]).collect();
    Some((What::Replace, with_finalizers(range, all)))
}

fn released(range: &Value) -> Option<(What, Value)> {
    let mut finalizers = finalizers(range);
    let before = finalizers.len();
    finalizers.retain(|name| name != FINALIZER);
    (finalizers.len() < before).then(|| (What::Replace, with_finalizers(range, finalizers)))
}

fn finalizers(range: &Value) -> Vec<String> {
    let all = value::list(range, "metadata.finalizers").iter();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn with_finalizers(range: &Value, all: Vec<String>) -> Value {
    let mut new = range.clone();
    object::set(&mut new, &["metadata", "finalizers"], all);
    new
}

/// How long it is still too early to let a range go.
fn left(range: &Value, now: Timestamp) -> Option<Duration> {
    let since: Timestamp = object::deletion_timestamp(range)?.parse().ok()?;
    let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    GRACE.checked_sub(passed).filter(|left| !left.is_zero())
}

/// Whether an address that is taken lies in this one and in no other.
fn is_needed(range: &Value, live: &[Value], taken: &[IpAddr]) -> bool {
    let others = live
        .iter()
        .filter(|other| object::name(other) != object::name(range));
    let others: Vec<Cidr> = others.flat_map(cidrs).collect();
    let own: Vec<Cidr> = cidrs(range)
        .into_iter()
        .filter(|own| !others.iter().any(|other| other.encloses(own)))
        .collect();
    let is_in = |all: &[Cidr], ip: &IpAddr| all.iter().any(|cidr| cidr.contains(*ip));
    taken.iter().any(|ip| is_in(&own, ip) && !is_in(&others, ip))
}

fn cidrs(range: &Value) -> Vec<Cidr> {
    let all = value::list(range, "spec.cidrs").iter();
    all.filter_map(|cidr| cidr.as_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T03:04:30Z".parse().unwrap()
    }

    fn range(name: &str, cidr: &str, gone_since: Option<&str>) -> Value {
        let conditions = json!([{
            "type": "Ready", "status": READY[0], "reason": READY[1], "message": READY[2],
        }]);
        json!({
            "metadata": {"name": name, "finalizers": [FINALIZER], "deletionTimestamp": gone_since},
            "spec": {"cidrs": [cidr]}, "status": {"conditions": conditions},
        })
    }

    /// What is written about which range, and the seconds until the next look.
    fn planned(live: &[Value], taken: &[&str]) -> (Vec<(String, What)>, Option<u64>) {
        let taken: Vec<IpAddr> = taken.iter().map(|ip| ip.parse().unwrap()).collect();
        let (writes, again) = plan(&["10.43.0.0/16".into()], live, &taken, now());
        let about = |write: &Write| (object::name(&write.object).to_owned(), write.what);
        (
            writes.iter().map(about).collect(),
            again.map(|wait| wait.as_secs()),
        )
    }

    #[test]
    fn the_clusters_own_range_is_made_and_marked() {
        assert_eq!(planned(&[], &[]).0, [(DEFAULT.to_owned(), What::Create)]);
        let mut own = range(DEFAULT, "10.43.0.0/16", None);
        assert_eq!(planned(&[own.clone()], &["10.43.0.1"]), (vec![], None));
        own["status"] = json!({});
        assert_eq!(
            planned(&[own.clone()], &[]).0,
            [(DEFAULT.to_owned(), What::ReplaceStatus)]
        );
        own["metadata"]["finalizers"] = json!(["mine"]);
        let (writes, _) = plan(&["10.43.0.0/16".into()], &[own], &[], now());
        assert_eq!(
            writes[0].object["metadata"]["finalizers"],
            json!(["mine", FINALIZER])
        );
    }

    #[test]
    fn a_second_family_is_added_to_the_clusters_own_range() {
        let live = [range(DEFAULT, "10.43.0.0/16", None)];
        let both = ["10.43.0.0/16".to_owned(), "fd43::/112".to_owned()];
        let (writes, _) = plan(&both, &live, &[], now());
        assert_eq!(writes[0].object["spec"]["cidrs"], json!(both));
        let other = ["10.44.0.0/16".to_owned(), "fd43::/112".to_owned()];
        assert_eq!(plan(&other, &live, &[], now()).0, []);
    }

    #[test]
    fn a_range_goes_once_no_address_needs_it() {
        let own = range(DEFAULT, "10.43.0.0/16", None);
        let (old, new) = ("2026-01-02T03:04:20Z", "2026-01-02T03:04:25Z");
        let going = |cidr, since| [own.clone(), range("more", cidr, Some(since))];
        let more = |what| vec![("more".to_owned(), what)];
        let (blocked, gone) = (more(What::ReplaceStatus), more(What::Replace));
        for (cidr, since, taken, expected) in [
            ("10.50.0.0/24", old, "10.50.0.7", (blocked, None)),
            ("10.50.0.0/24", old, "10.43.0.7", (gone.clone(), None)),
            ("10.50.0.0/24", new, "10.43.0.7", (vec![], Some(5))),
            ("10.43.7.0/24", old, "10.43.7.7", (gone, None)),
        ] {
            assert_eq!(
                planned(&going(cidr, since), &[taken]),
                expected,
                "{cidr} {since} {taken}"
            );
        }
    }
}
