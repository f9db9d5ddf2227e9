use centaur_apis::{
    log::TopicType,
    store::{Error, Reason},
    v2::*,
};

use crate::harness::*;

#[tokio::test]
async fn every_message_gets_its_own_entry_in_order() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 4);
        let messages = (0..5).map(|i| message("orders", &format!("ID{i}"))).collect();
        let answer = send(&mut h.client, messages).await;
        assert_eq!(code(answer.status.as_ref()), Code::Ok);
        let ids: Vec<_> = answer.entries.iter().map(|e| (e.message_id.as_str(), e.offset)).collect();
        assert_eq!(ids, [("ID0", 0), ("ID1", 1), ("ID2", 2), ("ID3", 3), ("ID4", 4)]);
        assert!(answer.entries.iter().all(|e| e.transaction_id == e.message_id && e.recall_handle.is_empty()));
        assert!(answer.entries.iter().all(|e| code(e.status.as_ref()) == Code::Ok));
    })
    .await;
}

#[tokio::test]
async fn requests_without_one_topic_are_corrupted() {
    both(async |mut h: Harness| {
        let cases = [vec![], vec![message("orders", "1"), message("invoices", "2")]];
        for messages in cases {
            let answer = send(&mut h.client, messages).await;
            assert_eq!(code(answer.status.as_ref()), Code::MessageCorrupted);
            assert!(answer.entries.is_empty());
        }
        assert!(h.store.world().appends.is_empty());
    })
    .await;
}

#[tokio::test]
async fn one_bad_message_refuses_the_whole_request() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 4);
        let mut bad = message("orders", "2");
        bad.body = Default::default();
        let answer = send(&mut h.client, vec![message("orders", "1"), bad]).await;
        assert_eq!(code(answer.status.as_ref()), Code::MessageBodyEmpty);
        assert!(h.store.world().appends.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_full_body_with_full_properties_passes_and_one_byte_more_does_not() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 4);
        let mut full = message("orders", "1");
        full.body = vec![7; 4 << 20].into();
        full.user_properties.insert("k".into(), "v".repeat((16 << 10) - 1));
        let answer = send(&mut h.client, vec![full.clone()]).await;
        assert_eq!(code(answer.status.as_ref()), Code::Ok);
        full.body = vec![7; (4 << 20) + 1].into();
        let answer = send(&mut h.client, vec![full]).await;
        assert_eq!(code(answer.status.as_ref()), Code::MessageBodyTooLarge);
    })
    .await;
}

#[tokio::test]
async fn an_unknown_topic_is_refused_in_words_clients_know() {
    both(async |mut h: Harness| {
        let answer = send(&mut h.client, vec![message("nowhere", "1")]).await;
        assert_eq!(code(answer.status.as_ref()), Code::TopicNotFound);
        assert!(answer.status.is_some_and(|s| s.message.starts_with("CODE: 17")));
    })
    .await;
}

#[tokio::test]
async fn a_topic_takes_only_its_type() {
    both(async |mut h: Harness| {
        h.store.add_topic("plain", TopicType::Normal, 4);
        h.store.add_topic("fifo", TopicType::Fifo, 4);
        h.store.add_topic("mixed", TopicType::Mixed, 4);
        let mut cases = vec![
            (grouped("plain", "1", "g"), Code::MessagePropertyConflictWithType),
            (message("fifo", "1"), Code::MessagePropertyConflictWithType),
            (grouped("fifo", "1", "g"), Code::Ok),
            (grouped("mixed", "1", "g"), Code::Ok),
            (message("mixed", "1"), Code::Ok),
        ];
        let mut delayed = message("mixed", "1");
        let later = (std::time::SystemTime::now() + std::time::Duration::from_secs(60)).into();
        delayed.system_properties.as_mut().expect("set").delivery_timestamp = Some(later);
        cases.push((delayed.clone(), Code::Ok));
        delayed.system_properties.as_mut().expect("set").delivery_timestamp = Some(Default::default());
        cases.push((delayed, Code::Ok));
        let mut half = message("mixed", "1");
        half.system_properties.as_mut().expect("set").message_type = MessageType::Transaction.into();
        cases.push((half, Code::Ok));
        let mut urgent = message("mixed", "1");
        urgent.system_properties.as_mut().expect("set").priority = Some(1);
        cases.push((urgent, Code::MessagePropertyConflictWithType));
        let mut lite = message("mixed", "1");
        lite.system_properties.as_mut().expect("set").lite_topic = Some("room".into());
        cases.push((lite, Code::MessagePropertyConflictWithType));
        for (message, expected) in cases {
            let answer = send(&mut h.client, vec![message.clone()]).await;
            assert_eq!(code(answer.status.as_ref()), expected, "{message:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_topic_changed_a_moment_ago_is_seen_as_it_is_now() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 4);
        assert_eq!(code(send(&mut h.client, vec![message("orders", "1")]).await.status.as_ref()), Code::Ok);
        h.store.add_topic("orders", TopicType::Fifo, 4);
        let answer = send(&mut h.client, vec![grouped("orders", "2", "g")]).await;
        assert_eq!(code(answer.status.as_ref()), Code::Ok);
    })
    .await;
}

#[tokio::test]
async fn a_message_group_stays_in_one_queue() {
    both(async |mut h: Harness| {
        h.store.add_topic("fifo", TopicType::Fifo, 8);
        for i in 0..10 {
            let mut one = grouped("fifo", &i.to_string(), "order-7");
            one.system_properties.as_mut().expect("set").queue_id = i;
            send(&mut h.client, vec![one]).await;
        }
        let batch = (10..20).map(|i| grouped("fifo", &i.to_string(), "order-7")).collect();
        send(&mut h.client, batch).await;
        let world = h.store.world();
        let sizes: Vec<usize> = world.queues.values().map(Vec::len).collect();
        assert_eq!(sizes, [20]);
    })
    .await;
}

#[tokio::test]
async fn messages_without_a_group_take_turns_over_the_queues() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 4);
        for i in 0..12 {
            send(&mut h.client, vec![message("orders", &i.to_string())]).await;
        }
        let world = h.store.world();
        let sizes: Vec<usize> = world.queues.values().map(Vec::len).collect();
        assert_eq!(sizes, [3; 4]);
    })
    .await;
}

#[tokio::test]
async fn a_refusal_of_the_store_is_that_of_the_whole_request() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 4);
        h.store.world().append_error = Some(Error::new(Reason::Full, "the disk is full"));
        let answer = send(&mut h.client, vec![message("orders", "1")]).await;
        assert_eq!(code(answer.status.as_ref()), Code::TooManyRequests);
        assert!(answer.entries.is_empty());
    })
    .await;
}

#[tokio::test]
async fn concurrent_sends_share_calls_and_keep_their_own_results() {
    both(async |h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 1);
        h.store.gate.forget_permits(1_000);
        let sends = (0..100).map(|i| {
            let mut client = h.client.clone();
            tokio::spawn(async move { send(&mut client, vec![message("orders", &i.to_string())]).await })
        });
        let mut sends: Vec<_> = sends.collect();
        h.store.until("an append waits", |world| !world.appends.is_empty()).await;
        // Whoever goes away does not disturb the others.
        sends.remove(0).abort();
        h.store.gate.add_permits(1_000);
        let mut offsets = Vec::new();
        for sent in sends {
            let answer = sent.await.expect("not aborted");
            assert_eq!(code(answer.status.as_ref()), Code::Ok);
            let entry = &answer.entries[0];
            let world = h.store.world();
            let stored = &world.queues[&("orders".to_owned(), 0)][entry.offset as usize];
            assert_eq!(stored.body, format!("body of {}", entry.message_id));
            offsets.push(entry.offset);
        }
        offsets.sort_unstable();
        offsets.dedup();
        assert_eq!(offsets.len(), 99);
        let calls = h.store.world().appends.len();
        assert!(calls < 50, "{calls} calls for 100 sends");
    })
    .await;
}
