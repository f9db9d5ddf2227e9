//! Delayed messages: delivered at their time, or taken back before it.

use std::time::{Duration, SystemTime};

use centaur_apis::{log::TopicType, v2::*};

use super::{broker::Broker, client::*, timely::timely};

/// How late a message may come.
const LATE: Duration = Duration::from_secs(2);

fn delayed(topic: &str, id: &str, due: prost_types::Timestamp) -> Message {
    message_with(topic, id, |system| system.delivery_timestamp = Some(due))
}

/// Seconds from then to now.
fn since(at: prost_types::Timestamp) -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    now - at.seconds as f64 - f64::from(at.nanos) / 1e9
}

// 84
#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_message_comes_at_its_time_and_a_recalled_one_never() {
    let broker = Broker::shared().await;
    timely(LATE, async |turn| how_late(&broker, &format!("delayed-{turn}")).await).await;
}

/// How long after its time a delayed message came.
async fn how_late(broker: &Broker, name: &str) -> Duration {
    broker.typed_topic(name, TopicType::Delay).await;
    let client = broker.client(name).await;
    // All that has to come before it does so on a busy machine, too.
    let due = prost_types::Timestamp { nanos: 250_000_000, ..in_seconds(5) };
    let recalled = client.store(vec![delayed(name, "recalled", due)]).await.remove(0);
    let kept = client.store(vec![delayed(name, "kept", due)]).await.remove(0);
    assert!(!recalled.recall_handle.is_empty() && recalled.recall_handle != kept.recall_handle);
    let answer = client.recall(name, &recalled.recall_handle).await;
    assert_eq!((code(&answer.status), answer.message_id.as_str()), (Code::Ok, "recalled"));

    let request = ReceiveMessageRequest { long_polling_timeout: Some(seconds(20)), ..receive(name, name) };
    let received = client.receive(request).await;
    let late = since(due);
    assert_eq!(received.ids(), ["kept"]);
    assert!(late >= 0.0, "{} s before its time", -late);
    let system = system(&received.messages[0]);
    assert_eq!((system.message_type(), system.delivery_attempt), (MessageType::Delay, Some(1)));
    assert_eq!(system.delivery_timestamp, Some(due));
    assert_eq!(client.receive(receive(name, name)).await.code(), Code::MessageNotFound);
    assert_eq!(code(&client.recall(name, &kept.recall_handle).await.status), Code::NotFound, "too late");
    Duration::from_secs_f64(late)
}

// 84, of the contract's section 13.2: docs/decisions/0012-a-recall-may-be-repeated.md.
#[tokio::test(flavor = "multi_thread")]
async fn a_recall_may_be_repeated() {
    let broker = Broker::shared().await;
    let name = "recall-again";
    broker.typed_topic(name, TopicType::Delay).await;
    let client = broker.client(name).await;
    let due = prost_types::Timestamp { nanos: 250_000_000, ..in_seconds(3) };
    let recalled = client.store(vec![delayed(name, "1", due)]).await.remove(0);
    let marker = client.store(vec![delayed(name, "marker", due)]).await.remove(0);
    let recall = async || {
        let answer = client.recall(name, &recalled.recall_handle).await;
        (code(&answer.status), answer.message_id)
    };
    let first = recall().await;
    assert_eq!(first, (Code::Ok, "1".to_owned()));
    assert_eq!(recall().await, first);
    assert_eq!(id(&client.take_one(name, name).await), "marker");
    // Both are past their time now: the one was recalled, the other was not.
    assert_eq!(recall().await, first);
    assert_eq!(code(&client.recall(name, &marker.recall_handle).await.status), Code::NotFound);
}

// Of the contract's section 13.2
#[tokio::test(flavor = "multi_thread")]
async fn a_recall_that_cannot_be_is_refused() {
    let broker = Broker::shared().await;
    broker.typed_topic("recall", TopicType::Mixed).await;
    broker.typed_topic("recall-other", TopicType::Delay).await;
    broker.topic("recall-plain").await;
    let client = broker.client("recall").await;
    let entry = client.store(vec![delayed("recall", "1", in_seconds(600))]).await.remove(0);
    for (topic, handle, expected) in [
        ("recall", "garbage", Code::BadRequest),
        ("recall", "", Code::BadRequest),
        ("recall-other", entry.recall_handle.as_str(), Code::BadRequest),
        ("recall-plain", entry.recall_handle.as_str(), Code::MessagePropertyConflictWithType),
        ("recall-nowhere", entry.recall_handle.as_str(), Code::TopicNotFound),
        ("recall", entry.recall_handle.as_str(), Code::Ok),
    ] {
        let answer = client.recall(topic, handle).await;
        assert_eq!(code(&answer.status), expected, "{topic} {handle:?}: {answer:?}");
    }
    let batch = vec![delayed("recall", "2", in_seconds(600)), delayed("recall", "3", in_seconds(600))];
    let entries = client.store(batch).await;
    assert!(entries.iter().all(|entry| entry.recall_handle.is_empty()), "{entries:?}");
}
