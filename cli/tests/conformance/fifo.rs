//! Ordered groups: what shares a message group comes one after the other.

use centaur_apis::{log::TopicType, store::PutGroupRequest, v2::*};

use super::{
    broker::{Broker, group},
    client::*,
};

/// A FIFO topic with messages `1` to `count` of message group `g`, and an ordered consumer group of
/// the same name.
pub async fn ordered(broker: &Broker, name: &str, count: usize) -> Client {
    broker.typed_topic(name, TopicType::Fifo).await;
    broker.put_group(PutGroupRequest { fifo: Some(true), ..group(name) }).await;
    let client = broker.client(name).await;
    client.store((1..=count).map(|i| of(name, &format!("{i}"), "g")).collect()).await;
    client
}

fn of(topic: &str, id: &str, group: &str) -> Message {
    message_with(topic, id, |system| system.message_group = Some(group.into()))
}

fn one(name: &str) -> ReceiveMessageRequest {
    ReceiveMessageRequest { batch_size: 1, ..receive(name, name) }
}

// 78
#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_flight_holds_up_its_message_group_and_no_other() {
    let broker = Broker::shared().await;
    let name = "fifo-locked";
    let client = ordered(&broker, name, 2).await;
    let other = broker.client("fifo-locked-other").await;
    let first = client.receive(one(name)).await;
    assert_eq!(first.ids(), ["1"]);
    client.store(vec![of(name, "h1", "h")]).await;
    assert_eq!(other.receive(receive(name, name)).await.ids(), ["h1"], "another message group goes on");
    assert_eq!(other.receive(receive(name, name)).await.code(), Code::MessageNotFound);
    assert_eq!(client.ack_one(name, name, handle(&first.messages[0])).await, Code::Ok);
    assert_eq!(other.receive(receive(name, name)).await.ids(), ["2"]);
}

// 78
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_woken_when_the_message_before_is_settled() {
    let broker = Broker::shared().await;
    let name = "fifo-woken";
    let client = ordered(&broker, name, 2).await;
    let first = client.receive(one(name)).await;
    let waiting = {
        let other = broker.client("fifo-woken-other").await;
        let request = ReceiveMessageRequest { long_polling_timeout: Some(seconds(20)), ..receive(name, name) };
        tokio::spawn(async move { other.receive(request).await })
    };
    broker.until_parked(name, name, 1).await;
    assert_eq!(client.ack_one(name, name, handle(&first.messages[0])).await, Code::Ok);
    assert_eq!(waiting.await.expect("no panic").ids(), ["2"]);
}

// 79, by nacks; by leases that end it is with the long times.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acked_comes_again_in_order() {
    let broker = Broker::shared().await;
    let name = "fifo-again";
    let client = ordered(&broker, name, 4).await;
    let batch = client.receive(receive(name, name)).await.messages;
    assert_eq!(batch.iter().map(id).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    assert_eq!(client.ack_one(name, name, handle(&batch[1])).await, Code::Ok, "before the first one");
    for message in [&batch[0], &batch[2], &batch[3]] {
        let changed = client.change(change(name, name, handle(message), 0)).await;
        assert_eq!(code(&changed.status), Code::Ok);
    }
    let again = client.take(name, name, 3).await;
    let seen: Vec<(String, i32)> = again.iter().map(|message| (id(message), attempt(message))).collect();
    assert_eq!(seen, [("1".to_owned(), 2), ("3".to_owned(), 2), ("4".to_owned(), 2)]);
}

// 94: the C++ push consumer never lets go of one among several that fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_consumer_in_cpp_gets_what_is_in_order_one_by_one() {
    let broker = Broker::shared().await;
    let name = "fifo-cpp";
    let client = ordered(&broker, name, 2).await;
    client.store(vec![of(name, "h1", "h")]).await;
    let asked_by = async |kind: ClientType, id: &str| {
        let consumer = broker.client(id).await;
        assert_eq!(consumer.heartbeat(kind, name).await, Code::Ok);
        let mut request = consumer.request(receive(name, name));
        request.metadata_mut().insert("x-mq-language", "CPP".parse().expect("ASCII"));
        consumer.receive_by(request).await
    };
    let pushed = asked_by(ClientType::PushConsumer, "fifo-cpp-push").await;
    assert_eq!(pushed.messages.len(), 1);
    assert_eq!(client.ack_one(name, name, handle(&pushed.messages[0])).await, Code::Ok);
    assert_eq!(asked_by(ClientType::SimpleConsumer, "fifo-cpp-simple").await.messages.len(), 2);
}

// 80
#[tokio::test(flavor = "multi_thread")]
async fn a_receive_tried_again_gets_what_was_lost_on_its_way() {
    let broker = Broker::shared().await;
    let name = "fifo-lost";
    let client = ordered(&broker, name, 3).await;
    let trying = |attempt: &str| ReceiveMessageRequest {
        attempt_id: Some(attempt.into()),
        auto_renew: true,
        ..receive(name, name)
    };
    let first = client.receive(trying("try")).await;
    assert_eq!(first.ids(), ["1", "2", "3"]);
    let again = client.receive(trying("try")).await;
    assert_eq!(again.ids(), first.ids());
    assert!(again.messages.iter().all(|message| attempt(message) == 1), "{again:?}");
    assert_eq!(client.receive(trying("another")).await.code(), Code::MessageNotFound);
}
