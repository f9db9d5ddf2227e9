//! What ends or changes a lease: acks, other invisible durations, dead letters, the client's end.

use std::time::Duration;

use centaur_apis::v2::*;
use tokio::time::Instant;

use super::{broker::Broker, client::*};

/// A topic, and a group of the same name with one message of it each.
async fn leased(name: &str, ids: &[&str]) -> (Broker, Client, Vec<Message>) {
    let broker = Broker::shared().await;
    broker.topic(name).await;
    let client = broker.client(name).await;
    client.publish(name, ids).await;
    let taken = client.take(name, name, ids.len()).await;
    (broker, client, taken)
}

/// A request to bury a message that is known by its id only.
fn bury(topic: &str, message_id: &str) -> ForwardMessageToDeadLetterQueueRequest {
    ForwardMessageToDeadLetterQueueRequest {
        group: named(topic),
        topic: named(topic),
        message_id: message_id.to_owned(),
        delivery_attempt: 1,
        max_delivery_attempts: 17,
        ..Default::default()
    }
}

/// Asserts that a group has nothing before it any more.
async fn assert_finished(broker: &Broker, name: &str) {
    assert_eq!(broker.backlog(name, name).await, Default::default(), "{name}");
}

// 68; what an ack after the end of the lease gets is with the long times.
#[tokio::test(flavor = "multi_thread")]
async fn an_ack_may_be_repeated() {
    let (broker, client, taken) = leased("acked", &["1"]).await;
    for _ in 0..3 {
        assert_eq!(client.ack_one("acked", "acked", handle(&taken[0])).await, Code::Ok);
    }
    let twice = client.ack("acked", "acked", &[handle(&taken[0]), handle(&taken[0])]).await;
    assert_eq!((code(&twice.status), twice.entries.len()), (Code::Ok, 2));
    assert_finished(&broker, "acked").await;
}

// 69
#[tokio::test(flavor = "multi_thread")]
async fn each_ack_has_a_result_of_its_own() {
    let (broker, client, taken) = leased("mixed-acks", &["1", "2"]).await;
    let mixed = client.ack("mixed-acks", "mixed-acks", &[handle(&taken[0]), "garbage", handle(&taken[1])]).await;
    assert_eq!(code(&mixed.status), Code::MultipleResults);
    let codes: Vec<Code> = mixed.entries.iter().map(|entry| code(&entry.status)).collect();
    assert_eq!(codes, [Code::Ok, Code::InvalidReceiptHandle, Code::Ok]);
    let echoed: Vec<&str> = mixed.entries.iter().map(|entry| entry.receipt_handle.as_str()).collect();
    assert_eq!(echoed, [handle(&taken[0]), "garbage", handle(&taken[1])]);
    let alone = client.ack("mixed-acks", "mixed-acks", &["garbage"]).await;
    refused(&alone.status, Code::InvalidReceiptHandle, &["receipt_handle"]);
    let none = client.ack("mixed-acks", "mixed-acks", &[]).await;
    refused(&none.status, Code::BadRequest, &["entries"]);
    assert_finished(&broker, "mixed-acks").await;
}

// 70
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_lease_has_another_handle_and_end() {
    let (_broker, client, taken) = leased("changed", &["1"]).await;
    let old = handle(&taken[0]);
    let begun = Instant::now();
    let length = prost_types::Duration { seconds: 1, nanos: 700_000_000 };
    let request =
        ChangeInvisibleDurationRequest { invisible_duration: Some(length), ..change("changed", "changed", old, 0) };
    let changed = client.change(request).await;
    assert_eq!(code(&changed.status), Code::Ok);
    assert_ne!(changed.receipt_handle, old);
    refused(&client.ack("changed", "changed", &[old]).await.status, Code::InvalidReceiptHandle, &[]);
    refused(&client.change(change("changed", "changed", old, 2)).await.status, Code::InvalidReceiptHandle, &[]);
    let again = client.take_one("changed", "changed").await;
    let took = begun.elapsed();
    assert!((Duration::from_millis(1_690)..Duration::from_secs(4)).contains(&took), "{took:?}");
    assert_eq!(attempt(&again), 2);
    let late = client.ack_one("changed", "changed", &changed.receipt_handle).await;
    assert_eq!(late, Code::InvalidReceiptHandle, "of an earlier delivery");
    assert_eq!(client.ack_one("changed", "changed", handle(&again)).await, Code::Ok);
}

// 70
#[tokio::test(flavor = "multi_thread")]
async fn a_lengthened_lease_is_settled_by_its_new_handle() {
    let (broker, client, taken) = leased("lengthened", &["1"]).await;
    let mut current = handle(&taken[0]).to_owned();
    for _ in 0..3 {
        let changed = client.change(change("lengthened", "lengthened", &current, 12 * 3600)).await;
        assert_eq!(code(&changed.status), Code::Ok);
        current = changed.receipt_handle;
    }
    assert_eq!(client.ack_one("lengthened", "lengthened", &current).await, Code::Ok);
    assert_finished(&broker, "lengthened").await;
}

// 71
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_given_up_is_visible_at_once() {
    let (_broker, client, taken) = leased("given-up", &["1"]).await;
    let mut current = taken[0].clone();
    // Suspended deliveries do not count.
    for (suspend, expected) in [(None, 2), (Some(false), 3), (Some(true), 3), (Some(true), 3), (None, 4)] {
        let begun = Instant::now();
        let request = ChangeInvisibleDurationRequest { suspend, ..change("given-up", "given-up", handle(&current), 0) };
        assert_eq!(code(&client.change(request).await.status), Code::Ok);
        current = client.take_one("given-up", "given-up").await;
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert_eq!(attempt(&current), expected, "suspend is {suspend:?}");
    }
}

// 72
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_change_gives_the_handle_back() {
    let (_broker, client, taken) = leased("kept", &["1"]).await;
    let good = handle(&taken[0]);
    let cases = [
        (change("kept", "kept", "garbage", 10), Code::InvalidReceiptHandle, "receipt_handle"),
        (change("kept", "kept", good, -1), Code::IllegalInvisibleTime, "invisible_duration"),
        (change("kept", "kept", good, 12 * 3600 + 1), Code::IllegalInvisibleTime, "43200000"),
        (change("", "kept", good, 10), Code::IllegalTopic, "topic"),
        (change("kept", "", good, 10), Code::IllegalConsumerGroup, "group"),
        (change("kept", "another", good, 10), Code::InvalidReceiptHandle, "group"),
    ];
    for (request, expected, word) in cases {
        let given = request.receipt_handle.clone();
        let answer = client.change(request).await;
        refused(&answer.status, expected, &[word]);
        assert_eq!(answer.receipt_handle, given);
    }
    // Not even a client that cannot be told from others loses it.
    let overlong = "c".repeat(1025);
    for (id, expected) in [("", Code::ClientIdRequired), (overlong.as_str(), Code::BadRequest)] {
        let unheard = Client { id: id.to_owned(), ..client.clone() };
        let answer = unheard.change(change("kept", "kept", good, 10)).await;
        refused(&answer.status, expected, &["x-mq-client-id"]);
        assert_eq!(answer.receipt_handle, good);
    }
    assert_eq!(client.ack_one("kept", "kept", good).await, Code::Ok, "the lease is as it was");
}

// 74
#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_held_is_given_on_when_it_says_goodbye() {
    let broker = Broker::shared().await;
    broker.topic("goodbye").await;
    let leaving = broker.client("goodbye-leaving").await;
    leaving.publish("goodbye", &["1", "2"]).await;
    let mut held = Vec::new();
    while held.len() < 2 {
        held.extend(leaving.receive(receive_renewed("goodbye", "goodbye")).await.messages);
    }
    let staying = broker.client("goodbye-staying").await;
    let poll = tokio::spawn(async move { staying.take("goodbye", "goodbye", 2).await });
    broker.until_parked("goodbye", "goodbye", 1).await;
    let begun = Instant::now();
    let request = NotifyClientTerminationRequest { group: named("goodbye") };
    let answer = leaving.rpc.clone().notify_client_termination(leaving.request(request)).await;
    assert_eq!(code(&answer.expect("a status").into_inner().status), Code::Ok);
    let taken = poll.await.expect("no panic");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(taken.iter().all(|message| attempt(message) == 2), "{taken:?}");
    for message in &held {
        let late = leaving.ack_one("goodbye", "goodbye", handle(message)).await;
        assert_eq!(late, Code::InvalidReceiptHandle, "after release");
    }
}

// Of the contract's section 6.11: nobody is refused for leaving.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_client_may_say_goodbye() {
    let broker = Broker::shared().await;
    let client = broker.client("unheard-of").await;
    for group in [None, named("any"), named("")] {
        let request = client.request(NotifyClientTerminationRequest { group });
        let answer = client.rpc.clone().notify_client_termination(request).await.expect("a status");
        assert_eq!(code(&answer.into_inner().status), Code::Ok);
    }
}

// 76
#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_buried_once_by_its_id_or_its_handle() {
    let (broker, client, taken) = leased("buried", &["by-id", "by-handle"]).await;
    let by_handle = taken.iter().find(|message| id(message) == "by-handle").expect("it has come");
    let with_handle = || ForwardMessageToDeadLetterQueueRequest {
        receipt_handle: handle(by_handle).to_owned(),
        ..bury("buried", "by-handle")
    };
    for _ in 0..3 {
        assert_eq!(client.dead_letter(bury("buried", "by-id")).await, Code::Ok);
        assert_eq!(client.dead_letter(with_handle()).await, Code::Ok);
    }
    assert_finished(&broker, "buried").await;
    let dead = client.take("%DLQ%buried", "buried-readers", 2).await;
    for (message, original) in
        dead.iter().map(|dead| (dead, taken.iter().find(|message| id(message) == id(dead)).expect("the same id")))
    {
        assert_eq!(message.body, original.body);
        assert_eq!((message.topic.clone(), attempt(message)), (named("%DLQ%buried"), 1));
        let origin = system(message).dead_letter_queue.as_ref().expect("where it came from");
        assert_eq!((origin.topic.as_str(), &origin.message_id), ("buried", &id(original)));
    }
    let others = broker.backlog("buried-readers", "%DLQ%buried").await;
    assert_eq!((others.ready, others.in_flight, others.waiting), (0, 2, 0), "one copy of each");
}

// 76
#[tokio::test(flavor = "multi_thread")]
async fn only_its_holder_buries_a_message_by_id() {
    let (broker, client, _taken) = leased("held", &["1"]).await;
    let stranger = broker.client("held-by-another").await;
    stranger.dead_letter(bury("held", "1")).await;
    assert_eq!(broker.backlog("held", "held").await.in_flight, 1, "it is still leased");
    let refused = client.dead_letter(bury("held", " ")).await;
    assert_eq!(refused, Code::InvalidReceiptHandle, "neither handle nor id");
}

// 77, by nacks; by leases that end it is with the long times.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_refused_too_often_is_buried() {
    /// What a group has that nobody made by hand.
    const MAX_ATTEMPTS: i32 = 17;
    let broker = Broker::shared().await;
    broker.topic("hopeless").await;
    let client = broker.client("hopeless").await;
    client.publish("hopeless", &["1"]).await;
    for expected in 1..=MAX_ATTEMPTS {
        let taken = client.take_one("hopeless", "hopeless").await;
        assert_eq!(attempt(&taken), expected);
        let nack = client.change(change("hopeless", "hopeless", handle(&taken), 0)).await;
        assert_eq!(code(&nack.status), Code::Ok);
    }
    // The receive that would be one delivery more gets what was sent after it.
    client.publish("hopeless", &["2"]).await;
    assert_eq!(id(&client.take_one("hopeless", "hopeless").await), "2");
    let dead = client.take_one("%DLQ%hopeless", "hopeless-readers").await;
    assert_eq!((id(&dead).as_str(), attempt(&dead)), ("1", 1));
    let left = broker.backlog("hopeless", "hopeless").await;
    assert_eq!((left.ready, left.in_flight, left.waiting), (0, 1, 0));
}
