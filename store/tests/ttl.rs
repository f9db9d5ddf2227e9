//! Messages that are of use for a while only: what a group did not get in time it does not get at
//! all, and nothing of it is left over.

mod harness;
mod ordered;

use centaur_apis::{
    log::{Lite, TopicType},
    store::{
        Delivery, NewMessage, Place, PopRequest, PutGroupRequest, PutTopicRequest, RedriveRequest, SyncLiteRequest,
        sync_lite_request::Action,
    },
};
use harness::message;
use ordered::{Fixture, GROUP, TOPIC, numbers, request};

const MINUTE_MS: u64 = 60_000;

/// A store with a topic whose messages are of use for so long; 0: for ever.
async fn store_with_ttl(r#type: TopicType, queues: u32, ttl_ms: u64) -> Fixture {
    let mut store = Fixture::open(r#type, queues).await;
    put_ttl(&mut store, ttl_ms).await;
    store
}

async fn put_ttl(store: &mut Fixture, ttl_ms: u64) {
    let request = PutTopicRequest { name: TOPIC.into(), ttl_ms: Some(ttl_ms), ..Default::default() };
    store.client.put_topic(request).await.expect("set");
}

async fn put_group(store: &mut Fixture, fifo: bool, max_attempts: u32) {
    let request = PutGroupRequest { fifo: Some(fifo), max_attempts: Some(max_attempts), ..Default::default() };
    store.put_group(request).await.expect("made");
}

/// Sends a message with a time of its own.
async fn send(store: &mut Fixture, number: u64, ttl_ms: u64, due_ms: u64) {
    let sent = message(TOPIC, &number.to_string(), None, &[], vec![7; 8]);
    let sent = NewMessage { ttl_ms, due_ms, ..sent };
    harness::send(&mut store.client, TOPIC, 0, sent).await.expect("stored");
}

async fn is_all_finished(store: &mut Fixture) -> bool {
    let backlog = store.backlog().await;
    (backlog.ready, backlog.in_flight, backlog.waiting, backlog.blocked) == (0, 0, 0, 0)
}

async fn ack_all(store: &mut Fixture, deliveries: &[Delivery]) {
    for delivery in deliveries {
        store.ack(delivery).await.expect("settled");
    }
}

#[tokio::test]
async fn nobody_gets_what_has_been_in_its_queue_for_too_long() {
    let mut store = store_with_ttl(TopicType::Normal, 4, MINUTE_MS).await;
    put_group(&mut store, false, 16).await;
    for number in 0..8 {
        store.send(number as u32 % 4, "", number).await;
    }
    store.pass(MINUTE_MS - 1).await;
    for number in 8..12 {
        store.send(number as u32 % 4, "", number).await;
    }
    assert_eq!(store.pop(1).await.len(), 1, "the last moment");
    store.pass(1).await;
    let mut some = numbers(&store.pop(32).await);
    some.sort_unstable();
    assert_eq!(some, [8, 9, 10, 11]);
}

#[tokio::test]
async fn a_long_run_of_old_messages_does_not_keep_a_waiting_poll_from_the_new_ones() {
    let mut store = store_with_ttl(TopicType::Normal, 1, MINUTE_MS).await;
    put_group(&mut store, false, 16).await;
    for number in 0..5000 {
        store.send(0, "", number).await;
    }
    store.pass(MINUTE_MS).await;
    store.send(0, "", 5000).await;
    let some = store.pop_as(PopRequest { wait_ms: 60_000, ..request() }).await;
    assert_eq!(numbers(&some), [5000]);
    ack_all(&mut store, &some).await;
    assert!(is_all_finished(&mut store).await);
}

#[tokio::test]
async fn the_time_of_a_message_counts_before_that_of_its_topic() {
    for crash in [false, true] {
        let mut store = store_with_ttl(TopicType::Normal, 1, MINUTE_MS).await;
        put_group(&mut store, false, 16).await;
        for (number, ttl_ms) in [(0, MINUTE_MS / 2), (1, 0), (2, 3 * MINUTE_MS), (3, u64::MAX)] {
            send(&mut store, number, ttl_ms, 0).await;
        }
        store.reopen(crash);
        store.pass(MINUTE_MS / 2).await;
        let some = store.pop_as(PopRequest { messages_max: 1, invisible_ms: 0, ..request() }).await;
        assert_eq!(numbers(&some), [1]);
        store.pass(MINUTE_MS / 2).await;
        assert_eq!(numbers(&store.pop(1).await), [2]);
        store.pass(2 * MINUTE_MS).await;
        assert_eq!(numbers(&store.pop(32).await), [3]);
    }
}

#[tokio::test]
async fn a_topic_may_change_its_mind() {
    let mut store = store_with_ttl(TopicType::Normal, 1, 0).await;
    put_group(&mut store, false, 16).await;
    store.send(0, "", 0).await;
    store.pass(10 * MINUTE_MS).await;
    store.send(0, "", 1).await;
    put_ttl(&mut store, MINUTE_MS).await;
    assert_eq!(numbers(&store.pop(1).await), [1], "the first was passed over for good");
    put_ttl(&mut store, 0).await;
    assert!(store.pop(1).await.is_empty());
}

#[tokio::test]
async fn what_was_delivered_in_time_may_be_finished_late_and_is_not_delivered_again() {
    for crash in [false, true] {
        let mut store = store_with_ttl(TopicType::Normal, 1, MINUTE_MS / 2).await;
        put_group(&mut store, false, 16).await;
        for number in 0..300 {
            store.send(0, "", number).await;
        }
        let mut held = store.pop(256).await;
        held.extend(store.pop(256).await);
        assert_eq!(held.len(), 300);
        store.pass(MINUTE_MS - 1).await;
        store.ack(&held[0]).await.expect("it is held yet");
        store.pass(1).await;
        // They are more than one answer settles.
        while !is_all_finished(&mut store).await {
            assert!(store.pop(32).await.is_empty());
        }
        store.reopen(crash);
        assert!(is_all_finished(&mut store).await);
        assert_eq!(store.ack(&held[1]).await, Ok(()), "it is settled, as one that was");
        assert_eq!(store.dead().await, []);
    }
}

#[tokio::test]
async fn a_message_without_attempts_left_is_a_dead_letter_however_old() {
    let mut store = store_with_ttl(TopicType::Normal, 1, MINUTE_MS / 2).await;
    put_group(&mut store, false, 1).await;
    store.send(0, "", 0).await;
    assert_eq!(store.pop(1).await.len(), 1);
    store.pass(MINUTE_MS).await;
    assert!(store.pop(1).await.is_empty());
    assert_eq!(store.dead().await, [0]);
}

#[tokio::test]
async fn a_dead_letter_sent_again_is_of_use_for_as_long_as_it_was() {
    let mut store = store_with_ttl(TopicType::Normal, 1, 0).await;
    put_group(&mut store, false, 1).await;
    for (number, ttl_ms) in [(0, 2 * MINUTE_MS), (1, MINUTE_MS), (2, 0)] {
        send(&mut store, number, ttl_ms, 0).await;
    }
    assert_eq!(store.pop(3).await.len(), 3);
    store.pass(10 * MINUTE_MS).await;
    assert_eq!(store.dead().await, [0, 1, 2]);
    let places = (0..3).map(|offset| Place { queue: 0, offset }).collect();
    let redrive = RedriveRequest { group: GROUP.into(), places, dry_run: false };
    store.client.redrive(redrive).await.expect("sent again");
    store.pass(2 * MINUTE_MS - 1).await;
    assert_eq!(numbers(&store.pop(32).await), [0, 2]);
}

#[tokio::test]
async fn a_message_group_goes_on_behind_one_that_is_of_no_use_any_more() {
    let mut store = store_with_ttl(TopicType::Fifo, 1, 90_000).await;
    put_group(&mut store, true, 16).await;
    store.send_all("aab").await;
    let first = store.pop(1).await;
    assert_eq!(numbers(&first), [0]);
    assert_eq!(numbers(&store.pop(1).await), [2], "the second is passed over: its message group is in hand");
    store.pass(MINUTE_MS / 2).await;
    store.send(0, "a", 3).await;
    store.pass(MINUTE_MS).await;
    assert_eq!(numbers(&store.pop(32).await), [3], "those before it are settled with this answer");
    store.pass(MINUTE_MS).await;
    assert!(store.pop(32).await.is_empty());
    assert!(is_all_finished(&mut store).await);
}

#[tokio::test]
async fn the_time_of_a_scheduled_message_begins_when_it_is_due() {
    let mut store = store_with_ttl(TopicType::Delay, 1, 0).await;
    put_group(&mut store, false, 16).await;
    let now_ms = store.look_up().await;
    send(&mut store, 0, MINUTE_MS, now_ms + 10 * MINUTE_MS).await;
    send(&mut store, 1, 2 * MINUTE_MS, now_ms + 10 * MINUTE_MS).await;
    store.pass(10 * MINUTE_MS).await;
    store.pass(MINUTE_MS - 1).await;
    assert_eq!(numbers(&store.pop(1).await), [0]);
    store.pass(1).await;
    assert_eq!(numbers(&store.pop(32).await), [1]);
}

#[tokio::test]
async fn a_lite_topic_goes_on_behind_what_is_of_no_use_any_more() {
    const CHATS: &str = "chats";
    let mut store = Fixture::open(TopicType::Normal, 1).await;
    let topic = PutTopicRequest {
        name: CHATS.into(),
        r#type: TopicType::Lite.into(),
        queues: Some(4),
        ttl_ms: Some(90_000),
        ..Default::default()
    };
    store.client.put_topic(topic).await.expect("made");
    let lite = Some(Lite { topic: CHATS.into(), ..Default::default() });
    store.put_group(PutGroupRequest { lite, ..Default::default() }).await.expect("made");
    let subscribe = SyncLiteRequest {
        client: "consumer".into(),
        group: GROUP.into(),
        topic: CHATS.into(),
        action: Action::PartialAdd.into(),
        lite_topics: vec!["a".into()],
        ..Default::default()
    };
    store.client.sync_lite(subscribe).await.expect("subscribed");
    let ask = |messages_max| PopRequest { topic: CHATS.into(), messages_max, ..request() };
    for number in 0..3u64 {
        let sent = NewMessage { lite_topic: "a".into(), ..message(CHATS, &number.to_string(), None, &[], vec![7; 8]) };
        harness::send(&mut store.client, CHATS, 0, sent).await.expect("stored");
        store.pass(if number == 0 { 0 } else { 20_000 }).await;
        if number == 1 {
            assert_eq!(numbers(&store.pop_as(ask(1)).await), [0]);
        }
    }
    store.pass(60_000).await;
    assert_eq!(numbers(&store.pop_as(ask(32)).await), [2], "the first is settled, the second passed over");
    store.pass(60_000).await;
    assert!(store.pop_as(ask(32)).await.is_empty());
}
