//! Where the queues of a topic are, and which of them a consumer reads.

use centaur_apis::{
    log::{self, TopicType},
    store::{PutGroupRequest, PutTopicRequest},
    v2::*,
};

use super::{
    broker::{Broker, group, topic},
    client::*,
};

/// Topics that belong to the system, and one of those that are known by how their names begin.
const SYSTEM_TOPICS: [&str; 11] = [
    "TBW102",
    "SCHEDULE_TOPIC_XXXX",
    "BenchmarkTest",
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "RMQ_SYS_TRACE_TOPIC",
    "RMQ_SYS_TRANS_OP_HALF_TOPIC",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "SELF_TEST_TOPIC",
    "OFFSET_MOVED_EVENT",
    "CHECKPOINT_TOPIC",
    "rmq_sys_anything",
];

fn ask(topic: &str) -> QueryRouteRequest {
    QueryRouteRequest { topic: named(topic), endpoints: None }
}

fn endpoints(scheme: AddressScheme, hosts: &[&str]) -> Endpoints {
    let address = |host: &&str| Address { host: (*host).to_owned(), port: 18_081 };
    Endpoints { scheme: scheme.into(), addresses: hosts.iter().map(address).collect() }
}

fn endpoints_of(queue: &MessageQueue) -> &Endpoints {
    queue.broker.as_ref().and_then(|broker| broker.endpoints.as_ref()).expect("every queue has a broker")
}

// 35
#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_illegal_topics_are_told_apart() {
    let broker = Broker::shared().await;
    let client = broker.client("illegal-topics").await;
    let longest = "t".repeat(127);
    broker.topic(&longest).await;
    let too_long = "t".repeat(128);
    for (name, expected, word) in [
        (longest.as_str(), Code::Ok, "OK"),
        (&too_long, Code::IllegalTopic, "128"),
        ("nowhere", Code::TopicNotFound, "nowhere"),
        ("", Code::IllegalTopic, "topic"),
        ("a b", Code::IllegalTopic, "a b"),
    ] {
        refused(&client.route(ask(name)).await.status, expected, &[word]);
    }
    for name in SYSTEM_TOPICS {
        refused(&client.route(ask(name)).await.status, Code::IllegalTopic, &[name]);
        let sent = client.send(vec![message(name, "1")]).await;
        refused(&sent.status, Code::IllegalTopic, &[name]);
        let received = client.receive(receive(name, "illegal-topics")).await;
        refused(&Some(received.status), Code::IllegalTopic, &[name]);
    }
    let unknown = client.route(ask("nowhere")).await;
    assert!(unknown.status.is_some_and(|status| status.message.starts_with("CODE: 17")));
    assert!(unknown.message_queues.is_empty());
}

// 36, 38, 40
#[tokio::test(flavor = "multi_thread")]
async fn a_route_has_every_queue_in_the_same_order() {
    let broker = Broker::shared().await;
    broker.topic("route").await;
    let client = broker.client("route").await;
    let first = client.route(ask("route")).await;
    assert_eq!(code(&first.status), Code::Ok);
    let ids: Vec<i32> = first.message_queues.iter().map(|queue| queue.id).collect();
    assert_eq!(ids, [0, 1, 2, 3]);
    for queue in &first.message_queues {
        assert_eq!(queue.permission(), Permission::ReadWrite);
        assert_eq!(queue.topic, named("route"));
        let broker = queue.broker.as_ref().expect("a broker");
        assert_eq!(broker.id, 0);
        assert!(!broker.name.is_empty());
    }
    for _ in 0..10 {
        assert_eq!(client.route(ask("route")).await, first);
    }
    let tenant = Some(Resource { resource_namespace: "tenant".into(), name: "route".into() });
    let theirs = client.route(QueryRouteRequest { topic: tenant.clone(), endpoints: None }).await;
    assert!(theirs.message_queues.iter().all(|queue| queue.topic == tenant), "{theirs:?}");
    let empty = QueryRouteRequest { endpoints: Some(Endpoints::default()), ..ask("route") };
    assert_eq!(client.route(empty).await, first);
}

// 36
#[tokio::test(flavor = "multi_thread")]
async fn every_topic_has_a_first_queue_to_write_to_and_read_from() {
    let broker = Broker::shared().await;
    let client = broker.client("first-queue").await;
    let kinds = [
        TopicType::Unspecified,
        TopicType::Normal,
        TopicType::Fifo,
        TopicType::Delay,
        TopicType::Transaction,
        TopicType::Priority,
        TopicType::Lite,
        TopicType::Mixed,
    ];
    let mut names = vec!["%DLQ%first-queue".to_owned()];
    for kind in kinds {
        let name = format!("first-queue-{}", kind.as_str_name());
        broker.put_topic(PutTopicRequest { r#type: kind.into(), ..topic(&name, 1) }).await;
        names.push(name);
    }
    broker.topic("first-queue").await;
    client.publish("first-queue", &["1"]).await;
    let dying = client.take_one("first-queue", "first-queue").await;
    let letter = ForwardMessageToDeadLetterQueueRequest {
        group: named("first-queue"),
        topic: named("first-queue"),
        receipt_handle: handle(&dying).to_owned(),
        ..Default::default()
    };
    assert_eq!(client.dead_letter(letter).await, Code::Ok);
    for name in names {
        let route = client.route(ask(&name)).await;
        assert_eq!(code(&route.status), Code::Ok, "{name}");
        assert!(route.message_queues.iter().any(|queue| queue.id == 0), "{name}: {route:?}");
        for queue in &route.message_queues {
            let broker = queue.broker.as_ref().expect("every queue has a broker");
            assert_eq!((queue.permission(), broker.id), (Permission::ReadWrite, 0), "{name}");
        }
    }
}

// 36: all queues can be read and written, unless an operator has said otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_forbids_is_seen_in_the_route() {
    let broker = Broker::shared().await;
    let client = broker.client("forbidding").await;
    for (stored, seen) in [
        (log::Permission::Read, Permission::Read),
        (log::Permission::Write, Permission::Write),
        (log::Permission::None, Permission::None),
    ] {
        let name = format!("forbidding-{}", stored.as_str_name());
        broker.put_topic(PutTopicRequest { permission: Some(stored.into()), ..topic(&name, 2) }).await;
        let route = client.route(ask(&name)).await;
        let permissions: Vec<Permission> = route.message_queues.iter().map(MessageQueue::permission).collect();
        assert_eq!(permissions, [seen; 2], "{name}");
    }
}

// 37
#[tokio::test(flavor = "multi_thread")]
async fn clients_are_sent_where_they_dialled() {
    let broker = Broker::shared().await;
    broker.topic("dialled").await;
    let client = broker.client("dialled").await;
    let unspecified = AddressScheme::Unspecified;
    let cases = [
        (
            endpoints(AddressScheme::IPv4, &["10.0.0.1", "10.0.0.2"]),
            endpoints(AddressScheme::IPv4, &["10.0.0.1", "10.0.0.2"]),
        ),
        (endpoints(AddressScheme::IPv6, &["::1"]), endpoints(AddressScheme::IPv6, &["::1"])),
        (
            endpoints(AddressScheme::DomainName, &["a.example", "b.example"]),
            endpoints(AddressScheme::DomainName, &["a.example"]),
        ),
        (endpoints(unspecified, &["10.0.0.1"]), endpoints(AddressScheme::IPv4, &["10.0.0.1"])),
        (endpoints(unspecified, &["a.example"]), endpoints(AddressScheme::DomainName, &["a.example"])),
    ];
    for (asked, given) in cases {
        let route = client.route(QueryRouteRequest { endpoints: Some(asked), ..ask("dialled") }).await;
        assert!(route.message_queues.iter().all(|queue| *endpoints_of(queue) == given), "{route:?}");
    }
    let route = client.route(ask("dialled")).await;
    let dialled = broker.server.clients();
    let address = Address { host: dialled.ip().to_string(), port: dialled.port().into() };
    let given = Endpoints { scheme: AddressScheme::IPv4.into(), addresses: vec![address] };
    assert!(route.message_queues.iter().all(|queue| *endpoints_of(queue) == given), "{route:?}");
}

// 39
#[tokio::test(flavor = "multi_thread")]
async fn a_route_says_which_messages_are_taken() {
    let broker = Broker::shared().await;
    let client = broker.client("types").await;
    let all = vec![MessageType::Normal, MessageType::Fifo, MessageType::Delay, MessageType::Transaction];
    for (name, kind, expected) in [
        ("types-normal", TopicType::Normal, vec![MessageType::Normal]),
        ("types-fifo", TopicType::Fifo, vec![MessageType::Fifo]),
        ("types-delay", TopicType::Delay, vec![MessageType::Delay]),
        ("types-transaction", TopicType::Transaction, vec![MessageType::Transaction]),
        ("types-lite", TopicType::Lite, vec![MessageType::Lite]),
        ("types-priority", TopicType::Priority, vec![MessageType::Priority]),
        ("types-default", TopicType::Unspecified, vec![MessageType::Normal]),
        ("types-mixed", TopicType::Mixed, all),
    ] {
        broker.typed_topic(name, kind).await;
        let route = client.route(ask(name)).await;
        for queue in &route.message_queues {
            let types: Vec<MessageType> = queue.accept_message_types().collect();
            assert_eq!(types, expected, "{name}");
        }
    }
}

// 41
#[tokio::test(flavor = "multi_thread")]
async fn assignments_follow_the_order_of_the_group() {
    let broker = Broker::shared().await;
    broker.topic("assigned").await;
    broker.put_group(PutGroupRequest { fifo: Some(true), ..group("assigned-ordered") }).await;
    let silent = PutTopicRequest { permission: Some(log::Permission::Write.into()), ..topic("assigned-unreadable", 2) };
    broker.put_topic(silent).await;
    let client = broker.client("assigned").await;
    let query = async |topic: &str, group: &str| {
        let request = QueryAssignmentRequest { topic: named(topic), group: named(group), endpoints: None };
        let answer = client.rpc.clone().query_assignment(client.request(request)).await;
        answer.expect("a refusal is in the status").into_inner()
    };
    for (group, expected) in [("assigned-unknown", vec![-1]), ("assigned-ordered", vec![0, 1, 2, 3])] {
        let answer = query("assigned", group).await;
        assert_eq!(code(&answer.status), Code::Ok);
        let queues: Vec<&MessageQueue> =
            answer.assignments.iter().filter_map(|assignment| assignment.message_queue.as_ref()).collect();
        assert_eq!(queues.iter().map(|queue| queue.id).collect::<Vec<_>>(), expected, "{group}");
        assert!(queues.iter().all(|queue| queue.permission() == Permission::ReadWrite));
        assert!(queues.iter().all(|queue| queue.topic == named("assigned") && queue.accept_message_types.is_empty()));
        assert_eq!(query("assigned", group).await, answer, "assignments are stable");
    }
    refused(&query("assigned-unreadable", "assigned").await.status, Code::Forbidden, &["no readable queue"]);
    refused(&query("nowhere", "assigned").await.status, Code::TopicNotFound, &["nowhere"]);
    refused(&query("a b", "assigned").await.status, Code::IllegalTopic, &["a b"]);
    refused(&query("assigned", "a b").await.status, Code::IllegalConsumerGroup, &["a b"]);
}
