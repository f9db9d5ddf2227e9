//! Consumers in order: within a message group nothing overtakes, and message groups do not wait
//! for each other.

mod harness;
mod ordered;

use centaur_apis::{
    log::TopicType,
    store::{DeadLetterRequest, EndSessionRequest, PopRequest, PutGroupRequest, Reason},
};
use ordered::{Fixture, GROUP, TOPIC, numbers, request};

/// A store with a FIFO topic of one queue and a group that reads it in order.
async fn ordered_store(message_groups: &str, max_attempts: u32) -> Fixture {
    let mut store = Fixture::open(TopicType::Fifo, 1).await;
    store.put_ordered(max_attempts).await;
    store.send_all(message_groups).await;
    store
}

#[tokio::test]
async fn nobody_gets_a_later_message_while_an_earlier_one_is_in_hand() {
    let mut store = ordered_store("aab", 5).await;
    let first = store.pop(1).await;
    assert_eq!(numbers(&first), [0]);
    assert_eq!(numbers(&store.pop(32).await), [2], "another message group does not wait");
    assert_eq!(numbers(&store.pop(32).await), []);
    let backlog = store.backlog().await;
    assert_eq!((backlog.ready, backlog.blocked, backlog.in_flight), (1, 1, 2));
    store.ack(&first[0]).await.expect("held");
    assert_eq!(store.backlog().await.blocked, 0);
    let next = store.pop(32).await;
    assert_eq!(numbers(&next), [1]);
    assert_eq!(next[0].attempt, 1, "it was never delivered before");
}

#[tokio::test]
async fn a_message_group_is_handed_out_in_one_run_and_in_order() {
    let mut store = ordered_store("aabacab", 5).await;
    let run = store.pop(32).await;
    assert_eq!(numbers(&run), [0, 1, 2, 3, 4, 5, 6]);
    for place in [0, 2, 3] {
        store.ack(&run[place]).await.expect("held");
    }
    assert_eq!(numbers(&store.pop(32).await), []);
    store.reopen(true);
    store.pass(61_000).await;
    let again = store.pop(32).await;
    assert_eq!(numbers(&again), [1, 4, 5, 6], "what was settled does not come again");
    assert!(again.iter().all(|delivery| delivery.attempt == 2));
}

#[tokio::test]
async fn a_run_comes_again_when_all_of_it_is_visible_from_its_lowest_message_on() {
    let mut store = ordered_store("aaaa", 5).await;
    let run = store.pop(3).await;
    store.change(&run[1].handle, 10_000, false).await.expect("held");
    store.change(&run[0].handle, 0, true).await.expect("held");
    store.pass(20_000).await;
    assert_eq!(numbers(&store.pop(32).await), [], "the third is in hand");
    store.ack(&run[2]).await.expect("held");
    let again = store.pop(1).await;
    assert_eq!((numbers(&again), again[0].attempt), (vec![0], 1));
    assert_eq!(store.ack(&run[1]).await, Err(Reason::InvalidHandle));
    assert_eq!(numbers(&store.pop(32).await), []);
    store.ack(&again[0]).await.expect("held");
    let rest = store.pop(32).await;
    assert_eq!(numbers(&rest), [1, 3]);
    assert_eq!((rest[0].attempt, rest[1].attempt), (2, 1));
}

#[tokio::test]
async fn messages_without_a_message_group_are_in_order_by_queue() {
    let mut store = Fixture::open(TopicType::Fifo, 2).await;
    store.put_ordered(5).await;
    for (queue, number) in [(0, 0), (0, 1), (1, 2), (1, 3)] {
        store.send(queue, "", number).await;
    }
    let mut seen = vec![numbers(&store.pop(1).await), numbers(&store.pop(1).await)];
    seen.sort_unstable();
    assert_eq!(seen, [[0], [2]]);
    assert_eq!(numbers(&store.pop(32).await), []);
}

#[tokio::test]
async fn the_same_attempt_gets_the_same_run() {
    let mut store = ordered_store("aaaa", 5).await;
    let ask = PopRequest { messages_max: 2, attempt: "one".into(), ..request() };
    let run = store.pop_as(ask.clone()).await;
    store.reopen(false);
    let again = store.pop_as(ask).await;
    assert_eq!(numbers(&again), [0, 1]);
    assert_eq!(again[0].handle, run[0].handle);
    assert!(again.iter().all(|delivery| delivery.attempt == 1));
}

#[tokio::test]
async fn the_last_attempt_of_a_message_lets_its_message_group_go_on() {
    let mut store = ordered_store("aa", 2).await;
    for _ in 0..2 {
        let some = store.pop(1).await;
        assert_eq!(numbers(&some), [0]);
        store.change(&some[0].handle, 0, false).await.expect("held");
    }
    store.look_up().await;
    assert_eq!(store.dead().await, [0], "nobody has to poll for it");
    assert_eq!(numbers(&store.pop(1).await), [1]);
}

#[tokio::test]
async fn a_patient_group_gets_a_message_until_it_settles_it() {
    let mut store = Fixture::open(TopicType::Fifo, 1).await;
    let patient = PutGroupRequest {
        fifo: Some(true),
        max_attempts: Some(2),
        blocks_when_exhausted: Some(true),
        ..Default::default()
    };
    store.put_group(patient).await.expect("made");
    store.send_all("aa").await;
    for attempt in 1..5 {
        let some = store.pop(1).await;
        assert_eq!((numbers(&some), some[0].attempt), (vec![0], attempt));
        store.reopen(attempt % 2 == 0);
        store.pass(60_000).await;
    }
    assert!(store.dead().await.is_empty());
    let impatient = PutGroupRequest { blocks_when_exhausted: Some(false), ..Default::default() };
    store.put_group(impatient).await.expect("changed");
    store.look_up().await;
    assert_eq!(store.dead().await, [0]);
    assert_eq!(numbers(&store.pop(32).await), [1]);
}

#[tokio::test]
async fn a_consumer_may_put_a_message_aside_and_go_on() {
    let mut store = ordered_store("aa", 5).await;
    let first = store.pop(1).await;
    let request = DeadLetterRequest {
        group: GROUP.into(),
        topic: TOPIC.into(),
        handle: first[0].handle.clone(),
        ..Default::default()
    };
    store.client.dead_letter(request).await.expect("moved");
    assert_eq!(numbers(&store.pop(1).await), [1]);
    assert_eq!(store.dead().await, [0]);
}

#[tokio::test]
async fn a_waiting_poll_is_answered_when_a_message_group_is_free() {
    let mut store = ordered_store("aa", 5).await;
    let first = store.pop(1).await;
    let mut client = store.client.clone();
    let ask = PopRequest { wait_ms: 3_600_000, client: "other".into(), ..request() };
    let poll = tokio::spawn(async move { client.pop(ask).await });
    while store.polls().await == 0 {
        assert!(!poll.is_finished(), "it has to wait");
        tokio::task::yield_now().await;
    }
    store.ack(&first[0]).await.expect("held");
    let answer = poll.await.expect("no panic").expect("answered").into_inner();
    assert_eq!(numbers(&answer.deliveries), [1]);
}

#[tokio::test]
async fn what_a_client_held_comes_again_in_order_when_it_goes() {
    let mut store = ordered_store("aaab", 5).await;
    let run = store.pop_as(PopRequest { session_bound: true, ..request() }).await;
    assert_eq!(numbers(&run), [0, 1, 2, 3]);
    store.ack(&run[1]).await.expect("held");
    let request = EndSessionRequest { client: "consumer".into(), ..Default::default() };
    assert_eq!(store.client.end_session(request).await.expect("ended").into_inner().released, 3);
    assert_eq!(numbers(&store.pop(32).await), [0, 2, 3]);
}

#[tokio::test]
async fn a_window_bounds_what_waits_and_opens_again() {
    let mut store = Fixture::open(TopicType::Fifo, 1).await;
    store.put_ordered(5).await;
    for number in 0..4200 {
        store.send(0, "a", number).await;
    }
    store.send(0, "b", 4200).await;
    let first = store.pop(1).await;
    for _ in 0..4 {
        assert_eq!(numbers(&store.pop(32).await), [], "the other message group is behind the window");
    }
    assert_eq!(store.backlog().await.blocked, 4096);
    store.reopen(false);
    assert_eq!(store.backlog().await.blocked, 4096);
    store.ack(&first[0]).await.expect("held");
    let mut seen = vec![0];
    while seen.len() < 4201 {
        let some = store.pop(256).await;
        assert!(!some.is_empty(), "after {}", seen.len());
        for delivery in &some {
            store.ack(delivery).await.expect("held");
        }
        seen.extend(numbers(&some));
    }
    seen.retain(|number| *number != 4200);
    assert!(seen.is_sorted(), "one message group stays in order");
    assert_eq!(store.backlog().await, Default::default());
}

#[tokio::test]
async fn order_begins_and_ends_only_while_nothing_is_in_hand() {
    let mut store = ordered_store("aa", 5).await;
    let first = store.pop(1).await;
    let concurrent = PutGroupRequest { fifo: Some(false), ..Default::default() };
    assert_eq!(store.put_group(concurrent.clone()).await.map(drop), Err(Reason::Precondition));
    store.ack(&first[0]).await.expect("held");
    store.put_group(concurrent).await.expect("nothing is in hand");
    assert_eq!(numbers(&store.pop(1).await), [1]);
    let ordered = PutGroupRequest { fifo: Some(true), ..Default::default() };
    assert_eq!(store.put_group(ordered).await.map(drop), Err(Reason::Precondition));
}

#[tokio::test]
async fn message_groups_that_fail_leave_turns_to_others() {
    let mut store = ordered_store("aabbcdefgh", 1000).await;
    let mut settled = Vec::new();
    for _ in 0..40 {
        let some = store.pop(1).await;
        match numbers(&some).first() {
            Some(0 | 2) => drop(store.change(&some[0].handle, 0, false).await.expect("held")),
            _ => {
                store.ack(&some[0]).await.expect("held");
                settled.extend(numbers(&some));
            }
        }
        store.pass(1).await;
    }
    assert_eq!(settled, [4, 5, 6, 7, 8, 9], "what fails takes every second turn at most");
}
