//! The ConfigMap that says since when the use of tokens that Secrets keep is noted: what was not used since then may
//! have been used before. Pure.

use api::object;
use api::tokens::TRACKING;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde_json::{Value, json};

use super::order::{What, Write};
use super::trust::MAPS;

const SINCE: &str = "since";

/// What has to be written, given the ConfigMaps that are there.
pub(super) fn plan(live: &[Value], now: Timestamp) -> Option<Write> {
    let today = Offset::UTC.to_datetime(now).date().to_string();
    let (what, object) = match live.iter().find(|map| object::name(map) == TRACKING.1) {
        Some(map) if object::get_str(map, &["data", SINCE]).parse::<Date>().is_ok() => return None,
        Some(map) => {
            let mut new = map.clone();
            object::set(&mut new, &["data", SINCE], today);
            (What::Replace, new)
        }
        None => {
            let new = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": {SINCE: today},
                "metadata": {"name": TRACKING.1, "namespace": MAPS.2},
            });
            (What::Create, new)
        }
    };
    Some(Write {
        collection: MAPS,
        what,
        object,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_day_stays() {
        let plan = |live: &[Value], day: &str| plan(live, format!("{day}T23:59:59Z").parse().unwrap());
        let made = plan(&[], "2026-03-01").unwrap();
        assert_eq!(
            (made.what, &made.object["data"]),
            (What::Create, &json!({"since": "2026-03-01"}))
        );
        assert_eq!(plan(std::slice::from_ref(&made.object), "2027-01-01"), None);
        let mut spoilt = made.object;
        spoilt["data"]["since"] = "long ago".into();
        let mended = plan(&[spoilt], "2026-04-01").unwrap();
        assert_eq!(
            (mended.what, &mended.object["data"]),
            (What::Replace, &json!({"since": "2026-04-01"}))
        );
    }
}
