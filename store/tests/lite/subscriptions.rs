//! What clients say they consume, and what groups allow.

use super::*;

#[tokio::test]
async fn groups_keep_to_their_topic() {
    let mut bench = Bench::new().await;
    create_topic(&mut bench.client, "plain", 1).await.expect("made");
    bench.put_lite_topic("rooms", None).await;
    bench.put_group(GROUP, Lite::default()).await.expect("made");
    let bound = |topic: &str| Lite { topic: topic.to_owned(), ..Default::default() };
    assert_eq!(bench.put_group(GROUP, bound("rooms")).await, Err(Reason::Precondition));
    assert_eq!(bench.put_group("other", bound("plain")).await, Err(Reason::IllegalTopic));
    assert_eq!(bench.put_group("other", bound("none")).await, Err(Reason::TopicNotFound));
    let both = Lite { exclusive: true, wildcard: true, ..Default::default() };
    assert_eq!(bench.put_group("other", both).await, Err(Reason::Invalid));
    // A group that is lite stays off ordinary topics, and the other way round.
    assert_eq!(harness::pop(&mut bench.client, GROUP, "plain", 1).await, Err(Reason::IllegalTopic));
    assert_eq!(harness::pop(&mut bench.client, GROUP, "rooms", 1).await, Err(Reason::IllegalTopic));
    harness::pop(&mut bench.client, "workers", "plain", 1).await.expect("answered");
    assert_eq!(harness::pop(&mut bench.client, "workers", TOPIC, 1).await, Err(Reason::IllegalGroup));
    assert_eq!(bench.put_group("workers", Lite::default()).await, Err(Reason::Precondition));
    let add = |group: &str, topic: &str| SyncLiteRequest {
        group: group.to_owned(),
        topic: topic.to_owned(),
        ..request("one", Action::PartialAdd, &["a"])
    };
    assert_eq!(bench.sync_request(add("workers", TOPIC)).await, Err(Reason::IllegalGroup));
    assert_eq!(bench.sync_request(add(GROUP, "rooms")).await, Err(Reason::IllegalTopic));
    assert_eq!(bench.sync_request(add("new", "plain")).await, Err(Reason::IllegalTopic));
    assert_eq!(bench.sync_request(add("new", TOPIC)).await, Ok(()));
    let unknown = SyncLiteRequest { create_group: false, ..add("unknown", TOPIC) };
    assert_eq!(bench.sync_request(unknown).await, Err(Reason::GroupNotFound));
}

#[tokio::test]
async fn quotas_are_kept() {
    let mut bench = Bench::new().await;
    bench.put_group(GROUP, Lite { client_quota: 2, ..Default::default() }).await.expect("made");
    assert_eq!(bench.sync("one", Action::PartialAdd, &["a", "b", "c"]).await, Err(Reason::LiteSubscriptionQuota));
    bench.add("one", &["a", "b"]).await;
    bench.add("one", &["a"]).await;
    assert_eq!(bench.sync("one", Action::PartialAdd, &["c"]).await, Err(Reason::LiteSubscriptionQuota));
    assert_eq!(bench.sync("one", Action::PartialAdd, &["c d"]).await, Err(Reason::IllegalLiteTopic));
    let names: Vec<String> = (0..303).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(bench.sync("one", Action::CompleteAdd, &names).await, Err(Reason::LiteSubscriptionQuota));
    assert_eq!(bench.sync("one", Action::CompleteAdd, &names[..302]).await, Ok(()));
    assert_eq!(bench.subscribers().await.iter().filter(|(_, subscribers)| *subscribers == 1).count(), 302);
}

#[tokio::test]
async fn a_complete_list_is_the_set_and_repeating_it_leaves_no_record() {
    let mut bench = Bench::new().await;
    assert_eq!(bench.sync("one", Action::CompleteAdd, &[]).await, Ok(()));
    bench.sync("one", Action::CompleteAdd, &["a", "b"]).await.expect("subscribed");
    bench.sync("one", Action::CompleteAdd, &["b", "c"]).await.expect("subscribed");
    assert_eq!(bench.subscribers().await, owned(&[("a", 0), ("b", 1), ("c", 1)]));
    let written = bench.written().await;
    bench.sync("one", Action::CompleteAdd, &["c", "b"]).await.expect("subscribed");
    bench.add("one", &["c"]).await;
    bench.sync("one", Action::PartialRemove, &["a", "x"]).await.expect("nothing to remove");
    assert_eq!(bench.written().await, written);
    // An older list comes late.
    let versioned = |version, names: &[&str]| SyncLiteRequest { version, ..request("one", Action::CompleteAdd, names) };
    bench.sync_request(versioned(5, &["b"])).await.expect("subscribed");
    bench.sync_request(versioned(4, &["a", "c"])).await.expect("passed over");
    assert_eq!(bench.subscribers().await, owned(&[("a", 0), ("b", 1), ("c", 0)]));
    bench.reopen().await;
    bench.sync("one", Action::CompleteRemove, &[]).await.expect("removed");
    assert_eq!(bench.subscribers().await, owned(&[("a", 0), ("b", 0), ("c", 0)]));
}

#[tokio::test]
async fn a_first_subscription_begins_where_it_asks_to() {
    let mut bench = Bench::new().await;
    let all = ["0", "1", "2", "3", "4"];
    let cases = [
        (None, &all[..]),
        (Some(At::Last(true)), &all[..]),
        (Some(At::Earliest(true)), &all[..]),
        (Some(At::Latest(true)), &[]),
        (Some(At::Offset(3)), &all[3..]),
        (Some(At::Offset(99)), &[]),
        (Some(At::Tail(2)), &all[3..]),
        (Some(At::Tail(99)), &all[..]),
        (Some(At::FromMs(START_MS + 2_000)), &all[2..]),
        (Some(At::FromMs(START_MS + 99_000)), &[]),
    ];
    for id in all {
        for case in 0..cases.len() {
            bench.send(&format!("case{case}"), id).await.expect("sent");
        }
        bench.hands.pass(1_000);
    }
    for (case, (at, expected)) in cases.into_iter().enumerate() {
        let name = format!("case{case}");
        let offset = at.map(|at| LiteOffset { at: Some(at) });
        let add = SyncLiteRequest { offset, ..request(&name, Action::PartialAdd, &[&name]) };
        bench.sync_request(add).await.expect("subscribed");
        assert_eq!(bench.pop_ids(&name).await, *expected, "{at:?}");
    }
}

#[tokio::test]
async fn a_group_goes_on_where_it_was_and_an_offset_asked_for_clears_what_is_in_hand() {
    let mut bench = Bench::new().await;
    bench.add("one", &["a"]).await;
    bench.send_all("a", &["0", "1", "2"]).await;
    let some = bench.pop("one", 1).await;
    bench.ack(&some[0]).await;
    bench.sync("one", Action::PartialRemove, &["a"]).await.expect("left");
    assert_eq!(bench.pop_ids("one").await, [""; 0]);
    bench.reopen().await;
    bench.add("two", &["a"]).await;
    let in_hand = bench.pop("two", 32).await;
    assert_eq!(ids(&in_hand), ["1", "2"]);
    let earliest = Some(LiteOffset { at: Some(At::Earliest(true)) });
    bench
        .sync_request(SyncLiteRequest { offset: earliest, ..request("two", Action::PartialAdd, &["a"]) })
        .await
        .expect("put there");
    assert_eq!(bench.pop_ids("two").await, ["0", "1", "2"]);
    let late = ack(&mut bench.client, GROUP, TOPIC, &in_hand[0].handle).await;
    assert_eq!(late, Err(Reason::InvalidHandle));
}

#[tokio::test]
async fn leaving_puts_the_group_at_the_oldest_message_when_it_is_set_so() {
    let mut bench = Bench::new().await;
    bench.put_group(GROUP, Lite { reset_when_left: true, ..Default::default() }).await.expect("made");
    bench.add("one", &["a"]).await;
    bench.add("two", &["a"]).await;
    bench.send_all("a", &["0", "1"]).await;
    assert_eq!(bench.drain("one").await, ["0", "1"]);
    bench.sync("one", Action::PartialRemove, &["a"]).await.expect("left");
    assert_eq!(bench.pop_ids("two").await, [""; 0]); // somebody still goes on with it
    bench.sync("two", Action::PartialRemove, &["a"]).await.expect("left");
    bench.add("one", &["a"]).await;
    assert_eq!(bench.drain("one").await, ["0", "1"]);
}

#[tokio::test]
async fn an_exclusive_group_has_one_subscriber_and_tells_the_one_before() {
    let mut bench = Bench::new().await;
    bench.put_group(GROUP, Lite { exclusive: true, ..Default::default() }).await.expect("made");
    bench.add("one", &["a", "b"]).await;
    bench.add("two", &["a"]).await;
    let notice =
        |client: &str| Notice { group: GROUP.to_owned(), client: client.to_owned(), lite_topic: "a".to_owned() };
    assert_eq!(bench.notices().await, [notice("one")]);
    bench.send_all("a", &["1"]).await;
    assert_eq!(bench.pop_ids("one").await, [""; 0]);
    bench.reopen().await;
    // It still lists what was taken from it, and does not get it back by that.
    bench.sync("one", Action::CompleteAdd, &["a", "b"]).await.expect("passed over");
    assert_eq!(bench.pop_ids("one").await, [""; 0]);
    assert_eq!(bench.drain("two").await, ["1"]);
    assert_eq!(bench.notices().await, []);
    bench.add("one", &["a"]).await;
    assert_eq!(bench.notices().await, [notice("two")]);
    bench.send_all("a", &["2"]).await;
    assert_eq!((bench.pop_ids("two").await, bench.pop_ids("one").await), (vec![], vec!["2".to_owned()]));
    bench.hands.pass(2 * MINUTE_MS);
    bench.sync("one", Action::CompleteAdd, &["a", "b"]).await.expect("subscribed");
    assert_eq!(bench.notices().await, []);
}

#[tokio::test]
async fn a_notice_of_what_a_client_has_again_is_not_given() {
    let mut bench = Bench::new().await;
    bench.put_group(GROUP, Lite { exclusive: true, ..Default::default() }).await.expect("made");
    let notice =
        |client: &str| Notice { group: GROUP.to_owned(), client: client.to_owned(), lite_topic: "a".to_owned() };
    bench.add("one", &["a"]).await;
    bench.add("two", &["a"]).await;
    bench.add("one", &["a"]).await;
    assert_eq!(bench.notices().await, [notice("two")]);
    bench.add("two", &["a"]).await;
    assert!(bench.notices().await.contains(&notice("one")));
    assert!(!bench.notices().await.contains(&notice("two")));
}

#[tokio::test]
async fn the_next_subscriber_begins_at_the_oldest_message_when_it_is_set_so() {
    let mut bench = Bench::new().await;
    bench.put_group(GROUP, Lite { exclusive: true, reset_when_moved: true, ..Default::default() }).await.expect("made");
    bench.add("one", &["a"]).await;
    bench.send_all("a", &["0", "1"]).await;
    assert_eq!(bench.drain("one").await, ["0", "1"]);
    bench.add("two", &["a"]).await;
    assert_eq!(bench.drain("two").await, ["0", "1"]);
}

#[tokio::test]
async fn where_a_subscriber_asks_to_begin_counts_before_where_the_next_one_begins() {
    let mut bench = Bench::new().await;
    bench.put_group(GROUP, Lite { exclusive: true, reset_when_moved: true, ..Default::default() }).await.expect("made");
    bench.add("one", &["a"]).await;
    bench.send_all("a", &["0", "1"]).await;
    assert_eq!(bench.drain("one").await, ["0", "1"]);
    // The group is there already.
    let latest = Some(LiteOffset { at: Some(At::Latest(true)) });
    let add = SyncLiteRequest { offset: latest, ..request("two", Action::PartialAdd, &["a"]) };
    bench.sync_request(add).await.expect("subscribed");
    assert_eq!(bench.drain("two").await, [""; 0]);
}

#[tokio::test]
async fn descriptions_stay_small() {
    let mut bench = Bench::new().await;
    let names: Vec<String> = (0..50).map(|n| format!("n{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    bench.add("one", &names).await;
    bench.send_all("n07", &["1", "2"]).await;
    let topic = bench.client.describe_topic(DescribeTopicRequest { name: TOPIC.to_owned() }).await.expect("described");
    let topic = topic.into_inner();
    assert_eq!((topic.queues.len(), topic.topic.map(|topic| topic.queues)), (0, Some(4)));
    let group = bench.client.describe_group(DescribeGroupRequest { name: GROUP.to_owned() }).await.expect("described");
    let progress = group.into_inner().topics.remove(0);
    assert_eq!((progress.queues.len(), progress.backlog.map(|backlog| backlog.ready)), (1, Some(2)));
    let page = ListLiteTopicsRequest { topic: TOPIC.to_owned(), after: "n06".to_owned(), limit: 2 };
    let page = bench.client.list_lite_topics(page).await.expect("listed").into_inner();
    let listed: Vec<_> = page.lite_topics.iter().map(|lite| (lite.name.as_str(), lite.subscribers)).collect();
    assert_eq!((listed, page.total), (vec![("n07", 1), ("n08", 1)], 50));
    assert_eq!(page.lite_topics[0].state.map(|state| state.end), Some(2));
    create_topic(&mut bench.client, "plain", 1).await.expect("made");
    let plain = ListLiteTopicsRequest { topic: "plain".to_owned(), ..Default::default() };
    let refused = bench.client.list_lite_topics(plain).await.map_err(|status| reason(&status));
    assert_eq!(refused.map(drop), Err(Reason::IllegalTopic));
}

#[tokio::test]
async fn a_group_is_told_when_its_topic_was_made_again_as_another() {
    let mut bench = Bench::new().await;
    bench.add("one", &["a"]).await;
    let delete = DeleteTopicRequest { name: TOPIC.to_owned(), ..Default::default() };
    bench.client.delete_topic(delete).await.expect("deleted");
    create_topic(&mut bench.client, TOPIC, 1).await.expect("made");
    assert_eq!(harness::pop(&mut bench.client, GROUP, TOPIC, 1).await, Err(Reason::IllegalTopic));
}

#[tokio::test]
async fn dead_letters_do_not_go_to_lite_topics() {
    let mut bench = Bench::new().await;
    let request =
        PutTopicRequest { name: format!("%DLQ%{GROUP}"), r#type: TopicType::Lite.into(), ..Default::default() };
    let refused = bench.client.put_topic(request).await.map(drop).map_err(|status| reason(&status));
    assert_eq!(refused, Err(Reason::Invalid));
}
