//! Programs of a pod that wait for others of it, or need not.

use crate::interfaces::{CALC, caller, counts, nothing, start};
use crate::support::*;
use coracle_wasm::Network;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn who_cannot_be_started_is_not_waited_for() {
    let host = host();
    let pod = Arc::new(Pod::default());
    let ask = caller(&counts(1, 1));
    let others = |spec: &mut Spec| {
        let member = spec.spec.membership.as_mut().unwrap();
        member.others = vec!["calc".into()];
    };
    let begun = std::time::Instant::now();
    let (refused, ()) = tokio::join!(start(&host, &pod, "asks", &ask, others), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        pod.interfaces().unwrap().refuse("calc", "it is broken");
    });
    let why = refused.0.map(drop).unwrap_err().to_string();
    let words =
        "demo:math/calc@1.0.0 is imported and nobody exports it: \"calc\" cannot be started: it is broken";
    assert_eq!(why, words);
    assert!(begun.elapsed() < Duration::from_secs(10), "it waited");
    // Mended, and on its way again.
    pod.interfaces().unwrap().expect("calc");
    let (asked, _calc) = tokio::join!(start(&host, &pod, "asks", &ask, others), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        start(&host, &pod, "calc", CALC, nothing).await.0.unwrap()
    });
    assert_eq!(wait(&asked.0.unwrap()).await.code, 0);
}
