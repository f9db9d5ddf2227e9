//! What may be published, and what the answer says about each message.

use centaur_apis::{log::TopicType, v2::*};

use super::{
    broker::{Broker, topic},
    client::*,
};

/// Keys of user properties that belong to the system.
const RESERVED_KEYS: &str = "
    TRACE_ON MSG_REGION KEYS TAGS WAIT DELAY RETRY_TOPIC REAL_TOPIC REAL_QID TRAN_MSG PGROUP
    MIN_OFFSET MAX_OFFSET BUYER_ID ORIGIN_MESSAGE_ID TRANSFER_FLAG CORRECTION_FLAG MQ2_FLAG
    RECONSUME_TIME UNIQ_KEY MAX_RECONSUME_TIMES CONSUME_START_TIME POP_CK POP_CK_OFFSET
    1ST_POP_TIME TRAN_PREPARED_QUEUE_OFFSET DUP_INFO EXTEND_UNIQ_INFO INSTANCE_ID CORRELATION_ID
    REPLY_TO_CLIENT TTL ARRIVE_TIME PUSH_REPLY_TIME CLUSTER MSG_TYPE INNER_MULTI_QUEUE_OFFSET
    TIMER_DELAY_MS TIMER_DELAY_SEC TIMER_DELIVER_MS TIMER_ENQUEUE_MS TIMER_DEQUEUE_MS
    TIMER_ROLL_TIMES TIMER_OUT_MS TIMER_DEL_UNIQKEY TIMER_DELAY_LEVEL __BORNHOST BORN_TIMESTAMP
    DLQ_ORIGIN_TOPIC DLQ_ORIGIN_MESSAGE_ID __CRC32# _SYS_MSG_PRIORITY_ __LITE_TOPIC";

/// Sends one message made from a legal one; fails unless it is refused so.
async fn check(client: &Client, change: impl FnOnce(&mut Message), expected: Code, words: &[&str]) {
    let mut changed = message("bounds", "1");
    change(&mut changed);
    refused(&client.send(vec![changed]).await.status, expected, words);
}

async fn check_system(client: &Client, change: impl FnOnce(&mut SystemProperties), expected: Code, words: &[&str]) {
    check(client, |m| change(m.system_properties.as_mut().expect("set")), expected, words).await;
}

async fn bounds() -> (Broker, Client) {
    let broker = Broker::shared().await;
    broker.topic("bounds").await;
    let client = broker.client("bounds").await;
    (broker, client)
}

fn properties(count: usize) -> impl Fn(&mut Message) {
    move |message| message.user_properties = (0..count).map(|i| (format!("key{i}"), "v".to_owned())).collect()
}

// 42
#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_for_one_topic() {
    let (broker, client) = bounds().await;
    broker.topic("bounds-other").await;
    refused(&client.send(vec![]).await.status, Code::MessageCorrupted, &["messages", "empty"]);
    let mixed = client.send(vec![message("bounds", "1"), message("bounds-other", "2")]).await;
    refused(&mixed.status, Code::MessageCorrupted, &["bounds", "bounds-other"]);
    assert!(mixed.entries.is_empty());
}

// 43
#[tokio::test(flavor = "multi_thread")]
async fn a_body_has_between_one_byte_and_four_mebibytes() {
    let (_broker, client) = bounds().await;
    check(&client, |m| m.body = Default::default(), Code::MessageBodyEmpty, &["body"]).await;
    check(&client, |m| m.body = vec![b'x'; 1].into(), Code::Ok, &[]).await;
    check(&client, |m| m.body = vec![b'x'; 4 << 20].into(), Code::Ok, &[]).await;
    let one_more = |m: &mut Message| m.body = vec![b'x'; (4 << 20) + 1].into();
    check(&client, one_more, Code::MessageBodyTooLarge, &["body", "4194305", "4194304"]).await;
}

// 44
#[tokio::test(flavor = "multi_thread")]
async fn user_properties_are_bounded_in_number_size_and_name() {
    let (_broker, client) = bounds().await;
    check(&client, properties(128), Code::Ok, &[]).await;
    check(&client, properties(129), Code::MessagePropertiesTooLarge, &["user_properties", "129", "128"]).await;
    let sized = |bytes: usize| move |m: &mut Message| drop(m.user_properties.insert("k".into(), "v".repeat(bytes - 1)));
    check(&client, sized(16 << 10), Code::Ok, &[]).await;
    check(&client, sized((16 << 10) + 1), Code::MessagePropertiesTooLarge, &["user_properties", "16385", "16384"])
        .await;
    let together = |m: &mut Message| {
        sized(16 << 10)(m);
        m.system_properties.as_mut().expect("set").tag = Some("t".into());
    };
    check(&client, together, Code::MessagePropertiesTooLarge, &["tag", "16385", "16384"]).await;
    for key in RESERVED_KEYS.split_whitespace() {
        let insert = |m: &mut Message| drop(m.user_properties.insert(key.into(), "v".into()));
        check(&client, insert, Code::IllegalMessagePropertyKey, &["user_properties", key]).await;
    }
    for (key, value, word) in
        [("a\nb", "v", "key"), ("a\u{7f}", "v", "key"), ("a\u{9f}", "v", "key"), ("bell", "\u{7}", "bell")]
    {
        let insert = |m: &mut Message| drop(m.user_properties.insert(key.into(), value.into()));
        check(&client, insert, Code::IllegalMessagePropertyKey, &["user_properties", word]).await;
    }
    // Like a system key, but not reserved; and nothing forbids being empty.
    for key in ["keys", "__SHARDINGKEY", ""] {
        let insert = |m: &mut Message| drop(m.user_properties.insert(key.into(), String::new()));
        check(&client, insert, Code::Ok, &[]).await;
    }
}

// 45
#[tokio::test(flavor = "multi_thread")]
async fn tags_and_keys_are_plain_words() {
    let (_broker, client) = bounds().await;
    for tag in ["a|b", " ", "\t", "a\nb", "\u{85}"] {
        check_system(&client, |s| s.tag = Some(tag.into()), Code::IllegalMessageTag, &["tag"]).await;
    }
    for key in [" ", "a\u{0}b", "\r"] {
        check_system(&client, |s| s.keys = vec!["fine".into(), key.into()], Code::IllegalMessageKey, &["key"]).await;
    }
    check_system(&client, |s| (s.tag, s.keys) = (Some(String::new()), vec![String::new()]), Code::Ok, &[]).await;
}

// 46
#[tokio::test(flavor = "multi_thread")]
async fn a_message_group_has_fewer_than_64_bytes() {
    let (broker, client) = bounds().await;
    broker.typed_topic("bounds-fifo", TopicType::Fifo).await;
    let send = async |group: String| {
        client.send(vec![message_with("bounds-fifo", "1", |s| s.message_group = Some(group))]).await.status
    };
    assert_eq!(code(&send("g".repeat(63)).await), Code::Ok);
    refused(&send("g".repeat(64)).await, Code::IllegalMessageGroup, &["message_group", "64", "63"]);
    refused(&send("ä".repeat(32)).await, Code::IllegalMessageGroup, &["message_group", "64", "63"]);
    refused(&send(" ".into()).await, Code::IllegalMessageGroup, &["message_group"]);
    refused(&send("a\nb".into()).await, Code::IllegalMessageGroup, &["message_group"]);
}

// 47
#[tokio::test(flavor = "multi_thread")]
async fn any_id_that_is_not_blank_is_an_id() {
    let (_broker, client) = bounds().await;
    for blank in ["", " ", "\t"] {
        check_system(&client, |s| s.message_id = blank.into(), Code::IllegalMessageId, &["message_id"]).await;
    }
    check(&client, |m| m.system_properties = None, Code::IllegalMessageId, &["message_id"]).await;
    check_system(&client, |s| s.message_id = "abc-5".into(), Code::Ok, &[]).await;
}

// 48
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_time_is_a_day_ahead_at_most_and_may_be_past() {
    let broker = Broker::shared().await;
    broker.typed_topic("delivery", TopicType::Delay).await;
    let client = broker.client("delivery").await;
    let at = |seconds| message_with("delivery", "1", |s| s.delivery_timestamp = Some(in_seconds(seconds)));
    let late = client.send(vec![at(24 * 3600 + 60)]).await;
    refused(&late.status, Code::IllegalDeliveryTime, &["delivery_timestamp", "86400000"]);
    client.store(vec![at(-60)]).await;
    let received = client.take_one("delivery", "delivery").await;
    assert_eq!(system(&received).message_type(), MessageType::Delay);
}

// 49
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_takes_messages_of_its_type_only() {
    let broker = Broker::shared().await;
    let client = broker.client("type-conflicts").await;
    let kinds = [
        ("conflict-normal", TopicType::Normal),
        ("conflict-fifo", TopicType::Fifo),
        ("conflict-delay", TopicType::Delay),
        ("conflict-transaction", TopicType::Transaction),
        ("conflict-priority", TopicType::Priority),
        ("conflict-lite", TopicType::Lite),
        ("conflict-mixed", TopicType::Mixed),
    ];
    for (name, kind) in kinds {
        broker.typed_topic(name, kind).await;
    }
    let grouped = |s: &mut SystemProperties| s.message_group = Some("g".into());
    let due = |s: &mut SystemProperties| s.delivery_timestamp = Some(in_seconds(-1));
    let transaction = |s: &mut SystemProperties| s.message_type = MessageType::Transaction.into();
    let urgent = |s: &mut SystemProperties| s.priority = Some(1);
    let lite = |s: &mut SystemProperties| s.lite_topic = Some("room".into());
    for (name, kind) in kinds {
        let sent = [
            (message(name, "1"), TopicType::Normal),
            (message_with(name, "2", grouped), TopicType::Fifo),
            (message_with(name, "3", due), TopicType::Delay),
            (message_with(name, "4", transaction), TopicType::Transaction),
            (message_with(name, "5", urgent), TopicType::Priority),
            (message_with(name, "6", lite), TopicType::Lite),
        ];
        for (message, of) in sent {
            let answer = client.send(vec![message]).await;
            let is_mixed = kind == TopicType::Mixed && !matches!(of, TopicType::Priority | TopicType::Lite);
            let expected = match kind == of || is_mixed {
                true => Code::Ok,
                false => Code::MessagePropertyConflictWithType,
            };
            assert_eq!(code(&answer.status), expected, "{} to {name}", of.as_str_name());
        }
    }
    // Of a batch every message counts, and none is stored when one does not fit.
    let batch = vec![message("conflict-normal", "5"), message_with("conflict-normal", "6", grouped)];
    let answer = client.send(batch).await;
    refused(&answer.status, Code::MessagePropertyConflictWithType, &["FIFO"]);
    assert!(answer.entries.is_empty());
    let stored = client.take("conflict-normal", "conflict", 1).await;
    assert_eq!(id(&stored[0]), "1");
}

// 50
#[tokio::test(flavor = "multi_thread")]
async fn each_message_has_an_entry_of_its_own_in_order() {
    let broker = Broker::shared().await;
    broker.topic("entries").await;
    let client = broker.client("entries").await;
    let ids: Vec<String> = (0..10).map(|i| format!("ID{i}")).collect();
    let entries = client.store(ids.iter().map(|id| message("entries", id)).collect()).await;
    assert!(entries.iter().all(|entry| code(&entry.status) == Code::Ok));
    assert!(entries.iter().all(|entry| entry.transaction_id == entry.message_id && entry.recall_handle.is_empty()));
    assert_eq!(entries.iter().map(|entry| &entry.message_id).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    let taken = client.take("entries", "entries", 10).await;
    for entry in &entries {
        let message = taken.iter().find(|message| id(message) == entry.message_id).expect("it has come");
        assert_eq!(system(message).queue_offset, Some(entry.offset), "{}", entry.message_id);
    }
}

// 51
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_cannot_set_the_attempt() {
    let broker = Broker::shared().await;
    broker.typed_topic("attempts", TopicType::Mixed).await;
    let client = broker.client("attempts").await;
    let born_late = |s: &mut SystemProperties| s.delivery_attempt = Some(1_234_567);
    let due = |s: &mut SystemProperties| {
        born_late(s);
        s.delivery_timestamp = Some(in_seconds(2));
    };
    client.store(vec![message_with("attempts", "1", born_late)]).await;
    client.store(vec![message_with("attempts", "2", due)]).await;
    let taken = client.take("attempts", "attempts", 2).await;
    assert_eq!(taken.iter().map(id).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(system(&taken[1]).message_type(), MessageType::Delay);
    assert!(taken.iter().all(|message| attempt(message) == 1), "{taken:?}");
}

// 52
#[tokio::test(flavor = "multi_thread")]
async fn a_message_group_stays_in_one_queue() {
    let broker = Broker::shared().await;
    let request = centaur_apis::store::PutTopicRequest { r#type: TopicType::Fifo.into(), ..topic("together", 8) };
    broker.put_topic(request).await;
    let client = broker.client("together").await;
    let of = |group: &str, id: String, queue: i32| {
        message_with("together", &id, |s| (s.message_group, s.queue_id) = (Some(group.into()), queue))
    };
    let groups: Vec<String> = (0..8).map(|i| format!("group-{i}")).collect();
    for group in &groups {
        for (queue, id) in (0..4).map(|i| (i, format!("{group}/{i}"))) {
            client.store(vec![of(group, id, queue)]).await;
        }
        client.store((4..8).map(|i| of(group, format!("{group}/{i}"), i)).collect()).await;
    }
    let taken = client.take("together", "together", 64).await;
    for group in &groups {
        let mut members: Vec<&SystemProperties> =
            taken.iter().map(system).filter(|s| s.message_group.as_ref() == Some(group)).collect();
        members.sort_by_key(|s| s.queue_offset);
        assert!(members.iter().all(|s| s.queue_id == members[0].queue_id), "{members:?}");
        let ids: Vec<&str> = members.iter().map(|s| s.message_id.as_str()).collect();
        assert_eq!(ids, (0..8).map(|i| format!("{group}/{i}")).collect::<Vec<_>>());
    }
}

// Of the contract's section 4.3: what is wrong with a message is named in a fixed order.
#[tokio::test(flavor = "multi_thread")]
async fn of_several_faults_the_first_is_named() {
    type Fault = (Code, fn(&mut Message));
    fn system(message: &mut Message) -> &mut SystemProperties {
        message.system_properties.as_mut().expect("set")
    }
    let faults: [Fault; 10] = [
        (Code::MessageBodyEmpty, |m| m.body = Default::default()),
        (Code::MessagePropertiesTooLarge, |m| properties(129)(m)),
        (Code::IllegalMessagePropertyKey, |m| drop(m.user_properties.insert("KEYS".into(), "v".into()))),
        (Code::IllegalMessageTag, |m| system(m).tag = Some("|".into())),
        (Code::IllegalMessageKey, |m| system(m).keys.push(" ".into())),
        (Code::MessagePropertiesTooLarge, |m| system(m).keys.push("k".repeat(17 << 10))),
        (Code::IllegalMessageId, |m| system(m).message_id.clear()),
        (Code::IllegalDeliveryTime, |m| system(m).delivery_timestamp = Some(in_seconds(48 * 3600))),
        (Code::IllegalMessageGroup, |m| system(m).message_group = Some("g".repeat(64))),
        (Code::MessagePropertyConflictWithType, |m| system(m).message_group = Some("g".into())),
    ];
    let (_broker, client) = bounds().await;
    for first in 0..faults.len() {
        let change = |m: &mut Message| faults[first..].iter().rev().for_each(|(_, spoil)| spoil(m));
        check(&client, change, faults[first].0, &[]).await;
    }
}

// Of the contract's section 1.2: the limit is one of bodies, not of requests.
#[tokio::test(flavor = "multi_thread")]
async fn one_request_carries_several_of_the_largest_bodies() {
    let broker = Broker::shared().await;
    broker.topic("several-large").await;
    let client = broker.client("several-large").await;
    let large = |i: u8| {
        let mut message = message("several-large", &i.to_string());
        message.body = vec![i; 4 << 20].into();
        message
    };
    client.store((0..3).map(large).collect()).await;
    for message in client.take("several-large", "several-large", 3).await {
        let fill: u8 = id(&message).parse().expect("a number");
        assert!(message.body.len() == 4 << 20 && message.body.iter().all(|byte| *byte == fill), "message {fill}");
    }
}
