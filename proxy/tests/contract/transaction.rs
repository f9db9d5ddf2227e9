use std::time::Duration;

use centaur_apis::{
    log::{Resolution, TopicType},
    store::{Check, Error, Reason},
    v2::{telemetry_command::Command, *},
};
use tokio::time::timeout;

use crate::{
    fake_store::{UNKNOWN_TICKET, delivery},
    harness::*,
    telemetry::{open, producer, say, told},
};

fn half(topic: &str, id: &str) -> Message {
    message_with(topic, id, |system| {
        system.message_type = MessageType::Transaction.into();
        system.orphaned_transaction_recovery_duration = Some(seconds(10));
    })
}

#[tokio::test]
async fn a_half_message_names_its_transaction() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Transaction, 4);
        let answer = send(&mut h.client, vec![half("orders", "1")]).await;
        let entry = &answer.entries[0];
        assert_eq!(code(answer.status.as_ref()), Code::Ok);
        assert_eq!((entry.transaction_id.as_str(), entry.recall_handle.as_str()), ("ticket-0", ""));
        let first_check_ms = h.store.world().waiting[0].half.map(|half| half.first_check_ms);
        assert_eq!(first_check_ms, Some(10_000));
    })
    .await;
}

#[tokio::test]
async fn concurrent_ends_share_calls_and_keep_their_own_results() {
    both(async |h: Harness| {
        h.store.gate.forget_permits(1_000);
        let ends = (0..100).map(|i| {
            let mut client = h.client.clone();
            let request = EndTransactionRequest {
                topic: named("orders"),
                transaction_id: if i % 10 == 7 { UNKNOWN_TICKET.to_owned() } else { i.to_string() },
                resolution: TransactionResolution::Commit.into(),
                ..Default::default()
            };
            tokio::spawn(async move {
                let answer = client.end_transaction(ours(request)).await.expect("a status").into_inner();
                code(answer.status.as_ref())
            })
        });
        let ends: Vec<_> = ends.collect();
        h.store.until("a call waits", |world| world.end_calls > 0).await;
        h.store.gate.add_permits(1_000);
        for (i, end) in ends.into_iter().enumerate() {
            let expected = if i % 10 == 7 { Code::InvalidTransactionId } else { Code::Ok };
            assert_eq!(end.await.expect("no panic"), expected, "{i}");
        }
        let calls = h.store.world().end_calls;
        assert!(calls < 50, "{calls} calls for 100 ends");
    })
    .await;
}

#[tokio::test]
async fn a_transaction_ends_as_its_producer_says() {
    both(async |mut h: Harness| {
        let end = async |h: &mut Harness, id: &str, resolution: TransactionResolution| {
            let request = EndTransactionRequest {
                topic: named("orders"),
                message_id: "1".into(),
                transaction_id: id.into(),
                resolution: resolution.into(),
                ..Default::default()
            };
            let answer = h.client.end_transaction(ours(request)).await.expect("a status").into_inner();
            code(answer.status.as_ref())
        };
        assert_eq!(end(&mut h, "t", TransactionResolution::Commit).await, Code::Ok);
        assert_eq!(end(&mut h, "t", TransactionResolution::Rollback).await, Code::Ok);
        assert_eq!(end(&mut h, "t", TransactionResolution::Unspecified).await, Code::Ok);
        assert_eq!(end(&mut h, "  ", TransactionResolution::Commit).await, Code::InvalidTransactionId);
        let said: Vec<_> = {
            let world = h.store.world();
            world.ends.iter().map(|end| (end.ticket.clone(), end.message_id.clone(), end.resolution())).collect()
        };
        let of = |resolution| ("t".to_owned(), "1".to_owned(), resolution);
        assert_eq!(said, [of(Resolution::Committed), of(Resolution::RolledBack)], "not knowing changes nothing");
        h.store.world().error = Some(Error::new(Reason::TransactionNotFound, "no such transaction"));
        assert_eq!(end(&mut h, "t", TransactionResolution::Commit).await, Code::InvalidTransactionId);
    })
    .await;
}

/// Has the store ask about half messages of a topic.
async fn ask_about(h: &mut Harness, topic: &str, ids: &[&str]) {
    for id in ids {
        send(&mut h.client, vec![half(topic, id)]).await;
    }
    let mut world = h.store.world();
    let checks: Vec<Check> = world
        .waiting
        .iter()
        .zip(ids)
        .map(|(message, id)| Check {
            topic: topic.into(),
            ticket: format!("ticket of {id}"),
            message: Some(delivery(message, 0, 0)),
        })
        .collect();
    world.checks = checks;
}

async fn asked(stream: &mut tonic::Streaming<TelemetryCommand>) -> RecoverOrphanedTransactionCommand {
    let frame = timeout(Duration::from_secs(10), stream.message()).await.expect("in time").expect("well");
    match frame.and_then(|frame| frame.command) {
        Some(Command::RecoverOrphanedTransactionCommand(command)) => command,
        other => panic!("{other:?} is not a question about a transaction"),
    }
}

#[tokio::test(start_paused = true)]
async fn producers_of_the_topic_are_asked_in_turn() {
    let mut h = Harness::local(|_| ());
    h.store.add_topic("orders", TopicType::Transaction, 4);
    let mut streams = Vec::new();
    for (id, topic) in [("a", "orders"), ("b", "orders"), ("c", "invoices")] {
        let (out, mut stream) = open(&mut h.client, id).await;
        say(&out, producer(&[topic])).await;
        told(&mut stream).await;
        streams.push((out, stream));
    }
    ask_about(&mut h, "orders", &["1", "2"]).await;
    let running = h.proxy.clone();
    tokio::spawn(async move { running.run(std::future::pending()).await });
    let mut ids = Vec::new();
    for (_, stream) in &mut streams[..2] {
        let question = asked(stream).await;
        let message = question.message.expect("the half message");
        let system = message.system_properties.expect("set");
        assert_eq!(question.transaction_id, format!("ticket of {}", system.message_id));
        assert_eq!(message.topic, named("orders"));
        assert!(system.body_digest.is_some() && system.born_timestamp.is_some());
        assert_eq!(system.receipt_handle, None);
        ids.push(system.message_id);
    }
    ids.sort_unstable();
    assert_eq!(ids, ["1", "2"], "each is asked one of the two");
    assert!(timeout(Duration::from_secs(5), streams[2].1.message()).await.is_err(), "another topic's producer");
}

#[tokio::test(start_paused = true)]
async fn who_sent_a_half_message_is_asked_before_it_names_the_topic() {
    let mut h = Harness::local(|_| ());
    h.store.add_topic("orders", TopicType::Transaction, 4);
    let running = h.proxy.clone();
    tokio::spawn(async move { running.run(std::future::pending()).await });
    let (out, mut stream) = open(&mut h.client, CLIENT).await;
    say(&out, producer(&[])).await;
    told(&mut stream).await;
    ask_about(&mut h, "orders", &["1"]).await;
    assert_eq!(asked(&mut stream).await.transaction_id, "ticket of 1");
}

#[tokio::test(start_paused = true)]
async fn a_question_nobody_can_be_asked_stays_with_the_store() {
    let mut h = Harness::local(|_| ());
    h.store.add_topic("orders", TopicType::Transaction, 4);
    let running = h.proxy.clone();
    tokio::spawn(async move { running.run(std::future::pending()).await });
    let (out, mut stream) = open(&mut h.client, "other").await;
    say(&out, producer(&["invoices"])).await;
    told(&mut stream).await;
    ask_about(&mut h, "orders", &["1"]).await;
    assert!(timeout(Duration::from_secs(10), stream.message()).await.is_err());
    assert_eq!(h.store.world().checks.len(), 1);
}
