use std::time::Duration;

use centaur_apis::{
    log::{Group, Lite, TopicType},
    store::{Error, Notice, Reason, lite_offset::At, sync_lite_request::Action},
    v2::{settings::PubSub, telemetry_command::Command, *},
};
use tokio::time::timeout;

use crate::{
    harness::*,
    telemetry::{open, say, told},
};

fn lite_settings(kind: ClientType, group: &str, topic: &str) -> Settings {
    let entry = SubscriptionEntry { topic: named(topic), expression: None };
    let subscription = Subscription { group: named(group), subscriptions: vec![entry], ..Default::default() };
    Settings { client_type: Some(kind.into()), pub_sub: Some(PubSub::Subscription(subscription)), ..Default::default() }
}

fn add_lite_group(h: &Harness, name: &str, fifo: bool) {
    let lite = Lite { topic: "rooms".into(), client_quota: 3, ..Default::default() };
    let group = Group { name: name.into(), lite: Some(lite), fifo, ..Default::default() };
    h.store.add_topic("rooms", TopicType::Lite, 1);
    h.store.world().groups.insert(name.into(), group);
}

fn add_group(h: &Harness, name: &str) {
    h.store.world().groups.insert(name.into(), Group { name: name.into(), ..Default::default() });
}

fn subscribe(group: &str, action: LiteSubscriptionAction, names: &[&str]) -> SyncLiteSubscriptionRequest {
    SyncLiteSubscriptionRequest {
        action: action.into(),
        topic: named("rooms"),
        group: named(group),
        lite_topic_set: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

async fn sync(h: &mut Harness, request: SyncLiteSubscriptionRequest) -> Code {
    let answer = h.client.sync_lite_subscription(ours(request)).await.expect("a status").into_inner();
    code(answer.status.as_ref())
}

#[tokio::test]
async fn a_message_names_its_lite_topic() {
    both(async |mut h: Harness| {
        h.store.add_topic("rooms", TopicType::Lite, 1);
        let lite = message_with("rooms", "1", |system| system.lite_topic = Some("kitchen".into()));
        assert_eq!(code(send(&mut h.client, vec![lite]).await.status.as_ref()), Code::Ok);
        assert_eq!(h.store.world().queues[&("rooms".to_owned(), 0)][0].lite_topic, "kitchen");
        let plain = message("rooms", "2");
        let answer = send(&mut h.client, vec![plain]).await;
        assert_eq!(code(answer.status.as_ref()), Code::MessagePropertyConflictWithType);
    })
    .await;
}

#[tokio::test]
async fn subscriptions_are_checked_and_handed_on() {
    both(async |mut h: Harness| {
        use LiteSubscriptionAction as A;
        add_lite_group(&h, "workers", false);
        add_group(&h, "plain");
        assert_eq!(sync(&mut h, subscribe("workers", A::CompleteAdd, &[])).await, Code::Ok);
        let mut added = subscribe("workers", A::PartialAdd, &["kitchen"]);
        added.version = Some(-1);
        added.offset_option = Some(OffsetOption { offset_type: Some(offset_option::OffsetType::TailN(5)) });
        assert_eq!(sync(&mut h, added.clone()).await, Code::Ok);
        let mut removed = subscribe("workers", A::PartialRemove, &["no name"]);
        removed.offset_option = added.offset_option;
        assert_eq!(sync(&mut h, removed).await, Code::Ok);
        {
            let world = h.store.world();
            let said = &world.syncs[1];
            assert_eq!((said.action(), said.client.as_str()), (Action::PartialAdd, CLIENT));
            assert_eq!((said.topic.as_str(), said.group.as_str(), said.version), ("rooms", "workers", 0));
            assert_eq!(said.offset.and_then(|offset| offset.at), Some(At::Tail(5)));
            assert_eq!(world.syncs[2].offset, None, "places are for what is added");
        }
        let elsewhere =
            SyncLiteSubscriptionRequest { topic: named("halls"), ..subscribe("workers", A::CompleteAdd, &[]) };
        let names: Vec<String> = (0..304).map(|i| format!("room-{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let unknown = SyncLiteSubscriptionRequest { action: 9, ..subscribe("workers", A::CompleteAdd, &[]) };
        for (request, expected) in [
            (subscribe("plain", A::CompleteAdd, &[]), Code::IllegalConsumerGroup),
            (subscribe("a b", A::CompleteAdd, &[]), Code::IllegalConsumerGroup),
            (elsewhere, Code::IllegalTopic),
            (subscribe("workers", A::PartialAdd, &["a room"]), Code::IllegalLiteTopic),
            (subscribe("workers", A::CompleteAdd, &names), Code::LiteSubscriptionQuotaExceeded),
            (subscribe("workers", A::CompleteAdd, &names[..303]), Code::Ok),
            (unknown, Code::BadRequest),
        ] {
            assert_eq!(sync(&mut h, request.clone()).await, expected, "{request:?}");
        }
        h.store.world().error = Some(Error::new(Reason::LiteSubscriptionQuota, "too many"));
        let refused = sync(&mut h, subscribe("workers", A::PartialAdd, &["kitchen"])).await;
        assert_eq!(refused, Code::LiteSubscriptionQuotaExceeded);
    })
    .await;
}

#[tokio::test]
async fn a_lite_group_nobody_made_is_bound_to_what_its_first_client_subscribes_to() {
    both(async |mut h: Harness| {
        let (out, mut stream) = open(&mut h.client, CLIENT).await;
        say(&out, lite_settings(ClientType::LitePushConsumer, "fresh", "rooms")).await;
        let Some(PubSub::Subscription(subscription)) = told(&mut stream).await.pub_sub else { panic!("a consumer") };
        assert_eq!((subscription.lite_subscription_quota, subscription.max_lite_topic_size), (Some(7), Some(64)));
        assert_eq!(h.store.world().syncs.len(), 1);
        say(&out, lite_settings(ClientType::LitePushConsumer, "fresh", "rooms")).await;
        told(&mut stream).await;
        assert_eq!(h.store.world().syncs.len(), 1, "once");
    })
    .await;
    both_with(
        |config| config.create_groups_on_demand = false,
        async |mut h: Harness| {
            let refused = sync(&mut h, subscribe("fresh", LiteSubscriptionAction::CompleteAdd, &[])).await;
            assert_eq!(refused, Code::IllegalConsumerGroup);
        },
    )
    .await;
}

#[tokio::test]
async fn a_group_takes_clients_of_its_own_kind_only() {
    both(async |mut h: Harness| {
        add_lite_group(&h, "lite", false);
        add_group(&h, "plain");
        for (kind, group, topic, fits) in [
            (ClientType::LitePushConsumer, "lite", "rooms", true),
            (ClientType::LiteSimpleConsumer, "lite", "rooms", true),
            (ClientType::LitePushConsumer, "lite", "halls", false),
            (ClientType::LitePushConsumer, "plain", "rooms", false),
            (ClientType::PushConsumer, "lite", "rooms", false),
            (ClientType::SimpleConsumer, "plain", "rooms", true),
        ] {
            let id = format!("{kind:?}-{group}-{topic}");
            let (out, mut stream) = open(&mut h.client, &id).await;
            say(&out, lite_settings(kind, group, topic)).await;
            if fits {
                told(&mut stream).await;
            } else {
                let error = stream.message().await.expect_err("refused");
                assert_eq!(error.code(), tonic::Code::InvalidArgument, "{id}");
            }
            // A client that nobody knows says by its heartbeat what it is.
            let beat = HeartbeatRequest { group: named(group), client_type: kind.into() };
            let answer = h.client.heartbeat(from(&format!("beat-{id}"), beat)).await.expect("a status");
            let expected = if fits || topic == "halls" { Code::Ok } else { Code::IllegalConsumerGroup };
            assert_eq!(code(answer.get_ref().status.as_ref()), expected, "{id}");
        }
        let (refused, _) =
            receive(&mut h.client, from("beat-SimpleConsumer-plain-rooms", receive_from("rooms", "lite"))).await;
        assert_eq!(refused, Code::IllegalConsumerGroup);
    })
    .await;
}

#[tokio::test]
async fn a_lite_client_makes_no_ordinary_group() {
    both(async |mut h: Harness| {
        h.store.add_topic("rooms", TopicType::Lite, 1);
        let beat = HeartbeatRequest { group: named("fresh"), client_type: ClientType::LiteSimpleConsumer.into() };
        h.client.heartbeat(ours(beat)).await.expect("a status");
        let (refused, _) = receive(&mut h.client, ours(receive_from("rooms", "fresh"))).await;
        assert_eq!(refused, Code::ConsumerGroupNotFound);
        assert!(h.store.world().groups.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_lite_group_is_assigned_one_queue_that_stands_for_all() {
    both(async |mut h: Harness| {
        add_lite_group(&h, "workers", true);
        let request = QueryAssignmentRequest { topic: named("rooms"), group: named("workers"), endpoints: None };
        let answer = h.client.query_assignment(ours(request)).await.expect("a status").into_inner();
        let ids: Vec<_> = answer.assignments.iter().filter_map(|a| a.message_queue.as_ref()).map(|q| q.id).collect();
        assert_eq!(ids, [-1]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn only_lite_clients_are_told_of_lite_topics() {
    let mut h = Harness::local(|_| ());
    add_lite_group(&h, "workers", false);
    add_group(&h, "plain");
    let running = h.proxy.clone();
    tokio::spawn(async move { running.run(std::future::pending()).await });
    let (lite, mut lite_stream) = open(&mut h.client, "lite").await;
    say(&lite, lite_settings(ClientType::LitePushConsumer, "workers", "rooms")).await;
    told(&mut lite_stream).await;
    let (plain, mut plain_stream) = open(&mut h.client, "plain").await;
    say(&plain, lite_settings(ClientType::PushConsumer, "plain", "rooms")).await;
    told(&mut plain_stream).await;
    for (client, name) in [("lite", "kitchen"), ("plain", "kitchen"), ("nobody", "hall"), ("lite", "hall")] {
        let notice = Notice { group: "workers".into(), client: client.into(), lite_topic: name.into() };
        h.store.world().notices.push(notice);
        let heard = timeout(Duration::from_secs(10), lite_stream.message()).await;
        if client == "lite" {
            let frame = heard.expect("in time").expect("well").expect("a frame");
            let Some(Command::NotifyUnsubscribeLiteCommand(command)) = frame.command else { panic!("{frame:?}") };
            assert_eq!(command.lite_topic, name);
        } else {
            assert!(heard.is_err(), "each is told once");
        }
    }
    assert!(timeout(Duration::from_secs(10), plain_stream.message()).await.is_err());
}
