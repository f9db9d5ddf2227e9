//! Telemetry streams: settings in, merged settings out, and nobody waits for a reader.

use std::{sync::Arc, time::Duration};

use centaur_apis::v2::{retry_policy::Strategy, settings::PubSub, telemetry_command::Command, *};
use tokio::time::{Instant, timeout};

use super::{
    broker::{Broker, group},
    client::*,
};
use crate::harness::Server;

/// Far more than an answer takes, and far less than any waiting time of the contract.
const PROMPT: Duration = Duration::from_secs(3);

fn subscription(settings: &Settings) -> &Subscription {
    match &settings.pub_sub {
        Some(PubSub::Subscription(subscription)) => subscription,
        other => panic!("{other:?} is not a subscription"),
    }
}

// 19
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_accepted_before_anything_is_said() {
    let broker = Broker::shared().await;
    let client = broker.client("silent").await;
    timeout(PROMPT, client.telemetry()).await.expect("headers come before the first frame");
}

// Of the contract's section 1.4: some clients ask for the longest time there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_may_be_wanted_for_years() {
    let broker = Broker::shared().await;
    let client = broker.client("years").await;
    for years in ["31536000S", "99999999H"] {
        let (say, said) = tokio::sync::mpsc::channel(1);
        let mut request = client.request(tokio_stream::wrappers::ReceiverStream::new(said));
        request.metadata_mut().insert("grpc-timeout", years.parse().expect("ASCII"));
        let heard = client.rpc.clone().telemetry(request).await.expect("the stream opens").into_inner();
        Line { say, heard }.settle(producer(&[])).await;
    }
}

// 20, 21, 22
#[tokio::test(flavor = "multi_thread")]
async fn producers_are_told_how_to_send_each_time_they_ask() {
    let broker = Broker::shared().await;
    let mut line = broker.client("told-producer").await.telemetry().await;
    for _ in 0..3 {
        let mut sent = producer(&["told"]);
        if let Some(PubSub::Publishing(publishing)) = &mut sent.pub_sub {
            publishing.max_body_size = 128 << 20;
        }
        let told = timeout(PROMPT, line.settle(sent)).await.expect("an answer at once");
        let policy = told.backoff_policy.expect("a policy");
        assert_eq!(policy.max_attempts, 3);
        let Some(Strategy::ExponentialBackoff(backoff)) = policy.strategy else { panic!("{policy:?}") };
        let millis = |nanos| prost_types::Duration { seconds: 0, nanos: nanos * 1_000_000 };
        assert_eq!((backoff.initial, backoff.max), (Some(millis(10)), Some(seconds(1))));
        assert!((backoff.multiplier - 2.0).abs() < f32::EPSILON, "{backoff:?}");
        let Some(PubSub::Publishing(publishing)) = told.pub_sub else { panic!("not a publishing") };
        assert_eq!((publishing.max_body_size, publishing.validate_message_type), (4_194_304, true));
        assert!(told.metric.is_some_and(|metric| !metric.on));
    }
}

// 20, 23
#[tokio::test(flavor = "multi_thread")]
async fn consumers_are_told_how_to_receive_and_when_to_try_again() {
    let broker = Broker::shared().await;
    for kind in [ClientType::PushConsumer, ClientType::SimpleConsumer] {
        let mut line = broker.client(&format!("told-{kind:?}")).await.telemetry().await;
        let told = line.settle(consumer(kind, "told", &["told"])).await;
        let policy = told.backoff_policy.as_ref().expect("a policy");
        assert_eq!(policy.max_attempts, 17);
        let Some(Strategy::CustomizedBackoff(backoff)) = &policy.strategy else { panic!("{policy:?}") };
        let pauses: Vec<i64> = backoff.next.iter().map(|pause| pause.seconds).collect();
        let expected = [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200];
        assert_eq!(pauses, expected);
        let subscription = subscription(&told);
        assert_eq!((subscription.receive_batch_size, subscription.fifo), (Some(32), Some(false)));
        assert_eq!(subscription.long_polling_timeout, Some(seconds(20)));
        assert!(told.metric.is_some(), "{told:?}");
    }
}

// 23
#[tokio::test(flavor = "multi_thread")]
async fn the_settings_of_a_group_reach_its_consumers() {
    let broker = Broker::shared().await;
    let ordered =
        centaur_apis::store::PutGroupRequest { fifo: Some(true), max_attempts: Some(5), ..group("told-ordered") };
    broker.put_group(ordered).await;
    let mut line = broker.client("told-ordered").await.telemetry().await;
    let told = line.settle(consumer(ClientType::PushConsumer, "told-ordered", &["told"])).await;
    assert_eq!(subscription(&told).fifo, Some(true));
    assert_eq!(told.backoff_policy.map(|policy| policy.max_attempts), Some(5));
}

// 25
#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_of_itself_is_given_back_unchanged() {
    let broker = Broker::shared().await;
    let mut line = broker.client("echoed").await.telemetry().await;
    let resource = |name: &str| Resource { resource_namespace: "tenant".into(), name: name.into() };
    let mut sent = producer(&[]);
    sent.access_point = Some(Endpoints {
        scheme: AddressScheme::DomainName.into(),
        addresses: vec![Address { host: "mq.example".into(), port: 8081 }],
    });
    sent.user_agent = Some(Ua { language: Language::Java.into(), version: "5.0.8".into(), ..Default::default() });
    sent.client_properties = [("color".to_owned(), "red".to_owned())].into();
    sent.pub_sub =
        Some(PubSub::Publishing(Publishing { topics: vec![resource("a"), resource("b")], ..Default::default() }));
    let told = line.settle(sent.clone()).await;
    let Some(PubSub::Publishing(publishing)) = &told.pub_sub else { panic!("{told:?}") };
    assert_eq!(publishing.topics, [resource("a"), resource("b")]);
    let about = |s: &Settings| {
        (s.client_type, s.access_point.clone(), s.request_timeout, s.user_agent.clone(), s.client_properties.clone())
    };
    assert_eq!(about(&told), about(&sent));

    let mut line = broker.client("echoed-consumer").await.telemetry().await;
    let mut sent = consumer(ClientType::PushConsumer, "echoed", &["a", "b"]);
    if let Some(PubSub::Subscription(subscription)) = &mut sent.pub_sub {
        subscription.group = Some(resource("echoed"));
        subscription
            .subscriptions
            .iter_mut()
            .zip(["a", "b"])
            .for_each(|(entry, name)| entry.topic = Some(resource(name)));
    }
    let told = line.settle(sent.clone()).await;
    let (told, sent) = (subscription(&told), subscription(&sent));
    assert_eq!((&told.group, &told.subscriptions), (&sent.group, &sent.subscriptions));
}

// 26, 27
#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_used_end_the_stream_with_an_error() {
    let broker = Broker::shared().await;
    let client = broker.client("unusable").await;
    let neither = Settings { client_type: Some(ClientType::Producer.into()), ..Default::default() };
    let cases = [
        (neither, "neither publishing nor subscription"),
        (producer(&["fine", "not fine"]), "not fine"),
        (producer(&["TBW102"]), "TBW102"),
        (consumer(ClientType::PushConsumer, "", &["fine"]), "group"),
        (consumer(ClientType::PushConsumer, &"g".repeat(121), &["fine"]), "121"),
        (consumer(ClientType::PushConsumer, "fine", &["fine", "not fine"]), "not fine"),
        (consumer(ClientType::SimpleConsumer, "fine", &["TBW102"]), "TBW102"),
    ];
    for (settings, word) in cases {
        let ended = client.telemetry().await.refused(settings).await;
        assert_eq!(ended.code(), tonic::Code::InvalidArgument, "{ended}");
        assert!(ended.message().contains(word), "{word:?} is not in {ended}");
    }
}

// 28
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_may_name_its_topics_later() {
    let broker = Broker::shared().await;
    let mut line = broker.client("later").await.telemetry().await;
    line.settle(producer(&[])).await;
    line.settle(producer(&["named-later"])).await;
}

// 29, at once; for how long is with the long times.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_works_on_after_its_stream_was_cut() {
    let broker = Broker::shared().await;
    broker.topic("cut").await;
    let client = broker.client("cut").await;
    let mut line = client.telemetry().await;
    line.settle(consumer(ClientType::SimpleConsumer, "cut", &["cut"])).await;
    drop(line);
    assert_eq!(client.heartbeat(ClientType::SimpleConsumer, "cut").await, Code::Ok);
    client.publish("cut", &["1"]).await;
    client.take_one("cut", "cut").await;
    assert!(broker.clients().await.contains(&"cut".to_owned()));
}

// 30
#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_clients_work_on_without_settings() {
    let broker = Broker::of(Arc::new(Server::start())).await;
    broker.topic("crash").await;
    let client = broker.client("crash").await;
    let mut line = client.telemetry().await;
    line.settle(consumer(ClientType::PushConsumer, "crash", &["crash"])).await;
    client.publish("crash", &["1", "2"]).await;
    let taken = client.take("crash", "crash", 2).await;
    assert_eq!(client.ack_one("crash", "crash", handle(&taken[0])).await, Code::Ok);
    let mut server = broker.into_server();
    server.kill();
    server.restart();
    let broker = Broker::of(Arc::new(server)).await;
    // The connection is gone; a client finds out by its first call.
    let _ = client.rpc.clone().heartbeat(client.request(HeartbeatRequest::default())).await;
    assert_eq!(client.heartbeat(ClientType::PushConsumer, "crash").await, Code::Ok);
    assert_eq!(client.ack_one("crash", "crash", handle(&taken[1])).await, Code::Ok, "a handle outlives a crash");
    client.publish("crash", &["3"]).await;
    assert_eq!(id(&client.take_one("crash", "crash").await), "3");
    assert_eq!(broker.backlog("crash", "crash").await.in_flight, 1);
}

// 31; which stream a command goes to is with the commands.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_streams_the_older_may_end() {
    let broker = Broker::shared().await;
    let client = broker.client("twice").await;
    let mut older = client.telemetry().await;
    older.settle(producer(&["twice"])).await;
    let mut newer = client.telemetry().await;
    newer.settle(producer(&["twice"])).await;
    older.settle(producer(&["twice"])).await;
    drop(older);
    newer.settle(producer(&["twice"])).await;
    assert_eq!(client.heartbeat(ClientType::Producer, "").await, Code::Ok);
    let known = broker.clients().await;
    assert_eq!(known.iter().filter(|id| *id == "twice").count(), 1, "{known:?}");
}

// 32
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_slows_nobody() {
    let broker = Broker::shared().await;
    broker.topic("unread").await;
    let deaf = broker.client("deaf").await;
    let mut line = deaf.telemetry().await;
    let topics: Vec<String> = (0..100).map(|i| format!("unread-{i:0>100}")).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    // Some 12 KB each, so that what is answered fills every window there is. Then the stream is lost.
    let flood = async {
        let command = Command::Settings(producer(&topics));
        let settings = TelemetryCommand { status: None, command: Some(command) };
        let mut said = 0;
        // It ends with an error, or nothing is taken any more: who does not read does not hear of the end.
        while let Ok(Ok(())) = timeout(Duration::from_secs(1), line.say.send(settings.clone())).await {
            said += 1;
            assert!(said < 10_000, "the stream goes on");
        }
    };
    let other = broker.client("not-deaf").await;
    let work = async {
        for i in 0..50 {
            let begun = Instant::now();
            let id = format!("{i}");
            other.publish("unread", &[&id]).await;
            let received = other.take_one("unread", "unread").await;
            assert_eq!(other.ack_one("unread", "unread", handle(&received)).await, Code::Ok);
            let mut fresh = other.telemetry().await;
            fresh.settle(producer(&["unread"])).await;
            assert!(begun.elapsed() < PROMPT, "round {i} took {:?}", begun.elapsed());
        }
    };
    timeout(Duration::from_secs(30), async { tokio::join!(flood, work) }).await.expect("nobody is held up");
    let rest = async { while let Ok(Some(_)) = line.heard.message().await {} };
    timeout(Duration::from_secs(10), rest).await.expect("the stream has ended");
}
