//! Half messages: invisible until their transaction is committed; who is silent is asked.

use std::{sync::Arc, time::Duration};

use centaur_apis::{
    log::TopicType,
    v2::{telemetry_command::Command, *},
};
use tokio::time::timeout;

use super::{broker::Broker, client::*};
use crate::harness::Options;

/// Far more than a question takes with the intervals set below.
const PATIENCE: Duration = Duration::from_secs(15);

fn half(topic: &str, id: &str) -> Message {
    message_with(topic, id, |system| {
        system.message_type = MessageType::Transaction.into();
        system.tag = Some("red".into());
    })
}

/// Sends a half message; the id of its transaction.
async fn begin(client: &Client, topic: &str, id: &str) -> String {
    let entry = client.store(vec![half(topic, id)]).await.remove(0);
    assert_eq!((entry.message_id.as_str(), entry.recall_handle.as_str()), (id, ""));
    assert!(!entry.transaction_id.is_empty());
    entry.transaction_id
}

// 81, 83
#[tokio::test(flavor = "multi_thread")]
async fn the_first_word_on_a_transaction_stands() {
    use TransactionResolution as R;
    let broker = Broker::shared().await;
    let name = "transactions";
    broker.typed_topic(name, TopicType::Transaction).await;
    let client = broker.client(name).await;
    let (committed, rolled_back, unknown) =
        (begin(&client, name, "1").await, begin(&client, name, "2").await, begin(&client, name, "3").await);
    assert_eq!(client.receive(receive(name, name)).await.code(), Code::MessageNotFound, "all are invisible");
    let other = broker.client("transactions-other").await;
    assert_eq!(other.end_transaction(name, &committed, R::Commit).await, Code::Ok, "another client may");
    assert_eq!(client.end_transaction(name, &rolled_back, R::Rollback).await, Code::Ok);
    assert_eq!(client.end_transaction(name, &unknown, R::Unspecified).await, Code::Ok);
    let message = client.take_one(name, name).await;
    assert_eq!((id(&message).as_str(), system(&message).message_type()), ("1", MessageType::Transaction));
    for (transaction, resolution) in [
        (&committed, R::Commit),
        (&committed, R::Rollback),
        (&rolled_back, R::Rollback),
        (&rolled_back, R::Commit),
        (&unknown, R::Unspecified),
    ] {
        assert_eq!(client.end_transaction(name, transaction, resolution).await, Code::Ok, "{resolution:?} again");
    }
    assert_eq!(client.receive(receive(name, name)).await.code(), Code::MessageNotFound, "nothing came of it");
    assert_eq!(client.end_transaction(name, " ", R::Commit).await, Code::InvalidTransactionId);
    assert_eq!(client.end_transaction(name, "garbage", R::Commit).await, Code::InvalidTransactionId);
    assert_eq!(client.end_transaction(name, &unknown, R::Commit).await, Code::Ok);
    assert_eq!(id(&client.take_one(name, name).await), "3");
}

async fn question(line: &mut Line) -> RecoverOrphanedTransactionCommand {
    let frame = timeout(PATIENCE, line.hear()).await.expect("a question comes");
    match frame.command {
        Some(Command::RecoverOrphanedTransactionCommand(question)) => question,
        other => panic!("{other:?} is no question"),
    }
}

// 82, 83
#[tokio::test(flavor = "multi_thread")]
async fn producers_are_asked_until_one_knows() {
    let server = Options::default().set("transaction.timeout", "1s").set("transaction.check_interval", "1s").start();
    let broker = Broker::of(Arc::new(server)).await;
    let name = "asked";
    broker.typed_topic(name, TopicType::Mixed).await;
    let client = broker.client(name).await;
    let transaction = begin(&client, name, "1").await;
    let asked = broker.client("asked-producer").await;
    let mut line = asked.telemetry().await;
    line.settle(producer(&[name])).await;
    for _ in 0..2 {
        let question = question(&mut line).await;
        assert_eq!(question.transaction_id, transaction);
        let message = question.message.expect("the half message");
        assert_eq!(message.topic, named(name));
        assert_eq!(message.body, "body of 1");
        let system = system(&message);
        assert_eq!((system.message_id.as_str(), system.tag.as_deref()), ("1", Some("red")));
        assert!(system.body_digest.is_some() && system.born_timestamp.is_some(), "{system:?}");
        assert_eq!(system.receipt_handle, None);
    }
    assert_eq!(asked.end_transaction(name, &transaction, TransactionResolution::Commit).await, Code::Ok);
    assert_eq!(id(&client.take_one(name, name).await), "1");
}

// 82
#[tokio::test(flavor = "multi_thread")]
async fn a_half_message_says_itself_when_to_ask() {
    let broker = Broker::shared().await;
    let name = "asked-soon";
    broker.typed_topic(name, TopicType::Transaction).await;
    let client = broker.client(name).await;
    let mut line = client.telemetry().await;
    // It is known as a producer of the topic by what it sends.
    line.settle(producer(&[])).await;
    let mut patient = half(name, "patient");
    patient.system_properties.as_mut().expect("set").orphaned_transaction_recovery_duration = Some(seconds(600));
    client.store(vec![patient]).await;
    let mut hasty = half(name, "hasty");
    hasty.system_properties.as_mut().expect("set").orphaned_transaction_recovery_duration = Some(seconds(1));
    client.store(vec![hasty]).await;
    let asked = question(&mut line).await.message.expect("the half message");
    assert_eq!(id(&asked), "hasty");
}
