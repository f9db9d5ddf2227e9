//! Leases that live as long as their client: how long at most, and what ends them sooner.

mod harness;
mod ordered;

use centaur_apis::{
    log::TopicType,
    store::{Delivery, PopRequest, PutGroupRequest, Reason, TouchRequest},
};
use ordered::{Fixture, numbers, request};

const SECOND_MS: u64 = 1_000;
/// As often as most clients say that they are there.
const BEAT_MS: u64 = 30 * SECOND_MS;

/// A store in which a client holds the one message there is for as long as it lives.
async fn store_with_renewed_lease(change: impl FnOnce(&mut Fixture)) -> (Fixture, Delivery) {
    let mut store = Fixture::open(TopicType::Normal, 1).await;
    change(&mut store);
    store.reopen(false);
    store.put_group(PutGroupRequest::default()).await.expect("made");
    store.send(0, "", 1).await;
    let held = store.pop_as(PopRequest { session_bound: true, ..request() }).await.remove(0);
    (store, held)
}

/// Lets time go by in which the holder is heard from and another client gets nothing.
async fn hold(store: &mut Fixture, mut ms: u64) {
    while ms > 0 {
        let step = ms.min(BEAT_MS);
        ms -= step;
        let now = store.pass(step).await;
        store.client.touch(TouchRequest { clients: vec!["consumer".into()] }).await.expect("heard");
        assert_eq!(numbers(&other_pops(store).await), [], "at {now}");
    }
}

async fn other_pops(store: &mut Fixture) -> Vec<Delivery> {
    store.pop_as(PopRequest { client: "other".into(), ..request() }).await
}

async fn check_renewed_for(mut store: Fixture, held: Delivery, ms: u64) {
    hold(&mut store, ms - 1).await;
    store.pass(1).await;
    let again = other_pops(&mut store).await.remove(0);
    assert_eq!(again.attempt, 2);
    assert_eq!(store.ack(&held).await, Err(Reason::InvalidHandle));
    assert_eq!(store.ack(&again).await, Ok(()));
}

#[tokio::test]
async fn a_client_that_lives_holds_a_message_for_three_hours() {
    let (store, held) = store_with_renewed_lease(|_| ()).await;
    check_renewed_for(store, held, 3 * 3_600 * SECOND_MS).await;
}

#[tokio::test]
async fn an_operator_may_allow_less() {
    let (store, held) = store_with_renewed_lease(|store| store.config.session_lease_ms = 70 * SECOND_MS).await;
    check_renewed_for(store, held, 70 * SECOND_MS).await;
}

#[tokio::test]
async fn the_first_handle_is_good_until_the_end() {
    let (mut store, held) = store_with_renewed_lease(|_| ()).await;
    hold(&mut store, 3 * 3_600 * SECOND_MS - 1).await;
    assert_eq!(store.ack(&held).await, Ok(()));
}

#[tokio::test]
async fn what_a_silent_client_held_is_given_on_after_a_minute() {
    let (mut store, held) = store_with_renewed_lease(|_| ()).await;
    store.pass(59 * SECOND_MS).await;
    assert_eq!(numbers(&other_pops(&mut store).await), []);
    store.pass(2 * SECOND_MS).await;
    let again = other_pops(&mut store).await.remove(0);
    assert_eq!(again.attempt, 2);
    assert_eq!(store.ack(&held).await, Err(Reason::InvalidHandle));
}
