//! Clients and lite topics that go away.

use super::*;

#[tokio::test]
async fn a_client_that_says_nothing_for_three_minutes_is_dropped_and_what_it_has_is_given_on() {
    let mut bench = Bench::new().await;
    bench.add("one", &["a", "b"]).await;
    bench.add("two", &["a"]).await;
    bench.send_all("a", &["1"]).await;
    let long = PopRequest { invisible_ms: 60 * MINUTE_MS, ..poll("one", 1, 0) };
    assert_eq!(ids(&bench.client.pop(long).await.expect("answered").into_inner().deliveries), ["1"]);
    for _ in 0..6 {
        bench.hands.pass(30_000);
        bench.sync("two", Action::CompleteAdd, &["a"]).await.expect("heard");
    }
    assert_eq!(bench.subscribers().await, owned(&[("a", 2), ("b", 1)]));
    // After a start everyone counts as just heard.
    bench.reopen().await;
    for _ in 0..6 {
        bench.hands.pass(29_000);
        bench.sync("two", Action::CompleteAdd, &["a"]).await.expect("heard");
    }
    assert_eq!(bench.subscribers().await, owned(&[("a", 2), ("b", 1)]));
    bench.hands.pass(20_000);
    bench.sync("two", Action::CompleteAdd, &["a"]).await.expect("heard");
    assert_eq!(bench.subscribers().await, owned(&[("a", 1), ("b", 0)]));
    assert_eq!(bench.pop_ids("two").await, ["1"]);
}

#[tokio::test]
async fn a_client_that_ends_loses_its_subscriptions_at_once() {
    let mut bench = Bench::new().await;
    bench.add("one", &["a", "b"]).await;
    bench.add("two", &["a", "b"]).await;
    bench.send_all("a", &["a1"]).await;
    bench.send_all("b", &["b1"]).await;
    let bound = PopRequest { session_bound: true, ..poll("one", 1, 0) };
    let plain = poll("one", 1, 0);
    for request in [bound, plain] {
        assert_eq!(bench.client.pop(request).await.expect("answered").into_inner().deliveries.len(), 1);
    }
    assert_eq!(bench.end("one").await, 2);
    let mut again = bench.pop_ids("two").await;
    again.sort_unstable();
    assert_eq!((again, bench.subscribers().await), (vec!["a1".into(), "b1".into()], owned(&[("a", 1), ("b", 1)])));
}

#[tokio::test]
async fn a_client_that_ends_gives_back_what_it_has_though_the_store_was_started_anew() {
    let mut bench = Bench::new().await;
    bench.put_group(GROUP, Lite { wildcard: true, ..Default::default() }).await.expect("made");
    bench.send_all("a", &["a1"]).await;
    assert_eq!(bench.pop_ids("one").await, ["a1"]);
    bench.reopen().await;
    assert_eq!(bench.end("one").await, 1);
    assert_eq!(bench.pop_ids("two").await, ["a1"]);
}

#[tokio::test]
async fn a_lite_topic_nobody_writes_to_is_deleted_and_its_name_begins_anew() {
    let mut bench = Bench::new().await;
    bench.config.lite_expiry_min_ms = MINUTE_MS;
    bench.reopen().await;
    bench.put_lite_topic(TOPIC, Some(MINUTE_MS)).await;
    bench.add("one", &["a"]).await;
    bench.send_all("a", &["a1"]).await;
    bench.send_all("b", &["b1"]).await;
    bench.hands.pass(MINUTE_MS);
    bench.sync("one", Action::CompleteAdd, &["a"]).await.expect("heard");
    bench.send_all("b", &["b2"]).await;
    bench.hands.pass(MINUTE_MS + 30_000);
    bench.sync("one", Action::CompleteAdd, &["a"]).await.expect("heard");
    assert_eq!(bench.names().await, [""; 0]);
    let notice = Notice { group: GROUP.to_owned(), client: "one".to_owned(), lite_topic: "a".to_owned() };
    assert_eq!(bench.notices().await, [notice]);
    bench.reopen().await;
    bench.send_all("c", &["c1"]).await;
    bench.add("one", &["a", "c"]).await;
    bench.send_all("a", &["a2"]).await;
    let since = QueryMessagesRequest { topic: TOPIC.to_owned(), by: Some(By::FromMs(0)), limit: 100 };
    let found = bench.client.query_messages(since).await.expect("found").into_inner().messages;
    assert_eq!(ids(&found), ["c1", "a2"]);
    let mut seen = bench.drain("one").await;
    seen.sort_unstable();
    assert_eq!(seen, ["a2", "c1"]);
}

#[tokio::test]
async fn what_died_is_kept_however_much_it_is_and_old_its_lite_topic() {
    let mut bench = Bench::new().await;
    bench.config.lite_expiry_min_ms = MINUTE_MS;
    bench.reopen().await;
    bench.put_lite_topic(TOPIC, Some(MINUTE_MS)).await;
    bench.put_group_of_one_attempt().await;
    let lite_topics = ["a", "b", "c", "d"];
    bench.add("one", &lite_topics).await;
    for lite_topic in lite_topics {
        bench.send_all(lite_topic, &["1"; 30]).await;
    }
    for _ in lite_topics {
        assert_eq!(bench.pop("one", 30).await.len(), 30);
    }
    bench.hands.pass(10 * MINUTE_MS);
    bench.reopen().await;
    bench.wait_for_no_lite_topics().await;
    let grave = DescribeTopicRequest { name: "%DLQ%bots".to_owned() };
    let described = bench.client.describe_topic(grave).await.expect("made by those who died").into_inner();
    assert_eq!(described.queues[0].end, 120);
}

#[tokio::test]
async fn what_dies_with_its_client_is_kept_though_its_lite_topic_goes_in_the_same_turn() {
    let mut bench = Bench::new().await;
    bench.config.lite_expiry_min_ms = MINUTE_MS;
    bench.reopen().await;
    bench.put_lite_topic(TOPIC, Some(MINUTE_MS)).await;
    bench.put_group_of_one_attempt().await;
    bench.add("one", &["a"]).await;
    bench.send_all("a", &["1"]).await;
    let held = PopRequest { session_bound: true, invisible_ms: 60 * MINUTE_MS, ..poll("one", 1, 0) };
    assert_eq!(bench.client.pop(held).await.expect("answered").into_inner().deliveries.len(), 1);
    // The client is missed after one minute, lite topics are looked through after two.
    bench.hands.pass(2 * MINUTE_MS + 1);
    bench.wait_for_no_lite_topics().await;
    let grave = DescribeTopicRequest { name: "%DLQ%bots".to_owned() };
    let described = bench.client.describe_topic(grave).await.expect("made by the one who died").into_inner();
    assert_eq!(described.queues[0].end, 1);
}

#[tokio::test]
async fn what_expired_does_not_come_back_by_being_listed() {
    let mut bench = Bench::new().await;
    bench.config.lite_expiry_min_ms = MINUTE_MS;
    bench.reopen().await;
    bench.put_lite_topic(TOPIC, Some(MINUTE_MS)).await;
    bench.add("one", &["a"]).await;
    bench.hands.pass(2 * MINUTE_MS + 1);
    bench.sync("one", Action::CompleteAdd, &["a"]).await.expect("heard");
    bench.sync("one", Action::CompleteAdd, &["a"]).await.expect("heard");
    assert_eq!(bench.names().await, [""; 0]);
    bench.send_all("a", &["1"]).await;
    bench.sync("one", Action::CompleteAdd, &["a"]).await.expect("subscribed");
    assert_eq!(bench.drain("one").await, ["1"]);
}

#[tokio::test]
async fn what_expired_and_was_left_out_of_a_list_comes_back_by_being_listed() {
    let mut bench = Bench::new().await;
    bench.config.lite_expiry_min_ms = MINUTE_MS;
    bench.reopen().await;
    bench.put_lite_topic(TOPIC, Some(MINUTE_MS)).await;
    bench.add("one", &["a"]).await;
    bench.hands.pass(2 * MINUTE_MS + 1);
    bench.sync("one", Action::CompleteAdd, &["a"]).await.expect("passed over");
    assert_eq!(bench.names().await, [""; 0]);
    bench.sync("one", Action::CompleteAdd, &[]).await.expect("heard");
    bench.sync("one", Action::CompleteAdd, &["a"]).await.expect("subscribed");
    assert_eq!(bench.subscribers().await, owned(&[("a", 1)]));
}

#[tokio::test]
async fn a_topic_made_again_has_nothing_of_the_one_before() {
    let mut bench = Bench::new().await;
    bench.add("one", &["a"]).await;
    bench.send_all("a", &["1"]).await;
    let delete = DeleteTopicRequest { name: TOPIC.to_owned(), ..Default::default() };
    bench.client.delete_topic(delete).await.expect("deleted");
    let request = PutTopicRequest {
        name: TOPIC.to_owned(),
        r#type: TopicType::Lite.into(),
        mode: Mode::Create.into(),
        ..Default::default()
    };
    bench.client.put_topic(request).await.expect("made");
    assert_eq!(bench.names().await, [""; 0]);
    bench.reopen().await;
    bench.add("one", &["a"]).await;
    bench.send_all("a", &["2"]).await;
    assert_eq!(bench.drain("one").await, ["2"]);
}
