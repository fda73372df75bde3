//! Resources of one program of a pod in the hands of another.

use crate::interfaces::{nothing, start};
use crate::support::*;
use coracle_wasm::{Exit, Host};
use std::sync::Arc;

const SHELF: &str = include_str!("../../../../tests/programs/shelf.wat");

/// A visitor of the shelf that succeeds if `body` leaves nothing but 0.
fn visitor(body: &str) -> String {
    include_str!("../../../../tests/programs/visitor.wat").replace("BODY", body)
}

async fn visit(host: &Host, pod: &Arc<Pod>, body: &str) -> Exit {
    let (instance, _) = start(host, pod, "visitor", &visitor(body), nothing).await;
    wait(&instance.unwrap()).await
}

/// Makes 40 and 2 into 42, and looks at everything on the way.
const MERGES: &str = "
    (local.set $a (call $new (i32.const 40)))
    (local.set $b (call $new (i32.const 2)))
    (i32.ne (call $get (local.get $a)) (i32.const 40))
    (local.set $c (call $merge (local.get $a) (local.get $b)))
    (i32.or (i32.ne (call $get (local.get $c)) (i32.const 42)))
    (i32.or (i32.ne (call $dropped) (i32.const 1)))
    (call $drop (local.get $b))
    (i32.or (i32.ne (call $dropped) (i32.const 2)))
    (call $drop (local.get $c))
    (i32.or (i32.ne (call $dropped) (i32.const 3)))";

/// Hands two over in a list, has one of them back in an option of a tuple, then in a record, then out of a variant.
const NESTED: &str = "
    (i32.store (i32.const 16) (call $new (i32.const 3)))
    (i32.store (i32.const 20) (call $new (i32.const 4)))
    (call $pick (i32.const 16) (i32.const 2) (i32.const 32))
    (i32.ne (i32.load (i32.const 32)) (i32.const 7))
    (i32.or (i32.ne (i32.load8_u (i32.const 36)) (i32.const 1)))
    (local.set $a (call $wrap (i32.load (i32.const 40))))
    (local.set $a (call $unwrap (i32.const 0) (local.get $a)))
    (i32.or (i32.ne (call $get (local.get $a)) (i32.const 4)))
    (call $pick (i32.const 16) (i32.const 0) (i32.const 32))
    (i32.or (i32.load8_u (i32.const 36)))
    (i32.or (i32.ne (call $dropped) (i32.const 1)))";

#[tokio::test]
async fn resources_are_made_used_handed_over_and_dropped() {
    let host = host();
    let pod = Arc::new(Pod::default());
    let (shelf, log) = start(&host, &pod, "shelf", SHELF, nothing).await;
    let shelf = shelf.unwrap();
    for body in [MERGES, NESTED] {
        let exit = visit(&host, &pod, body).await;
        assert_eq!(exit.code, 0, "{exit:?} {}", log.text());
    }
    eventually("the end of what the visitors had", || {
        shelf.usage().memory_bytes == 0
    })
    .await;
}

#[tokio::test]
async fn an_instance_is_its_callers_while_they_have_handles() {
    let host = host();
    let pod = Arc::new(Pod::default());
    let (_shelf, _) = start(&host, &pod, "shelf", SHELF, |spec| spec.spec.reuse = true).await;
    let dropped = |n: u32| format!("(i32.ne (call $dropped) (i32.const {n}))");
    let makes = "(local.set $a (call $new (i32.const 1)))";
    let tidy = format!("{makes} (call $drop (local.get $a)) {}", dropped(1));
    assert_eq!(visit(&host, &pod, &tidy).await.code, 0);
    // The next one is served by the same instance, leaves a box in it, and so it is nobody's any more.
    assert_eq!(
        visit(&host, &pod, &format!("{makes} {}", dropped(1))).await.code,
        0
    );
    assert_eq!(visit(&host, &pod, &dropped(0)).await.code, 0);
}

#[tokio::test]
async fn what_goes_wrong_with_resources_is_the_visitors() {
    let host = host();
    let pod = Arc::new(Pod::default());
    let (shelf, log) = start(&host, &pod, "shelf", SHELF, nothing).await;
    let shelf = shelf.unwrap();
    // One that drops nothing.
    let exit = visit(
        &host,
        &pod,
        "(loop (drop (call $new (i32.const 1))) (br 0)) (i32.const 0)",
    )
    .await;
    assert_eq!(exit.code, 134, "{exit:?}");
    assert!(
        exit.message
            .contains("the caller has as many handles as it may have"),
        "{exit:?}"
    );
    // An end that fails.
    let exit = visit(
        &host,
        &pod,
        "(call $drop (call $new (i32.const 666))) (i32.const 0)",
    )
    .await;
    assert_eq!(exit.code, 134, "{exit:?}");
    let named = "demo:shop/shelf@1.0.0#[resource-drop]box, which \"shelf\" provides, failed: wasm trap";
    assert!(exit.message.contains(named), "{exit:?}");
    let told = log.text();
    assert!(told.contains("#[resource-drop]box: wasm trap"), "{told}");
    // Its owner is the only one who may hand it over, and only once.
    let twice = "(local.set $a (call $new (i32.const 1)))
        (i32.store (i32.const 16) (local.get $a)) (i32.store (i32.const 20) (local.get $a))
        (call $pick (i32.const 16) (i32.const 2) (i32.const 32)) (i32.const 0)";
    let exit = visit(&host, &pod, twice).await;
    assert_eq!(exit.code, 134, "{exit:?}");
    let forged = "(call $get (i32.const 7))";
    assert_eq!(visit(&host, &pod, forged).await.code, 134);

    assert_eq!(shelf.exit(), None, "who provides goes on");
    eventually("the end of what the visitors had", || {
        shelf.usage().memory_bytes == 0
    })
    .await;
}

#[tokio::test]
async fn resources_end_with_the_program_that_has_them() {
    let host = host();
    let pod = Arc::new(Pod::default());
    let (shelf, _) = start(&host, &pod, "shelf", SHELF, nothing).await;
    let shelf = shelf.unwrap();
    let looks = visitor(
        "(local.set $a (call $new (i32.const 1)))
        (loop (drop (call $get (local.get $a))) (br 0)) (i32.const 0)",
    );
    let (visitor, _) = start(&host, &pod, "visitor", &looks, nothing).await;
    eventually("the first box", || shelf.usage().memory_bytes > 0).await;
    shelf.kill();
    wait(&shelf).await;
    let (_again, _) = start(&host, &pod, "shelf", SHELF, nothing).await;
    let exit = wait(&visitor.unwrap()).await;
    assert_eq!(exit.code, 134, "{exit:?}");
    // It is in a call when that happens, or between two.
    let told = ["it was ended", "the resource was lost"];
    assert!(told.iter().any(|told| exit.message.contains(told)), "{exit:?}");
}
