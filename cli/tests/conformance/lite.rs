//! Lite topics: many small ordered queues below one topic, each client with a choice of its own.

use std::time::Duration;

use centaur_apis::{
    log::{Lite, TopicType},
    store::PutGroupRequest,
    v2::{offset_option::OffsetType, settings::PubSub, telemetry_command::Command, *},
};
use tokio::time::timeout;

use super::{
    broker::{Broker, group},
    client::*,
};

/// Several rounds of whoever would tell a client something.
const SILENCE: Duration = Duration::from_secs(3);

/// Makes a LITE topic and a group bound to it, both of this name.
pub async fn rooms(broker: &Broker, name: &str, exclusive: bool) {
    broker.typed_topic(name, TopicType::Lite).await;
    bind(broker, name, name, exclusive).await;
}

async fn bind(broker: &Broker, topic: &str, name: &str, exclusive: bool) {
    let lite = Lite { topic: topic.into(), exclusive, ..Default::default() };
    broker.put_group(PutGroupRequest { lite: Some(lite), ..group(name) }).await;
}

pub fn into(topic: &str, id: &str, lite: &str) -> Message {
    message_with(topic, id, |system| system.lite_topic = Some(lite.into()))
}

pub fn sync(topic: &str, group: &str, action: LiteSubscriptionAction, names: &[&str]) -> SyncLiteSubscriptionRequest {
    SyncLiteSubscriptionRequest {
        action: action.into(),
        topic: named(topic),
        group: named(group),
        lite_topic_set: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

pub fn add(topic: &str, group: &str, name: &str) -> SyncLiteSubscriptionRequest {
    sync(topic, group, LiteSubscriptionAction::PartialAdd, &[name])
}

fn lite_client(group: &str, topic: &str) -> Settings {
    consumer(ClientType::LitePushConsumer, group, &[topic])
}

// 24
#[tokio::test(flavor = "multi_thread")]
async fn lite_consumers_are_told_their_quota() {
    let broker = Broker::shared().await;
    rooms(&broker, "lite-quota", false).await;
    for kind in [ClientType::LitePushConsumer, ClientType::LiteSimpleConsumer] {
        let mut line = broker.client(&format!("lite-quota-{kind:?}")).await.telemetry().await;
        let told = line.settle(consumer(kind, "lite-quota", &["lite-quota"])).await;
        let Some(PubSub::Subscription(told)) = told.pub_sub else { panic!("not a subscription") };
        assert!(told.lite_subscription_quota.is_some_and(|quota| quota > 0), "{told:?}");
        assert!(told.max_lite_topic_size.is_some_and(|size| size > 0), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_lite_topics_as_the_quota_allows_fit_one_request() {
    const NAMES: usize = 5_000;
    let broker = Broker::shared().await;
    let name = "lite-many";
    broker.typed_topic(name, TopicType::Lite).await;
    let lite = Lite { topic: name.into(), client_quota: NAMES as u32, ..Default::default() };
    broker.put_group(PutGroupRequest { lite: Some(lite), ..group(name) }).await;
    let names: Vec<String> = (0..NAMES).map(|i| format!("{i:0>64}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let client = broker.client(name).await;
    assert_eq!(client.sync_lite(sync(name, name, LiteSubscriptionAction::CompleteAdd, &names)).await, Code::Ok);
    client.store(vec![into(name, "last", names[NAMES - 1])]).await;
    assert_eq!(client.receive(receive(name, name)).await.ids(), ["last"]);
}

// 41, of the contract's section 14.5
#[tokio::test(flavor = "multi_thread")]
async fn a_lite_group_is_assigned_every_queue_at_once() {
    let broker = Broker::shared().await;
    rooms(&broker, "lite-assigned", false).await;
    let client = broker.client("lite-assigned").await;
    let request =
        QueryAssignmentRequest { topic: named("lite-assigned"), group: named("lite-assigned"), endpoints: None };
    let answer = client.rpc.clone().query_assignment(client.request(request)).await.expect("a status").into_inner();
    assert_eq!(code(&answer.status), Code::Ok);
    let ids: Vec<_> = answer.assignments.iter().filter_map(|a| a.message_queue.as_ref()).map(|q| q.id).collect();
    assert_eq!(ids, [-1]);
}

// 86
#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_to_those_who_subscribed_to_its_lite_topic() {
    let broker = Broker::shared().await;
    let name = "lite-rooms";
    rooms(&broker, name, false).await;
    let (cook, guard) = (broker.client("lite-cook").await, broker.client("lite-guard").await);
    assert_eq!(cook.sync_lite(sync(name, name, LiteSubscriptionAction::CompleteAdd, &[])).await, Code::Ok);
    assert_eq!(cook.sync_lite(add(name, name, "kitchen")).await, Code::Ok);
    assert_eq!(guard.sync_lite(add(name, name, "hall")).await, Code::Ok);
    let sent = vec![into(name, "k1", "kitchen"), into(name, "h1", "hall"), into(name, "k2", "kitchen")];
    cook.store(sent).await;
    cook.store(vec![into(name, "a1", "attic")]).await;
    let taken = cook.take(name, name, 2).await;
    let seen: Vec<_> = taken.iter().map(|message| (id(message), system(message).lite_topic.clone())).collect();
    let kitchen = Some("kitchen".to_owned());
    assert_eq!(seen, [("k1".to_owned(), kitchen.clone()), ("k2".to_owned(), kitchen)]);
    assert_eq!(guard.receive(receive(name, name)).await.ids(), ["h1"]);
    assert_eq!(guard.receive(receive(name, name)).await.code(), Code::MessageNotFound);

    let left = sync(name, name, LiteSubscriptionAction::CompleteAdd, &["attic"]);
    assert_eq!(cook.sync_lite(left).await, Code::Ok);
    cook.store(vec![into(name, "k3", "kitchen"), into(name, "a2", "attic")]).await;
    // Whether what was there before its first subscriber comes too is not promised.
    let ids = cook.receive(receive(name, name)).await.ids();
    assert!(ids.iter().all(|id| id.starts_with('a')) && ids.last().is_some_and(|id| id == "a2"), "{ids:?}");
}

// 87
#[tokio::test(flavor = "multi_thread")]
async fn handles_know_their_lite_topic() {
    let broker = Broker::shared().await;
    let name = "lite-handles";
    rooms(&broker, name, false).await;
    let client = broker.client(name).await;
    assert_eq!(client.sync_lite(add(name, name, "kitchen")).await, Code::Ok);
    client.store(vec![into(name, "1", "kitchen"), into(name, "2", "kitchen")]).await;
    let taken = client.take(name, name, 2).await;
    assert_eq!(client.ack_one(name, name, handle(&taken[0])).await, Code::Ok);
    let later = ChangeInvisibleDurationRequest { suspend: Some(true), ..change(name, name, handle(&taken[1]), 0) };
    assert_eq!(code(&client.change(later).await.status), Code::Ok);
    let again = client.take_one(name, name).await;
    assert_eq!((id(&again).as_str(), attempt(&again)), ("2", 1), "a suspended delivery does not count");
    let letter = ForwardMessageToDeadLetterQueueRequest {
        group: named(name),
        topic: named(name),
        receipt_handle: handle(&again).to_owned(),
        message_id: "2".into(),
        ..Default::default()
    };
    assert_eq!(client.dead_letter(letter).await, Code::Ok);
    let dead = client.take_one(&format!("%DLQ%{name}"), "lite-handles-undertaker").await;
    assert_eq!((id(&dead).as_str(), system(&dead).lite_topic.as_deref()), ("2", Some("kitchen")));
}

// 34, 88
#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_lite_topic_has_one_subscriber() {
    let broker = Broker::shared().await;
    let name = "lite-exclusive";
    rooms(&broker, name, true).await;
    let (first, second) = (broker.client("lite-first").await, broker.client("lite-second").await);
    let mut line = first.telemetry().await;
    line.settle(lite_client(name, name)).await;
    assert_eq!(first.sync_lite(add(name, name, "kitchen")).await, Code::Ok);
    // One that says it is a producer must never hear of lite topics, whatever it subscribes to.
    let disguised = broker.client("lite-disguised").await;
    let mut deaf = disguised.telemetry().await;
    deaf.settle(producer(&[])).await;
    assert_eq!(disguised.sync_lite(add(name, name, "hall")).await, Code::Ok);

    assert_eq!(second.sync_lite(add(name, name, "kitchen")).await, Code::Ok);
    assert_eq!(second.sync_lite(add(name, name, "hall")).await, Code::Ok);
    let frame = line.hear().await;
    let Some(Command::NotifyUnsubscribeLiteCommand(notice)) = frame.command else { panic!("{frame:?}") };
    assert_eq!(notice.lite_topic, "kitchen");
    let again = timeout(SILENCE, line.hear()).await;
    assert!(again.is_err(), "once: {again:?}");
    let heard = timeout(SILENCE, deaf.hear()).await;
    assert!(heard.is_err(), "{heard:?}");

    let insists = sync(name, name, LiteSubscriptionAction::CompleteAdd, &["kitchen"]);
    assert_eq!(first.sync_lite(insists).await, Code::Ok);
    second.store(vec![into(name, "1", "kitchen")]).await;
    assert_eq!(first.receive(receive(name, name)).await.code(), Code::MessageNotFound);
    assert_eq!(second.receive(receive(name, name)).await.ids(), ["1"]);
}

// 90
#[tokio::test(flavor = "multi_thread")]
async fn lite_groups_and_others_do_not_mix() {
    let broker = Broker::shared().await;
    let name = "lite-mixed";
    rooms(&broker, name, false).await;
    broker.typed_topic("lite-mixed-other", TopicType::Lite).await;
    broker.put_group(group("lite-mixed-plain")).await;
    for (kind, group, topic) in [
        (ClientType::PushConsumer, name, name),
        (ClientType::SimpleConsumer, name, name),
        (ClientType::LitePushConsumer, "lite-mixed-plain", name),
        (ClientType::LiteSimpleConsumer, "lite-mixed-plain", name),
    ] {
        let client = broker.client(&format!("lite-mixed-{kind:?}")).await;
        let ended = client.telemetry().await.refused(consumer(kind, group, &[topic])).await;
        assert_eq!(ended.code(), tonic::Code::InvalidArgument, "{ended}");
        assert_eq!(client.heartbeat(kind, group).await, Code::IllegalConsumerGroup, "{kind:?}");
    }
    let client = broker.client("lite-mixed-lost").await;
    let elsewhere = lite_client(name, "lite-mixed-other");
    let ended = client.telemetry().await.refused(elsewhere).await;
    assert_eq!(ended.code(), tonic::Code::InvalidArgument, "{ended}");
    assert_eq!(client.sync_lite(add("lite-mixed-other", name, "kitchen")).await, Code::IllegalTopic);
    assert_eq!(client.sync_lite(add(name, "lite-mixed-plain", "kitchen")).await, Code::IllegalConsumerGroup);
    assert_eq!(client.sync_lite(add(name, name, "a kitchen")).await, Code::IllegalLiteTopic);
    let received = client.receive(receive("lite-mixed-other", name)).await;
    assert_eq!(received.code(), Code::IllegalTopic, "{received:?}");
}

// Of the contract's section 14.3
#[tokio::test(flavor = "multi_thread")]
async fn a_lite_group_nobody_made_belongs_to_the_topic_its_client_names() {
    let broker = Broker::shared().await;
    broker.typed_topic("lite-fresh", TopicType::Lite).await;
    broker.typed_topic("lite-fresh-other", TopicType::Lite).await;
    let client = broker.client("lite-fresh").await;
    client.telemetry().await.settle(lite_client("lite-fresh", "lite-fresh")).await;
    assert_eq!(client.sync_lite(add("lite-fresh", "lite-fresh", "kitchen")).await, Code::Ok);
    assert_eq!(client.sync_lite(add("lite-fresh-other", "lite-fresh", "kitchen")).await, Code::IllegalTopic);
    client.store(vec![into("lite-fresh", "1", "kitchen")]).await;
    assert_eq!(id(&client.take_one("lite-fresh", "lite-fresh").await), "1");
}

// 91
#[tokio::test(flavor = "multi_thread")]
async fn a_first_subscription_begins_where_it_says() {
    let broker = Broker::shared().await;
    let topic = "lite-begins";
    broker.typed_topic(topic, TopicType::Lite).await;
    let client = broker.client(topic).await;
    let min = OffsetType::Policy(offset_option::Policy::Min.into());
    let max = OffsetType::Policy(offset_option::Policy::Max.into());
    let last = OffsetType::Policy(offset_option::Policy::Last.into());
    for (room, from, expected) in [
        ("min", min, vec!["0", "1", "2", "3", "new"]),
        ("max", max, vec!["new"]),
        // Where a group was before: nowhere, so that it begins as it does without saying anything.
        ("last", last, vec!["0", "1", "2", "3", "new"]),
        ("offset", OffsetType::Offset(3), vec!["3", "new"]),
        ("beyond", OffsetType::Offset(99), vec!["new"]),
        ("tail", OffsetType::TailN(2), vec!["2", "3", "new"]),
        ("time", OffsetType::Timestamp(0), vec!["0", "1", "2", "3", "new"]),
    ] {
        client.store((0..4).map(|i| into(topic, &format!("{i}"), room)).collect()).await;
        let group = format!("{topic}-{room}");
        bind(&broker, topic, &group, false).await;
        let subscriber = broker.client(&group).await;
        let mut request = add(topic, &group, room);
        request.offset_option = Some(OffsetOption { offset_type: Some(from) });
        assert_eq!(subscriber.sync_lite(request).await, Code::Ok);
        // Whoever begins at the end has something to wait for.
        client.store(vec![into(topic, "new", room)]).await;
        let taken = subscriber.take(topic, &group, expected.len()).await;
        assert_eq!(taken.iter().map(id).collect::<Vec<_>>(), expected, "{room}");
    }
}

// 91
#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_where_it_was_last() {
    let broker = Broker::shared().await;
    let name = "lite-last";
    rooms(&broker, name, false).await;
    let client = broker.client(name).await;
    client.store((0..4).map(|i| into(name, &format!("{i}"), "kitchen")).collect()).await;
    let subscribe = |from| SyncLiteSubscriptionRequest {
        offset_option: Some(OffsetOption { offset_type: Some(from) }),
        ..add(name, name, "kitchen")
    };
    assert_eq!(client.sync_lite(subscribe(OffsetType::Offset(3))).await, Code::Ok);
    let taken = client.take_one(name, name).await;
    assert_eq!(id(&taken), "3");
    assert_eq!(client.ack_one(name, name, handle(&taken)).await, Code::Ok);
    let leave = sync(name, name, LiteSubscriptionAction::PartialRemove, &["kitchen"]);
    assert_eq!(client.sync_lite(leave).await, Code::Ok);
    client.store(vec![into(name, "4", "kitchen"), into(name, "5", "kitchen")]).await;
    let last = OffsetType::Policy(offset_option::Policy::Last.into());
    assert_eq!(client.sync_lite(subscribe(last)).await, Code::Ok);
    assert_eq!(client.receive(receive(name, name)).await.ids(), ["4", "5"]);
}
