//! Places in queues: pulls without leases, and where a group is.

use std::sync::Arc;

use centaur_apis::v2::{pull_message_response::Content, *};

use super::{
    broker::{Broker, group, topic},
    client::*,
};
use crate::harness::Options;

/// A topic with one queue that holds messages `0` to `4`.
async fn five(broker: &Broker, name: &str) -> Client {
    broker.put_topic(topic(name, 1)).await;
    let client = broker.client(name).await;
    client.publish(name, &["0", "1", "2", "3", "4"]).await;
    client
}

fn queue(topic: &str) -> Option<MessageQueue> {
    Some(MessageQueue { topic: named(topic), ..Default::default() })
}

async fn pull(client: &Client, topic: &str, offset: i64) -> (Code, Vec<String>, Option<i64>) {
    let request = PullMessageRequest {
        group: named(topic),
        message_queue: queue(topic),
        offset,
        batch_size: 2,
        filter_expression: None,
        long_polling_timeout: Some(seconds(5)),
    };
    let mut stream = client.rpc.clone().pull_message(client.request(request)).await.expect("frames").into_inner();
    let (mut pulled, mut ids, mut next) = (Code::Unspecified, Vec::new(), None);
    while let Some(frame) = stream.message().await.expect("the stream ends well") {
        match frame.content.expect("no frame is empty") {
            Content::Status(status) => pulled = status.code(),
            Content::Message(message) => {
                assert_eq!(system(&message).receipt_handle, None);
                assert!(system(&message).body_digest.is_some());
                ids.push(id(&message));
            }
            Content::NextOffset(offset) => next = Some(offset),
        }
    }
    (pulled, ids, next)
}

/// Where a place in the first queue of a topic is.
pub async fn query(client: &Client, topic: &str, policy: QueryOffsetPolicy, at: Option<prost_types::Timestamp>) -> i64 {
    let request = QueryOffsetRequest { message_queue: queue(topic), query_offset_policy: policy.into(), timestamp: at };
    let answer = client.rpc.clone().query_offset(client.request(request)).await.expect("a status").into_inner();
    assert_eq!(code(&answer.status), Code::Ok, "{answer:?}");
    answer.offset
}

async fn get(client: &Client, topic: &str, group: &str) -> (Code, i64) {
    let request = GetOffsetRequest { group: named(group), message_queue: queue(topic) };
    let answer = client.rpc.clone().get_offset(client.request(request)).await.expect("a status").into_inner();
    (code(&answer.status), answer.offset)
}

async fn update(client: &Client, topic: &str, group: &str, offset: i64) -> Code {
    let request = UpdateOffsetRequest { group: named(group), message_queue: queue(topic), offset };
    let answer = client.rpc.clone().update_offset(client.request(request)).await.expect("a status").into_inner();
    code(&answer.status)
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

// 11, of the contract's section 6.13
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_pulled_from_any_place() {
    let broker = Broker::shared().await;
    let client = five(&broker, "pulled").await;
    assert_eq!(pull(&client, "pulled", 0).await, (Code::Ok, strings(&["0", "1"]), Some(2)));
    assert_eq!(pull(&client, "pulled", 4).await, (Code::Ok, strings(&["4"]), Some(5)));
    assert_eq!(pull(&client, "pulled", 5).await, (Code::MessageNotFound, vec![], Some(5)));
    assert_eq!(pull(&client, "pulled", 6).await.0, Code::IllegalOffset);
    assert_eq!(pull(&client, "pulled", -1).await.0, Code::IllegalOffset);
    assert_eq!(pull(&client, "pulled-nowhere", 0).await.0, Code::TopicNotFound);
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { pull(&client, "pulled", 5).await })
    };
    client.publish("pulled", &["5"]).await;
    assert_eq!(waiting.await.expect("no panic"), (Code::Ok, strings(&["5"]), Some(6)));
}

// 11
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_says_where_it_begins_and_ends() {
    let broker = Broker::shared().await;
    let client = five(&broker, "queried").await;
    assert_eq!(query(&client, "queried", QueryOffsetPolicy::Beginning, None).await, 0);
    assert_eq!(query(&client, "queried", QueryOffsetPolicy::End, None).await, 5);
    assert_eq!(query(&client, "queried", QueryOffsetPolicy::Timestamp, Some(in_seconds(-3600))).await, 0);
    assert_eq!(query(&client, "queried", QueryOffsetPolicy::Timestamp, Some(in_seconds(3600))).await, 5);
}

// 11
#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_where_it_was_put() {
    let broker = Broker::shared().await;
    let name = "placed";
    let client = five(&broker, name).await;
    assert_eq!(get(&client, name, name).await.0, Code::OffsetNotFound);
    assert_eq!(update(&client, name, name, 3).await, Code::Ok);
    assert_eq!(get(&client, name, name).await, (Code::Ok, 3));
    let taken = client.take(name, name, 2).await;
    assert_eq!(taken.iter().map(id).collect::<Vec<_>>(), ["3", "4"]);
    assert_eq!(update(&client, name, name, 6).await, Code::IllegalOffset);
    assert_eq!(update(&client, name, name, -1).await, Code::IllegalOffset);
    assert_eq!(update(&client, "placed-nowhere", name, 0).await, Code::TopicNotFound);
    assert_eq!(get(&client, "placed-nowhere", name).await.0, Code::TopicNotFound);
    assert_eq!(client.ack_one(name, name, handle(&taken[0])).await, Code::Ok);
    assert_eq!(get(&client, name, name).await, (Code::Ok, 4));
    assert_eq!(update(&client, name, name, 0).await, Code::Ok);
    let again = client.take(name, name, 5).await;
    assert_eq!(again.iter().map(id).collect::<Vec<_>>(), ["0", "1", "2", "3", "4"]);
}

// 11: where groups come into being by use, being put somewhere is a use.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_nobody_made_is_put_nowhere_unless_use_makes_groups() {
    let server = Options::default().set("groups.auto_create", "false").start();
    let broker = Broker::of(Arc::new(server)).await;
    let name = "unmade";
    let client = five(&broker, name).await;
    assert_eq!(update(&client, name, name, 3).await, Code::ConsumerGroupNotFound);
    assert_eq!(get(&client, name, name).await.0, Code::OffsetNotFound);
    assert_eq!(client.receive(receive(name, name)).await.code(), Code::ConsumerGroupNotFound);
    broker.put_group(group(name)).await;
    assert_eq!(update(&client, name, name, 3).await, Code::Ok);
    assert_eq!(get(&client, name, name).await, (Code::Ok, 3));
}
