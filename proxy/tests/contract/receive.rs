use std::time::Duration;

use centaur_apis::{
    log::TopicType,
    v2::{receive_message_response::Content, *},
};

use crate::harness::*;

async fn with_messages(h: &mut Harness, count: usize) {
    h.store.add_topic("orders", TopicType::Normal, 4);
    for i in 0..count {
        let mut sent = message("orders", &format!("ID{i}"));
        sent.user_properties.insert("color".into(), "red".into());
        let system = sent.system_properties.as_mut().expect("set");
        system.keys = vec!["a key".into(), "another".into()];
        system.delivery_attempt = Some(99);
        send(&mut h.client, vec![sent]).await;
    }
}

#[tokio::test]
async fn a_message_arrives_as_published_with_everything_clients_need() {
    both(async |mut h: Harness| {
        with_messages(&mut h, 1).await;
        let (code, mut messages) = receive(&mut h.client, ours(receive_from("orders", "workers"))).await;
        assert_eq!((code, messages.len()), (Code::Ok, 1));
        let message = messages.remove(0);
        assert_eq!(message.body, "body of ID0");
        assert_eq!(message.topic, named("orders"));
        assert_eq!(message.user_properties, [("color".to_owned(), "red".to_owned())].into());
        let system = message.system_properties.expect("set");
        let digest = system.body_digest.as_ref().expect("set");
        assert_eq!(digest.r#type(), DigestType::Md5);
        // md5sum of "body of ID0"
        assert_eq!(digest.checksum, "95B1BBF69EB5BB0E402C60BA2E11F864");
        assert_eq!(system.keys, ["a key", "another"]);
        assert_eq!(system.body_encoding(), Encoding::Identity);
        assert_eq!(system.message_type(), MessageType::Normal);
        assert_eq!(system.message_id, "ID0");
        assert!(system.born_timestamp.is_some() && system.store_timestamp.is_some());
        assert_eq!(system.store_host, "broker-a");
        assert_eq!(system.delivery_attempt, Some(1));
        assert_eq!(system.queue_offset, Some(0));
        assert!(system.receipt_handle.is_some_and(|handle| !handle.is_empty()));
    })
    .await;
}

#[tokio::test]
async fn batches_are_at_most_32_and_at_least_1() {
    both(async |mut h: Harness| {
        with_messages(&mut h, 40).await;
        for (asked, given) in [(100, 32), (0, 1)] {
            let request = ReceiveMessageRequest { batch_size: asked, ..receive_from("orders", "workers") };
            let (code, messages) = receive(&mut h.client, ours(request)).await;
            assert_eq!((code, messages.len()), (Code::Ok, given), "asked for {asked}");
        }
    })
    .await;
}

#[tokio::test]
async fn unknown_brokers_and_queues_do_not_matter() {
    both(async |mut h: Harness| {
        with_messages(&mut h, 1).await;
        let mut request = receive_from("orders", "workers");
        let queue = request.message_queue.as_mut().expect("set");
        queue.id = 4711;
        queue.broker = Some(Broker { name: "virtual-broker".into(), ..Default::default() });
        assert_eq!(receive(&mut h.client, ours(request)).await.0, Code::Ok);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_poll_ends_after_its_time_and_before_the_deadline() {
    let mut h = Harness::local(|_| ());
    h.store.add_topic("orders", TopicType::Normal, 1);
    // Asked for, deadline, and how long it takes; all in ms.
    for (asked, deadline, expected) in
        [(1, 60_000, 5_000), (60, 90_000, 20_000), (40, 40_000, 20_000), (20, 10_000, 9_800)]
    {
        let request =
            ReceiveMessageRequest { long_polling_timeout: Some(seconds(asked)), ..receive_from("orders", "workers") };
        let begun = tokio::time::Instant::now();
        let (code, messages) = receive(&mut h.client, within(Duration::from_millis(deadline), request)).await;
        assert_eq!((code, messages.len()), (Code::MessageNotFound, 0));
        let took = begun.elapsed().as_millis();
        assert!((expected..expected + 100).contains(&took), "{took} ms instead of {expected}");
    }
}

#[tokio::test]
async fn a_message_that_comes_ends_the_wait() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 1);
        let mut waiting = h.client.clone();
        let poll = tokio::spawn(async move { receive(&mut waiting, ours(receive_from("orders", "workers"))).await });
        h.store.until("the poll is parked", |world| world.parked == 1).await;
        send(&mut h.client, vec![message("orders", "1")]).await;
        let (code, messages) = poll.await.expect("no panic");
        assert_eq!((code, messages.len()), (Code::Ok, 1));
    })
    .await;
}

#[tokio::test]
async fn bad_requests_are_refused_in_order() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 1);
        let fine = || receive_from("orders", "workers");
        let topicless = || ReceiveMessageRequest { message_queue: None, ..fine() };
        let blank = FilterExpression { r#type: FilterType::Sql.into(), expression: " ".into() };
        let cases = [
            (within(Duration::from_secs(4), topicless()), Code::IllegalPollingTime),
            (ours(topicless()), Code::IllegalTopic),
            (ours(ReceiveMessageRequest { group: None, invisible_duration: None, ..fine() }), Code::IllegalConsumerGroup),
            (
                ours(ReceiveMessageRequest {
                    invisible_duration: Some(seconds(9)),
                    filter_expression: Some(blank.clone()),
                    ..fine()
                }),
                Code::IllegalInvisibleTime,
            ),
            (ours(ReceiveMessageRequest { filter_expression: Some(blank), ..fine() }), Code::IllegalFilterExpression),
            (ours(receive_from("nowhere", "workers")), Code::TopicNotFound),
        ];
        for (request, expected) in cases {
            let text = format!("{request:?}");
            let frames = frames(&mut h.client, request).await;
            assert!(
                matches!(&frames[..], [Content::Status(status), Content::DeliveryTimestamp(_)] if status.code() == expected),
                "{frames:?} for {text}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn unknown_groups_come_into_being_only_when_allowed() {
    let mut h = Harness::local(|config| config.create_groups_on_demand = false);
    h.store.add_topic("orders", TopicType::Normal, 1);
    let (code, _) = receive(&mut h.client, ours(receive_from("orders", "workers"))).await;
    assert_eq!(code, Code::ConsumerGroupNotFound);
}

#[tokio::test]
async fn leases_live_with_their_client_when_it_asks_for_that() {
    both(async |mut h: Harness| {
        with_messages(&mut h, 1).await;
        let attempt_id = Some("attempt-1".to_owned());
        let request = ReceiveMessageRequest {
            auto_renew: true,
            invisible_duration: None,
            attempt_id,
            ..receive_from("orders", "workers")
        };
        receive(&mut h.client, ours(request)).await;
        let world = h.store.world();
        let pop = &world.pops[0];
        assert!(pop.session_bound && pop.create_group);
        assert_eq!((pop.client.as_str(), pop.attempt.as_str()), (CLIENT, "attempt-1"));
    })
    .await;
}

#[tokio::test]
async fn a_client_that_stops_waiting_frees_its_place() {
    both(async |h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 1);
        let mut waiting = h.client.clone();
        let poll = tokio::spawn(async move { receive(&mut waiting, ours(receive_from("orders", "workers"))).await });
        h.store.until("the poll is parked", |world| world.parked == 1).await;
        poll.abort();
        h.store.until("the store knows that nobody waits", |world| world.parked == 0).await;
    })
    .await;
}

#[tokio::test]
async fn messages_nobody_reads_are_released() {
    let mut h = Harness::local(|_| ());
    with_messages(&mut h, 32).await;
    // Larger than what is written ahead, so that frames are left.
    let mut large = message("orders", "large");
    large.body = vec![1; 1 << 20].into();
    for _ in 0..4 {
        send(&mut h.client, vec![large.clone()]).await;
    }
    let stream = h.client.receive_message(ours(receive_from("orders", "workers"))).await.expect("ok");
    drop(stream);
    h.store.until("they are released", |world| world.changes.len() == 32).await;
    let world = h.store.world();
    assert!(world.changes.iter().all(|change| change.invisible_ms == 1_000 && change.uncounted));
}

#[tokio::test]
async fn a_draining_proxy_ends_waits_and_still_gives_what_is_there() {
    both(async |mut h: Harness| {
        h.store.add_topic("orders", TopicType::Normal, 1);
        let mut waiting = h.client.clone();
        let poll = tokio::spawn(async move { receive(&mut waiting, ours(receive_from("orders", "workers"))).await });
        h.store.until("the poll is parked", |world| world.parked == 1).await;
        h.proxy.drain();
        assert_eq!(poll.await.expect("no panic").0, Code::MessageNotFound);
        let again = receive(&mut h.client, ours(receive_from("orders", "workers"))).await;
        assert_eq!(again.0, Code::MessageNotFound);
        send(&mut h.client, vec![message("orders", "1")]).await;
        let (code, messages) = receive(&mut h.client, ours(receive_from("orders", "workers"))).await;
        assert_eq!((code, messages.len()), (Code::Ok, 1));
    })
    .await;
}
