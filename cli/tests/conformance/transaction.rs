//! Half messages: invisible until their transaction is committed; who is silent is asked.

use std::{sync::Arc, time::Duration};

use centaur_apis::{
    log::TopicType,
    v2::{telemetry_command::Command, *},
};
use tokio::time::{Instant, timeout};

use super::{broker::Broker, client::*, long_times::TICKS};
use crate::harness::Options;

/// What comes on top of the time of a half message: questions are looked for once a second; the rest
/// is for a machine that is busy with other tests.
const SCAN_AND_SLACK: Duration = Duration::from_secs(4);

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
    match line.hear().await.command {
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

// 82, with the settings a server has by itself; the digest of "abc" is the test vector of RFC 1321.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_producer_is_asked_after_six_seconds_or_its_own_time() {
    let broker = Broker::shared().await;
    let name = "asked-in-time";
    broker.typed_topic(name, TopicType::Transaction).await;
    let client = broker.client(name).await;
    let mut line = client.telemetry().await;
    line.settle(producer(&[name])).await;
    let stranger = broker.client("asked-in-time-stranger").await;
    let mut deaf = stranger.telemetry().await;
    deaf.settle(producer(&["asked-in-time-elsewhere"])).await;
    let begin = async |id: &str, own: Option<i64>| {
        let mut half = half(name, id);
        half.body = "abc".into();
        half.system_properties.as_mut().expect("set").orphaned_transaction_recovery_duration = own.map(seconds);
        let begun = Instant::now();
        (begun, client.store(vec![half]).await.remove(0).transaction_id)
    };
    let by_default = begin("by default", None).await;
    let by_itself = begin("by itself", Some(2)).await;
    for (id, (begun, transaction), after) in [("by itself", by_itself, 2), ("by default", by_default, 6)] {
        let question = question(&mut line).await;
        let (took, after) = (begun.elapsed(), Duration::from_secs(after));
        assert!((after - TICKS..after + SCAN_AND_SLACK).contains(&took), "{id}: {took:?} instead of {after:?}");
        let message = question.message.expect("the half message");
        assert_eq!((super::client::id(&message).as_str(), question.transaction_id), (id, transaction));
        assert_eq!(message.topic, named(name));
        let digest = system(&message).body_digest.as_ref().expect("a digest");
        let expected = (DigestType::Md5, "900150983CD24FB0D6963F7D28E17F72");
        assert_eq!((digest.r#type(), digest.checksum.as_str()), expected);
    }
    let heard = timeout(Duration::from_millis(500), deaf.hear()).await;
    assert!(heard.is_err(), "it has nothing to do with the topic: {heard:?}");
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
