use std::time::{Duration, SystemTime};

use centaur_apis::{
    log::TopicType,
    store::{Error, NewMessage, Reason},
    v2::*,
};

use crate::harness::*;

fn in_a_minute() -> prost_types::Timestamp {
    let mut at = prost_types::Timestamp::from(SystemTime::now() + Duration::from_secs(60));
    at.nanos = 250_000_000;
    at
}

fn millis(at: prost_types::Timestamp) -> u64 {
    at.seconds.unsigned_abs() * 1000 + u64::from(at.nanos.unsigned_abs()) / 1_000_000
}

#[tokio::test]
async fn a_message_waits_for_its_time_to_the_millisecond_and_can_be_recalled() {
    both(async |mut h: Harness| {
        h.store.add_topic("later", TopicType::Delay, 4);
        let due = in_a_minute();
        let delayed = |id| message_with("later", id, |system| system.delivery_timestamp = Some(due));
        let answer = send(&mut h.client, vec![delayed("1")]).await;
        assert_eq!(code(answer.status.as_ref()), Code::Ok);
        let entry = &answer.entries[0];
        assert_eq!((entry.recall_handle.as_str(), entry.transaction_id.as_str()), ("ticket-0", "1"));
        assert_eq!(h.store.world().waiting[0].due_ms, millis(due));

        let batch = send(&mut h.client, vec![delayed("2"), delayed("3")]).await;
        assert!(batch.entries.iter().all(|entry| entry.recall_handle.is_empty()), "a batch is not recalled");
        let past = message_with("later", "4", |system| system.delivery_timestamp = Some(Default::default()));
        let entry = send(&mut h.client, vec![past]).await.entries.remove(0);
        assert_eq!((entry.recall_handle.as_str(), code(entry.status.as_ref())), ("", Code::Ok));
        assert_eq!(h.store.world().waiting.len(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_message_says_how_long_it_is_worth_delivering() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 1);
        let with = |value: &str| {
            let mut message = message("orders", "1");
            message.user_properties.insert("ttl-ms".into(), value.into());
            message
        };
        let answer = send(&mut h.client, vec![with("60000"), message("orders", "2")]).await;
        assert_eq!(code(answer.status.as_ref()), Code::Ok);
        let ttls: Vec<u64> = {
            let world = h.store.world();
            world.queues.values().flatten().map(|message: &NewMessage| message.ttl_ms).collect()
        };
        assert_eq!(ttls, [60_000, 0]);
        let answer = send(&mut h.client, vec![with("soon")]).await;
        assert_eq!(code(answer.status.as_ref()), Code::IllegalMessagePropertyKey);
    })
    .await;
}

#[tokio::test]
async fn priorities_have_queues_of_their_own() {
    both(async |mut h: Harness| {
        h.store.add_topic("urgent", TopicType::Priority, 3);
        let of = |priority| {
            message_with("urgent", "1", |system| {
                system.priority = Some(priority);
                // As some clients call it.
                system.message_type = MessageType::Normal.into();
            })
        };
        for priority in [0, 1, 2, 9] {
            let answer = send(&mut h.client, vec![of(priority)]).await;
            assert_eq!(code(answer.status.as_ref()), Code::Ok, "{priority}");
        }
        let world = h.store.world();
        let count = |queue| world.queues.get(&("urgent".to_owned(), queue)).map_or(0, Vec::len);
        assert_eq!([count(0), count(1), count(2)], [1, 1, 2]);
    })
    .await;
}

#[tokio::test]
async fn a_recall_says_why_it_is_refused() {
    both(async |mut h: Harness| {
        h.store.add_topic("later", TopicType::Delay, 4);
        h.store.add_topic("mixed", TopicType::Mixed, 4);
        h.store.add_topic("plain", TopicType::Normal, 4);
        let recall = async |h: &mut Harness, topic: &str, handle: &str| {
            let request = RecallMessageRequest { topic: named(topic), recall_handle: handle.into() };
            let answer = h.client.recall_message(ours(request)).await.expect("a status").into_inner();
            (code(answer.status.as_ref()), answer.message_id)
        };
        assert_eq!(recall(&mut h, "later", "ticket").await, (Code::Ok, "recalled".into()));
        assert_eq!(recall(&mut h, "mixed", "ticket").await.0, Code::Ok);
        assert_eq!(recall(&mut h, "plain", "ticket").await.0, Code::MessagePropertyConflictWithType);
        assert_eq!(recall(&mut h, "nowhere", "ticket").await.0, Code::TopicNotFound);
        assert_eq!(recall(&mut h, "a b", "ticket").await.0, Code::IllegalTopic);
        assert_eq!(recall(&mut h, "later", " ").await.0, Code::BadRequest);
        assert_eq!(h.store.world().recalls.len(), 2);
        for (reason, expected) in [
            (Reason::TooLate, Code::NotFound),
            (Reason::MessageNotFound, Code::NotFound),
            (Reason::Invalid, Code::BadRequest),
            (Reason::InvalidHandle, Code::BadRequest),
        ] {
            h.store.world().error = Some(Error::new(reason, "no"));
            assert_eq!(recall(&mut h, "later", "ticket").await.0, expected, "{reason:?}");
        }
    })
    .await;
}
