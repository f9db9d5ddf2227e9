//! Which messages a receive gives, what they carry, and what a receive may ask for.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use centaur_apis::{
    log::{Permission, TopicType},
    store::PutTopicRequest,
    v2::{self, receive_message_response::Content, *},
};
use tokio::time::Instant;
use tonic::transport::Endpoint;

use super::{
    broker::{Broker, topic},
    client::*,
    offsets::query,
    timely::timely,
};
use crate::harness::{Options, PATIENCE};

/// What was given to a client that went away is there for others within this.
const RETURNED_WITHIN: Duration = Duration::from_secs(2);

// 53, 57
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_status_messages_and_time() {
    let broker = Broker::shared().await;
    broker.topic("frames").await;
    let client = broker.client("frames").await;
    client.store((0..3).map(|i| message("frames", &format!("{i}"))).collect()).await;
    let mut stream =
        client.rpc.clone().receive_message(client.request(receive("frames", "frames"))).await.expect("ok").into_inner();
    let mut seen = String::new();
    while let Some(frame) = stream.message().await.expect("the stream ends well") {
        seen.push(match frame.content.expect("no frame is empty") {
            Content::Status(status) if status.code() == Code::Ok => 's',
            Content::Message(_) => 'm',
            Content::DeliveryTimestamp(at) if at.seconds > 1_700_000_000 => 't',
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, "smmmt");
}

// 56
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_too_short_for_polling_is_refused_in_words_the_client_knows() {
    let broker = Broker::shared().await;
    broker.topic("hasty").await;
    for (version, expected) in [
        ("5.0.8", Code::IllegalPollingTime),
        ("5.0.3", Code::IllegalPollingTime),
        ("5.0.2", Code::BadRequest),
        ("", Code::BadRequest),
    ] {
        let client = Client { version, ..broker.client("hasty").await };
        let received = client.receive_within(Duration::from_millis(4_900), receive("hasty", "hasty")).await;
        refused(&Some(received.status), expected, &["deadline", "5000"]);
    }
}

// 58
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_10_seconds_to_12_hours_long() {
    let broker = Broker::shared().await;
    broker.topic("leases").await;
    let client = broker.client("leases").await;
    client.publish("leases", &["1", "2"]).await;
    for (length, expected) in [
        (Some(5), Code::IllegalInvisibleTime),
        (None, Code::IllegalInvisibleTime),
        (Some(-10), Code::IllegalInvisibleTime),
        (Some(12 * 3600 + 1), Code::IllegalInvisibleTime),
        (Some(i64::MAX), Code::IllegalInvisibleTime),
        (Some(10), Code::Ok),
        (Some(12 * 3600), Code::Ok),
    ] {
        let request = ReceiveMessageRequest {
            invisible_duration: length.map(seconds),
            batch_size: 1,
            ..receive("leases", "leases")
        };
        let received = client.receive(request).await;
        let words: &[&str] = if expected == Code::Ok { &[] } else { &["invisible_duration", "10000", "43200000"] };
        refused(&Some(received.status), expected, words);
    }
}

// 59
#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_lease_has_no_length() {
    let broker = Broker::shared().await;
    broker.topic("renewed").await;
    let client = broker.client("renewed").await;
    for (i, length) in [None, Some(1), Some(24 * 3600), Some(-1)].into_iter().enumerate() {
        client.publish("renewed", &[&format!("{i}")]).await;
        let request =
            ReceiveMessageRequest { invisible_duration: length.map(seconds), ..receive_renewed("renewed", "renewed") };
        let received = client.receive(request).await;
        assert_eq!(received.ids(), [format!("{i}")], "{length:?}");
        assert_eq!(client.ack_one("renewed", "renewed", handle(&received.messages[0])).await, Code::Ok);
    }
}

// 60
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_1_to_32_messages() {
    let broker = Broker::shared().await;
    broker.topic("batches").await;
    let client = broker.client("batches").await;
    client.store((0..70).map(|i| message("batches", &format!("{i}"))).collect()).await;
    for (asked, most) in [(100, 32), (0, 1), (-7, 1), (32, 32)] {
        let received =
            client.receive(ReceiveMessageRequest { batch_size: asked, ..receive("batches", "batches") }).await;
        assert_eq!(received.code(), Code::Ok);
        assert_eq!(received.messages.len(), most, "asked for {asked}");
    }
}

// 61
#[tokio::test(flavor = "multi_thread")]
async fn filters_are_understood_or_refused() {
    let broker = Broker::shared().await;
    broker.topic("filters").await;
    let client = broker.client("filters").await;
    for bad in [by_sql("a >"), by_sql(""), by_sql(" "), by_sql("a LIKE 'x'"), by_tag("||"), by_tag(" || ")] {
        let request = ReceiveMessageRequest { filter_expression: bad.clone(), ..receive("filters", "filters") };
        let received = client.receive(request).await;
        refused(&Some(received.status), Code::IllegalFilterExpression, &["filter"]);
    }
    for (i, all) in [None, by_tag(""), by_tag("*"), by_tag(" * ")].into_iter().enumerate() {
        client.store(vec![message_with("filters", &format!("{i}"), |s| s.tag = Some("red".into()))]).await;
        let request = ReceiveMessageRequest { filter_expression: all.clone(), ..receive("filters", "filters") };
        assert_eq!(client.receive(request).await.ids(), [format!("{i}")], "{all:?}");
    }
}

// 61
#[tokio::test(flavor = "multi_thread")]
async fn conditions_choose_messages_by_their_properties() {
    let broker = Broker::shared().await;
    broker.topic("conditions").await;
    let client = broker.client("conditions").await;
    for (id, color, size) in [("1", "red", "5"), ("2", "blue", "50"), ("3", "red", "50")] {
        let mut sent = message("conditions", id);
        sent.user_properties = [("color".to_owned(), color.to_owned()), ("size".to_owned(), size.to_owned())].into();
        client.store(vec![sent]).await;
    }
    let condition = "color = 'red' AND size > 10";
    let sql = FilterExpression { r#type: FilterType::Sql.into(), expression: condition.into() };
    let request = ReceiveMessageRequest { filter_expression: Some(sql), ..receive("conditions", "conditions") };
    assert_eq!(client.receive(request).await.ids(), ["3"]);
}

// 62
#[tokio::test(flavor = "multi_thread")]
async fn messages_with_other_tags_are_passed_over_for_good() {
    let broker = Broker::shared().await;
    broker.put_topic(topic("tags", 1)).await;
    let client = broker.client("tags").await;
    for (id, tag) in [("1", "red"), ("2", "blue"), ("3", "green"), ("4", "blue"), ("5", "red")] {
        client.store(vec![message_with("tags", id, |s| s.tag = Some(tag.into()))]).await;
    }
    client.publish("tags", &["no tag"]).await;
    let wanted = ReceiveMessageRequest { filter_expression: by_tag("red || green"), ..receive("tags", "tags") };
    let received = client.receive(wanted).await;
    assert_eq!(received.ids(), ["1", "3", "5"]);
    assert_eq!(received.messages.iter().map(|m| system(m).tag()).collect::<Vec<_>>(), ["red", "green", "red"]);
    let handles: Vec<&str> = received.messages.iter().map(handle).collect();
    assert_eq!(code(&client.ack("tags", "tags", &handles).await.status), Code::Ok);
    // Whoever asks for everything now gets what is new, and nothing of the others.
    let everything = client.clone();
    let poll = tokio::spawn(async move { everything.receive(receive("tags", "tags")).await });
    broker.until_parked("tags", "tags", 1).await;
    client.publish("tags", &["new"]).await;
    assert_eq!(poll.await.expect("no panic").ids(), ["new"]);
    let again = client.take("tags", "tags-of-another-group", 7).await;
    assert_eq!(again.len(), 7, "other groups see every message");
}

// 61
#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_sql_is_told_with_its_place() {
    let broker = Broker::shared().await;
    broker.topic("mistakes").await;
    let client = broker.client("mistakes").await;
    let deep = format!("{}a = 1", "(".repeat(10_000));
    for (bad, words) in [
        ("a = 1 AND\n  b >", ["line 2, column 6", "expected"]),
        ("a = 'open", ["line 1, column 5", "closing"]),
        ("a BETWEEN 2 AND 1", ["line 1, column 11", "bound"]),
        (deep.as_str(), ["line 1, column 129", "parentheses"]),
    ] {
        let request = ReceiveMessageRequest { filter_expression: by_sql(bad), ..receive("mistakes", "mistakes") };
        refused(&Some(client.receive(request).await.status), Code::IllegalFilterExpression, &words);
    }
}

// 61
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_sql_does_not_choose_are_passed_over_for_good() {
    let broker = Broker::shared().await;
    broker.put_topic(topic("chosen", 1)).await;
    let client = broker.client("chosen").await;
    for (id, tag, keys, properties) in [
        ("1", "red", "k1 k2", &[("a", "6"), ("b", "x")][..]),
        ("2", "red", "", &[("a", "5"), ("b", "x")]),
        ("3", "red", "", &[("a", "5.5"), ("b", "x"), ("c", "it's")]),
        ("4", "blue", "", &[("a", "6"), ("b", "x")]),
        ("5", "red", "", &[("a", "many"), ("b", "x")]),
        ("6", "red", "", &[("b", "x")]),
        ("7", "red", "", &[("a", "6")]),
        ("8", "red", "", &[("a", "1e3"), ("b", "y")]),
        ("9", "", "", &[("a", "6"), ("b", "x")]),
    ] {
        let mut message = message_with("chosen", id, |s| {
            s.tag = Some(tag.to_owned()).filter(|tag| !tag.is_empty());
            s.keys = keys.split_whitespace().map(Into::into).collect();
        });
        message.user_properties = properties.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        client.store(vec![message]).await;
    }
    let condition = "a > 5 and (b = 'x' OR b IN ('y', 'z')) AND TAGS = 'red' -- and nothing else";
    let wanted =
        |group| ReceiveMessageRequest { filter_expression: by_sql(condition), ..receive_renewed("chosen", group) };
    let received = client.receive(wanted("chosen")).await;
    assert_eq!(received.ids(), ["1", "3", "8"]);
    let handles: Vec<&str> = received.messages.iter().map(handle).collect();
    assert_eq!(code(&client.ack("chosen", "chosen", &handles).await.status), Code::Ok);
    // Whoever asks for everything now gets what is new, and nothing of the others.
    let everything = client.clone();
    let poll = tokio::spawn(async move { everything.receive(receive("chosen", "chosen")).await });
    broker.until_parked("chosen", "chosen", 1).await;
    client.publish("chosen", &["new"]).await;
    assert_eq!(poll.await.expect("no panic").ids(), ["new"]);
    for (condition, expected) in [
        ("KEYS CONTAINS 'k2'", &["1"][..]),
        ("c = 'it''s'", &["3"]),
        ("a IS NULL", &["6", "new"]),
        ("TAGS <> 'red' OR TAGS IS NULL", &["4", "9", "new"]),
        ("NOT (a > 5)", &["2"]),
    ] {
        let group = format!("chosen-{}", expected[0]);
        let request = ReceiveMessageRequest { filter_expression: by_sql(condition), ..receive("chosen", &group) };
        assert_eq!(client.receive(request).await.ids(), expected, "{condition}");
    }
}

// 61
#[tokio::test(flavor = "multi_thread")]
async fn a_poll_with_sql_waits_for_what_it_chooses() {
    let broker = Broker::shared().await;
    broker.topic("awaited").await;
    let client = broker.client("awaited").await;
    client.publish("awaited", &["other"]).await;
    let waiting = client.clone();
    let request = ReceiveMessageRequest { filter_expression: by_sql("a = 1"), ..receive_renewed("awaited", "awaited") };
    let poll = tokio::spawn(async move { waiting.receive(request).await });
    broker.until_parked("awaited", "awaited", 1).await;
    client.publish("awaited", &["another"]).await;
    let mut chosen = message("awaited", "chosen");
    chosen.user_properties = [("a".to_owned(), "1".to_owned())].into();
    client.store(vec![chosen]).await;
    assert_eq!(poll.await.expect("no panic").ids(), ["chosen"]);
}

// 63
#[tokio::test(flavor = "multi_thread")]
async fn the_queue_asked_for_does_not_matter() {
    let broker = Broker::shared().await;
    broker.topic("any-queue").await;
    let client = broker.client("any-queue").await;
    for (id, name) in [(0, ""), (-1, ""), (4711, ""), (i32::MIN, ""), (-1, "virtual-broker"), (0, "no such broker")] {
        client.publish("any-queue", &["1"]).await;
        let mut request = receive("any-queue", "any-queue");
        let queue = request.message_queue.as_mut().expect("set");
        queue.id = id;
        queue.broker = Some(v2::Broker { name: name.into(), ..Default::default() });
        assert_eq!(client.receive(request).await.ids(), ["1"], "queue {id} of {name:?}");
    }
}

// 64, 65; the digest of "abc" is the test vector of RFC 1321.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_comes_as_published_with_all_that_clients_need() {
    let broker = Broker::shared().await;
    broker.topic("whole").await;
    let client = broker.client("whole").await;
    let mut sent = message_with("whole", "ID-1", |s| {
        s.tag = Some("red".into());
        s.keys = vec!["a key".into(), "another".into()];
        s.born_timestamp = Some(in_seconds(-100));
        s.born_host = "host".into();
        s.trace_context = Some("trace".into());
        s.body_encoding = Encoding::Gzip.into();
        s.body_digest = Some(Digest { r#type: DigestType::Crc32.into(), checksum: "352441C2".into() });
    });
    sent.body = "abc".into();
    sent.user_properties =
        [("color", "red"), ("", "empty key"), ("empty value", ""), ("__SHARDINGKEY", "mine"), ("ключ", "значение")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
    client.store(vec![sent.clone()]).await;
    let received = client.take_one("whole", "whole").await;
    assert_eq!(received.topic, sent.topic);
    assert_eq!(received.body, sent.body);
    assert_eq!(received.user_properties, sent.user_properties);
    let (system, sent) = (system(&received), system(&sent));
    let digest = system.body_digest.as_ref().expect("a digest");
    assert_eq!((digest.r#type(), digest.checksum.as_str()), (DigestType::Md5, "900150983CD24FB0D6963F7D28E17F72"));
    assert_eq!(system.body_encoding(), Encoding::Gzip);
    assert_eq!(system.message_type(), MessageType::Normal);
    assert_eq!((&system.message_id, &system.tag, &system.keys), (&sent.message_id, &sent.tag, &sent.keys));
    assert_eq!((&system.born_timestamp, &system.born_host), (&sent.born_timestamp, &sent.born_host));
    assert_eq!(system.trace_context, sent.trace_context);
    assert!(system.store_timestamp.is_some() && !system.store_host.is_empty());
    assert!(handle(&received).len() <= 1024 && handle(&received).is_ascii());
    assert_eq!((system.delivery_attempt, system.queue_offset), (Some(1), Some(0)));
    assert_eq!((&system.message_group, &system.lite_topic, system.priority), (&None, &None, None));
}

// 65: as published, also those that are called like something of the system and are not reserved.
#[tokio::test(flavor = "multi_thread")]
async fn user_properties_are_the_same_however_a_message_comes() {
    let broker = Broker::shared().await;
    let name = "unchanged";
    broker.typed_topic(name, TopicType::Mixed).await;
    let client = broker.client(name).await;
    let properties: BTreeMap<String, String> = [
        ("color", "red"),
        ("__SHARDINGKEY", "mine"),
        ("TRACE_CONTEXT", "mine"),
        ("__transactionId__", "mine"),
        ("CHECK_IMMUNITY_TIME_IN_SECONDS", "1"),
        ("TRANSACTION_CHECK_TIMES", "99"),
        ("INNER_MULTI_DISPATCH", "mine"),
        ("INNER_NUM", "99"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let publish = async |id: &str, change: fn(&mut SystemProperties)| {
        let sent = Message { user_properties: properties.clone(), ..message_with(name, id, change) };
        client.store(vec![sent]).await.remove(0).transaction_id
    };
    let come = async |expected: (&str, MessageType, i32)| {
        let taken = client.take_one(name, name).await;
        assert_eq!((id(&taken).as_str(), system(&taken).message_type(), attempt(&taken)), expected);
        assert_eq!(taken.user_properties, properties, "{expected:?}");
        taken
    };
    publish("1", |_| ()).await;
    let first = come(("1", MessageType::Normal, 1)).await;
    assert_eq!(code(&client.change(change(name, name, handle(&first), 0)).await.status), Code::Ok);
    let again = come(("1", MessageType::Normal, 2)).await;
    publish("2", |system| system.delivery_timestamp = Some(in_seconds(2))).await;
    come(("2", MessageType::Delay, 1)).await;
    let transaction = publish("3", |system| system.message_type = MessageType::Transaction.into()).await;
    assert_eq!(client.end_transaction(name, &transaction, TransactionResolution::Commit).await, Code::Ok);
    come(("3", MessageType::Transaction, 1)).await;

    // A dead letter says in six more what became of it: docs/messages.md.
    let letter = ForwardMessageToDeadLetterQueueRequest {
        group: named(name),
        topic: named(name),
        receipt_handle: handle(&again).to_owned(),
        ..Default::default()
    };
    assert_eq!(client.dead_letter(letter).await, Code::Ok);
    let dead = client.take_one(&format!("%DLQ%{name}"), "unchanged-readers").await;
    let (added, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
        dead.user_properties.into_iter().partition(|(key, _)| key.starts_with("DLQ_"));
    assert_eq!(kept, properties);
    let names: Vec<&str> = added.keys().map(String::as_str).collect();
    let expected = ["DLQ_ATTEMPTS", "DLQ_GROUP", "DLQ_ORIGIN_OFFSET", "DLQ_ORIGIN_QUEUE", "DLQ_REASON", "DLQ_TIME_MS"];
    assert_eq!(names, expected);
    assert_eq!((added["DLQ_ATTEMPTS"].as_str(), added["DLQ_GROUP"].as_str()), ("2", name));
}

// 64
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_says_nothing_still_has_all_that_clients_need() {
    let broker = Broker::shared().await;
    broker.topic("bare").await;
    let client = broker.client("bare").await;
    client.publish("bare", &["1"]).await;
    let received = client.take_one("bare", "bare").await;
    let system = system(&received);
    assert!(system.body_digest.is_some() && system.born_timestamp.is_some() && system.store_timestamp.is_some());
    assert_eq!(system.body_encoding(), Encoding::Identity);
    assert_eq!(system.message_type(), MessageType::Normal);
    assert!(!system.born_host.is_empty(), "the peer's address");
    assert_eq!((&system.tag, system.keys.len(), received.user_properties.len()), (&None, 0, 0));
}

/// A client with the smallest windows there are: nearly nothing is on its way before it is read.
async fn narrow_client(broker: &Broker, id: &str) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{}", broker.server.clients())).expect("an address");
    let endpoint = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    Client::new(endpoint.connect().await.expect("connected"), id)
}

// 66
#[tokio::test(flavor = "multi_thread")]
async fn messages_a_client_did_not_wait_for_come_back_at_once() {
    let broker = Broker::shared().await;
    timely(RETURNED_WITHIN, async |turn| returned_after_a_cancel(&broker, &format!("cancelled-{turn}")).await).await;
}

async fn returned_after_a_cancel(broker: &Broker, name: &str) -> Duration {
    const MESSAGES: usize = 16;
    broker.topic(name).await;
    let other = broker.client(&format!("{name}-other")).await;
    for i in 0..MESSAGES {
        other.store(vec![large(name, &format!("{i}"), 200 << 10)]).await;
    }
    let client = narrow_client(broker, name).await;
    let mut rpc = client.rpc.clone();
    let mut stream = rpc.receive_message(client.request(receive(name, name))).await.expect("ok").into_inner();
    let first = stream.message().await.expect("a frame").and_then(|frame| frame.content);
    assert!(matches!(&first, Some(Content::Status(status)) if status.code() == Code::Ok), "{first:?}");
    assert_eq!(broker.backlog(name, name).await.in_flight, MESSAGES as u64);
    drop(stream);
    let begun = Instant::now();
    // Written frames may be underway; all others come back, and were never delivered.
    let returned = MESSAGES - 2;
    let mut taken = Vec::new();
    while taken.len() < returned {
        taken.extend(other.receive(receive(name, name)).await.messages);
        assert!(begun.elapsed() < PATIENCE, "{} came within {:?}", taken.len(), begun.elapsed());
    }
    let took = begun.elapsed();
    assert!(taken.iter().all(|message| attempt(message) == 1), "what was not written does not count");
    took
}

// 66
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_lost_connection_come_back_at_once() {
    let broker = Broker::shared().await;
    timely(RETURNED_WITHIN, async |turn| returned_after_a_loss(&broker, &format!("lost-{turn}")).await).await;
}

async fn returned_after_a_loss(broker: &Broker, name: &str) -> Duration {
    const MESSAGES: usize = 32;
    broker.topic(name).await;
    let other = broker.client(&format!("{name}-other")).await;
    for i in 0..MESSAGES {
        other.store(vec![large(name, &format!("{i}"), 100 << 10)]).await;
    }
    let client = narrow_client(broker, name).await;
    let request = client.request(receive(name, name));
    let mut rpc = client.rpc.clone();
    let mut stream = rpc.receive_message(request).await.expect("ok").into_inner();
    // The status and one message: the answer is on its way.
    let read = [stream.message().await.expect("a frame"), stream.message().await.expect("a frame")];
    assert!(matches!(read[1].as_ref().and_then(|f| f.content.as_ref()), Some(Content::Message(_))), "{read:?}");
    drop((stream, rpc, client));
    let begun = Instant::now();
    let mut taken = Vec::new();
    // What the lost client read stays leased, and so does what the other takes.
    while taken.len() < MESSAGES - 4 || broker.backlog(name, name).await.in_flight < MESSAGES as u64 {
        taken.extend(other.receive(receive(name, name)).await.messages);
        assert!(begun.elapsed() < PATIENCE, "{} came within {:?}", taken.len(), begun.elapsed());
    }
    begun.elapsed()
}

// 66, the same while nothing is there yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_receive_that_is_cancelled_takes_nothing() {
    let broker = Broker::shared().await;
    broker.topic("left").await;
    let client = broker.client("left").await;
    let leaving = client.clone();
    let poll = tokio::spawn(async move { leaving.receive(receive("left", "left")).await });
    broker.until_parked("left", "left", 1).await;
    poll.abort();
    broker.until_parked("left", "left", 0).await;
    client.publish("left", &["1"]).await;
    assert_eq!(attempt(&client.take_one("left", "left").await), 1);
}

// 67, for young topics
#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_reads_a_young_topic_from_the_start() {
    let broker = Broker::shared().await;
    broker.topic("young").await;
    let client = broker.client("young").await;
    client.publish("young", &["1", "2", "3"]).await;
    for group in ["young-a", "young-b"] {
        let mut ids: Vec<String> = client.take("young", group, 3).await.iter().map(id).collect();
        ids.sort();
        assert_eq!(ids, ["1", "2", "3"], "{group}");
    }
    // Its position is fixed by the first receive, also by one that gets nothing it wants.
    let request = ReceiveMessageRequest { filter_expression: by_tag("none"), ..receive("young", "young-c") };
    let picky = client.clone();
    let poll = tokio::spawn(async move { picky.receive(request).await });
    broker.until_parked("young-c", "young", 1).await;
    poll.abort();
    assert_eq!(broker.backlog("young-c", "young").await.ready, 0);
    client.publish("young", &["4"]).await;
    assert_eq!(id(&client.take_one("young", "young-c").await), "4");
}

// 67, for topics that other messages have made cold
#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_begins_a_cold_topic_with_its_last_message() {
    let broker = Broker::of(Arc::new(Options::default().set("groups.young_size", "1MiB").start())).await;
    broker.put_topic(topic("cold", 1)).await;
    broker.topic("others").await;
    let client = broker.client("cold").await;
    client.publish("cold", &["1", "2", "3", "4", "5"]).await;
    assert_eq!(client.receive(receive("cold", "while-young")).await.ids(), ["1", "2", "3", "4", "5"]);
    client.store((0..2).map(|i| large("others", &format!("{i}"), 1 << 20)).collect()).await;
    assert_eq!(client.receive(receive("cold", "when-cold")).await.ids(), ["5"]);
    client.publish("cold", &["6"]).await;
    for group in ["while-young", "when-cold"] {
        assert_eq!(client.receive(receive("cold", group)).await.ids(), ["6"], "{group} goes on");
    }
}

// 67, for topics whose beginning is gone
#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_begins_a_truncated_topic_with_its_last_message() {
    let options = Options::default().set("store.segment_size", "1MiB").set("store.retention.size", "2MiB");
    let broker = Broker::of(Arc::new(options.start())).await;
    let name = "truncated";
    broker.put_topic(topic(name, 1)).await;
    let client = broker.client(name).await;
    let begun = Instant::now();
    let mut sent = 0;
    while query(&client, name, QueryOffsetPolicy::Beginning, None).await == 0 {
        assert!(begun.elapsed() < PATIENCE, "nothing is truncated after {sent} messages");
        client.store(vec![large(name, &format!("{sent}"), 200 << 10)]).await;
        sent += 1;
    }
    client.publish(name, &["last"]).await;
    assert_eq!(client.receive(receive(name, name)).await.ids(), ["last"]);
}

/// A message with a body of so many bytes.
fn large(topic: &str, id: &str, bytes: usize) -> Message {
    Message { body: vec![b'x'; bytes].into(), ..message(topic, id) }
}

// Of the contract's section 6.2: balancing happens as messages are handed out.
#[tokio::test(flavor = "multi_thread")]
async fn consumers_of_a_group_share_its_messages() {
    const MESSAGES: usize = 400;
    let broker = Broker::shared().await;
    broker.topic("shared").await;
    let producer = broker.client("shared").await;
    let mut consumers = tokio::task::JoinSet::new();
    for i in 0..8 {
        let client = broker.client(&format!("shared-{i}")).await;
        consumers.spawn(async move {
            let mut ids = Vec::new();
            loop {
                let request = ReceiveMessageRequest { batch_size: 4, ..receive_renewed("shared", "shared") };
                let received = client.receive(request).await;
                if received.messages.is_empty() {
                    return ids;
                }
                ids.extend(received.ids());
                let handles: Vec<&str> = received.messages.iter().map(handle).collect();
                assert_eq!(code(&client.ack("shared", "shared", &handles).await.status), Code::Ok);
            }
        });
    }
    let ids: Vec<String> = (0..MESSAGES).map(|i| format!("{i:03}")).collect();
    for ids in ids.chunks(20) {
        producer.store(ids.iter().map(|id| message("shared", id)).collect()).await;
    }
    let mut seen: Vec<String> = consumers.join_all().await.concat();
    seen.sort();
    assert_eq!(seen, ids, "each message came once");
    assert_eq!(broker.backlog("shared", "shared").await, Default::default());
}

// Of the contract's section 6.5: an answer that was lost can be had again.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_attempt_gets_the_same_messages() {
    let broker = Broker::shared().await;
    broker.topic("again").await;
    let client = broker.client("again").await;
    client.publish("again", &["1", "2", "3"]).await;
    let attempt_id = |text: &str| ReceiveMessageRequest {
        attempt_id: Some(text.into()),
        batch_size: 2,
        ..receive_renewed("again", "again")
    };
    let first = client.receive(attempt_id("a")).await;
    let second = client.receive(attempt_id("a")).await;
    let facts = |received: &Received| -> Vec<(String, String, i32)> {
        received.messages.iter().map(|m| (id(m), handle(m).to_owned(), attempt(m))).collect()
    };
    assert_eq!(facts(&first), facts(&second));
    let third = client.receive(attempt_id("b")).await;
    assert!(third.ids().iter().all(|id| !first.ids().contains(id)), "{third:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_received_is_said_in_the_first_frame() {
    let broker = Broker::shared().await;
    broker.topic("receivable").await;
    let silent = PutTopicRequest { permission: Some(Permission::Write.into()), ..topic("unreadable", 1) };
    broker.put_topic(silent).await;
    let client = broker.client("receivable").await;
    for (topic, group, expected, word) in [
        ("nowhere", "g", Code::TopicNotFound, "nowhere"),
        ("a b", "g", Code::IllegalTopic, "a b"),
        ("receivable", "", Code::IllegalConsumerGroup, "group"),
        ("receivable", "CID_RMQ_SYS_x", Code::IllegalConsumerGroup, "CID_RMQ_SYS_x"),
        ("unreadable", "g", Code::Forbidden, "unreadable"),
    ] {
        let begun = Instant::now();
        let received = client.receive(receive(topic, group)).await;
        assert!(received.messages.is_empty());
        refused(&Some(received.status), expected, &[word]);
        // Some clients ask again at once, and for ever.
        assert!(begun.elapsed() >= Duration::from_millis(99), "{:?}", begun.elapsed());
    }
}
