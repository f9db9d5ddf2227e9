//! Lite topics: named queues that come and go, consumed in order by the clients subscribed to them.

mod harness;

use std::collections::BTreeMap;

use centaur_apis::{
    log::{Lite, TopicType},
    store::{
        ChangeVisibilityRequest, DeleteTopicRequest, Delivery, DescribeGroupRequest, DescribeTopicRequest,
        EndSessionRequest, ListLiteTopicsRequest, ListNoticesRequest, LiteOffset, LiteTopic, Mode, NewMessage, Notice,
        PopRequest, PutGroupRequest, PutTopicRequest, Reason, SyncLiteRequest, lite_offset::At,
        sync_lite_request::Action,
    },
};
use centaur_store::{Config, Flush, Store};
use harness::{Client, Hands, Medium, START_MS, UNLIMITED, ack, create_topic, message, message_id, reason, send};
use tempfile::TempDir;

const TOPIC: &str = "chats";
const GROUP: &str = "bots";
/// How long messages are taken for.
const INVISIBLE_MS: u64 = 60_000;
const MINUTE_MS: u64 = 60_000;

/// A store with one LITE topic, which is closed and opened again at will.
struct Bench {
    _data: TempDir,
    config: Config,
    hands: Hands,
    store: Option<Store>,
    client: Client,
}

impl Bench {
    async fn new() -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let config =
            Config { data_dir: data.path().into(), segment_bytes: 1 << 20, flush: Flush::Async, ..Config::default() };
        let hands = Hands::default();
        let (store, client) = harness::open(&config, &hands, &Medium::Real).expect("opens");
        let mut bench = Self { _data: data, config, hands, store: Some(store), client };
        bench.put_lite_topic(TOPIC, None).await;
        bench
    }

    async fn reopen(&mut self) {
        let store = self.store.take().expect("open");
        tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
        let (store, client) = harness::open(&self.config, &self.hands, &Medium::Real).expect("opens");
        (self.store, self.client) = (Some(store), client);
    }

    async fn put_lite_topic(&mut self, name: &str, lite_expiry_ms: Option<u64>) {
        let request = PutTopicRequest {
            name: name.to_owned(),
            r#type: TopicType::Lite.into(),
            queues: Some(4),
            lite_expiry_ms,
            ..Default::default()
        };
        self.client.put_topic(request).await.expect("a topic");
    }

    async fn put_group(&mut self, name: &str, lite: Lite) -> Result<(), Reason> {
        let lite = Lite { topic: if lite.topic.is_empty() { TOPIC.to_owned() } else { lite.topic.clone() }, ..lite };
        let request = PutGroupRequest { name: name.to_owned(), lite: Some(lite), ..Default::default() };
        self.client.put_group(request).await.map(drop).map_err(|status| reason(&status))
    }

    async fn send(&mut self, lite_topic: &str, id: &str) -> Result<u64, Reason> {
        let new = message(TOPIC, id, None, &[], id.into());
        send(&mut self.client, TOPIC, 0, NewMessage { lite_topic: lite_topic.to_owned(), ..new }).await
    }

    async fn send_all(&mut self, lite_topic: &str, ids: &[&str]) {
        for id in ids {
            self.send(lite_topic, id).await.expect("sent");
        }
    }

    async fn sync(&mut self, client: &str, action: Action, lite_topics: &[&str]) -> Result<(), Reason> {
        self.sync_request(request(client, action, lite_topics)).await
    }

    async fn sync_request(&mut self, request: SyncLiteRequest) -> Result<(), Reason> {
        self.client.sync_lite(request).await.map(drop).map_err(|status| reason(&status))
    }

    async fn add(&mut self, client: &str, lite_topics: &[&str]) {
        self.sync(client, Action::PartialAdd, lite_topics).await.expect("subscribed");
    }

    async fn pop(&mut self, client: &str, messages: u32) -> Vec<Delivery> {
        self.client.pop(poll(client, messages, 0)).await.expect("answered").into_inner().deliveries
    }

    async fn pop_ids(&mut self, client: &str) -> Vec<String> {
        ids(&self.pop(client, 32).await)
    }

    async fn ack(&mut self, delivery: &Delivery) {
        ack(&mut self.client, GROUP, TOPIC, &delivery.handle).await.expect("acked");
    }

    /// Takes and settles all that there is for a client; gives the ids.
    async fn drain(&mut self, client: &str) -> Vec<String> {
        let mut drained = Vec::new();
        loop {
            let some = self.pop(client, 32).await;
            if some.is_empty() {
                return drained;
            }
            for delivery in &some {
                self.ack(delivery).await;
            }
            drained.extend(ids(&some));
        }
    }

    async fn lite_topics(&mut self) -> Vec<LiteTopic> {
        let request = ListLiteTopicsRequest { topic: TOPIC.to_owned(), ..Default::default() };
        self.client.list_lite_topics(request).await.expect("listed").into_inner().lite_topics
    }

    async fn names(&mut self) -> Vec<String> {
        self.lite_topics().await.into_iter().map(|lite| lite.name).collect()
    }

    /// Subscribers of each lite topic.
    async fn subscribers(&mut self) -> Vec<(String, u32)> {
        self.lite_topics().await.into_iter().map(|lite| (lite.name, lite.subscribers)).collect()
    }

    async fn notices(&mut self) -> Vec<Notice> {
        let answer = self.client.list_notices(ListNoticesRequest { after: 0 }).await.expect("listed");
        answer.into_inner().notices
    }

    async fn written(&mut self) -> u64 {
        self.client.describe(centaur_apis::store::DescribeRequest {}).await.expect("described").into_inner().written_lsn
    }

    async fn end(&mut self, client: &str) -> u64 {
        let request = EndSessionRequest { client: client.to_owned(), ..Default::default() };
        self.client.end_session(request).await.expect("ended").into_inner().released
    }
}

fn request(client: &str, action: Action, lite_topics: &[&str]) -> SyncLiteRequest {
    SyncLiteRequest {
        topic: TOPIC.to_owned(),
        group: GROUP.to_owned(),
        client: client.to_owned(),
        action: action.into(),
        lite_topics: lite_topics.iter().map(|name| (*name).to_owned()).collect(),
        create_group: true,
        ..Default::default()
    }
}

fn poll(client: &str, messages: u32, wait_ms: u64) -> PopRequest {
    PopRequest {
        group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        client: client.to_owned(),
        messages_max: messages,
        bytes_max: UNLIMITED,
        invisible_ms: INVISIBLE_MS,
        wait_ms,
        create_group: true,
        ..Default::default()
    }
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| message_id(&delivery.properties)).collect()
}

fn owned(lite_topics: &[(&str, u32)]) -> Vec<(String, u32)> {
    lite_topics.iter().map(|(name, subscribers)| ((*name).to_owned(), *subscribers)).collect()
}

#[tokio::test]
async fn a_message_reaches_only_clients_that_are_subscribed() {
    let mut bench = Bench::new().await;
    bench.add("one", &["a"]).await;
    bench.add("two", &["b"]).await;
    bench.send_all("a", &["a1", "a2"]).await;
    bench.send_all("b", &["b1"]).await;
    bench.send_all("c", &["c1"]).await;
    bench.reopen().await;
    assert_eq!(bench.names().await, ["a", "b", "c"]);
    assert_eq!(bench.pop_ids("two").await, ["b1"]);
    assert_eq!(bench.pop_ids("one").await, ["a1", "a2"]);
    assert_eq!(bench.pop_ids("three").await, [""; 0]);
    bench.add("three", &["c", "a"]).await;
    assert_eq!(bench.pop_ids("three").await, ["c1"]);
}

#[tokio::test]
async fn a_lite_topic_is_consumed_in_order_one_batch_at_a_time() {
    let mut bench = Bench::new().await;
    bench.add("one", &["a"]).await;
    bench.add("two", &["a"]).await;
    bench.send_all("a", &["1", "2", "3", "4"]).await;
    let first = bench.pop("one", 2).await;
    assert_eq!(ids(&first), ["1", "2"]);
    assert_eq!(bench.pop_ids("two").await, [""; 0]);
    bench.ack(&first[1]).await;
    assert_eq!(bench.pop_ids("two").await, [""; 0]);
    bench.reopen().await;
    // What was not settled comes again, with what follows it; what was settled does not.
    bench.hands.pass(INVISIBLE_MS + 1);
    let again = bench.pop("two", 2).await;
    assert_eq!((ids(&again), again[0].attempt, again[1].attempt), (vec!["1".to_owned(), "3".to_owned()], 2, 1));
    for delivery in &again {
        bench.ack(delivery).await;
    }
    assert_eq!(bench.pop_ids("one").await, ["4"]);
}

#[tokio::test]
async fn what_is_given_back_comes_again_before_what_follows() {
    let mut bench = Bench::new().await;
    bench.add("one", &["a"]).await;
    bench.send_all("a", &["1", "2"]).await;
    let first = bench.pop("one", 1).await;
    let change = ChangeVisibilityRequest {
        group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        handle: first[0].handle.clone(),
        invisible_ms: 5_000,
        uncounted: true,
    };
    bench.client.change_visibility(change).await.expect("changed");
    assert_eq!(bench.pop_ids("one").await, [""; 0]);
    bench.hands.pass(5_000);
    let again = bench.pop("one", 32).await;
    assert_eq!((ids(&again), again[0].attempt), (vec!["1".to_owned(), "2".to_owned()], 1));
}

#[tokio::test]
async fn messages_and_lite_topics_have_to_fit() {
    let mut bench = Bench::new().await;
    assert_eq!(bench.send("", "1").await, Err(Reason::TypeConflict));
    assert_eq!(bench.send("a.b", "1").await, Err(Reason::IllegalLiteTopic));
    create_topic(&mut bench.client, "plain", 1).await.expect("made");
    let new = NewMessage { lite_topic: "a".to_owned(), ..message("plain", "1", None, &[], vec![]) };
    assert_eq!(send(&mut bench.client, "plain", 0, new).await, Err(Reason::TypeConflict));
    let due = NewMessage {
        lite_topic: "a".to_owned(),
        due_ms: START_MS + 1_000_000,
        ..message(TOPIC, "1", None, &[], vec![])
    };
    assert_eq!(send(&mut bench.client, TOPIC, 0, due).await, Err(Reason::TypeConflict));
    assert_eq!(bench.names().await, [""; 0]);
}

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
async fn everybody_in_a_wildcard_group_consumes_all_lite_topics() {
    let mut bench = Bench::new().await;
    bench.put_group(GROUP, Lite { wildcard: true, ..Default::default() }).await.expect("made");
    bench.send_all("a", &["a1"]).await;
    bench.sync("one", Action::CompleteAdd, &[]).await.expect("heard");
    assert_eq!(bench.pop_ids("one").await, ["a1"]);
    bench.send_all("b", &["b1"]).await;
    bench.reopen().await;
    bench.send_all("c", &["c1"]).await;
    bench.send_all("a", &["a2"]).await; // a1 is in hand
    assert_eq!(bench.pop_ids("two").await, ["b1", "c1"]);
    assert_eq!(bench.end("one").await, 1);
    assert_eq!(bench.pop_ids("two").await, ["a1", "a2"]);
}

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
async fn a_lite_topic_nobody_writes_to_is_deleted_and_its_name_begins_anew() {
    let mut bench = Bench::new().await;
    bench.config.lite_expiry_min_ms = MINUTE_MS;
    bench.reopen().await;
    bench.put_lite_topic(TOPIC, Some(10)).await;
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
    let mut seen = bench.drain("one").await;
    seen.sort_unstable();
    assert_eq!(seen, ["a2", "c1"]);
}

#[tokio::test]
async fn what_expired_does_not_come_back_by_being_listed() {
    let mut bench = Bench::new().await;
    bench.config.lite_expiry_min_ms = MINUTE_MS;
    bench.reopen().await;
    bench.put_lite_topic(TOPIC, Some(10)).await;
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
async fn a_parked_poll_is_woken_by_what_its_client_is_subscribed_to() {
    let mut bench = Bench::new().await;
    bench.add("one", &["a"]).await;
    bench.add("two", &["a", "b"]).await;
    let polls: Vec<_> = ["one", "two", "three"]
        .into_iter()
        .map(|client| {
            let mut store = bench.client.clone();
            tokio::spawn(async move { store.pop(poll(client, 32, 3_600_000)).await.expect("answered").into_inner() })
        })
        .collect();
    let [one, two, three] = <[_; 3]>::try_from(polls).expect("three");
    parked(&mut bench, 3).await;
    bench.send_all("b", &["b1"]).await;
    assert_eq!(ids(&two.await.expect("joined").deliveries), ["b1"]);
    bench.send_all("a", &["a1"]).await;
    let first = one.await.expect("joined").deliveries;
    assert_eq!(ids(&first), ["a1"]);
    // A first subscription with something in it wakes, too, and so does what is settled.
    bench.send_all("a", &["a2"]).await;
    bench.add("three", &["a"]).await;
    parked(&mut bench, 1).await;
    bench.ack(&first[0]).await;
    assert_eq!(ids(&three.await.expect("joined").deliveries), ["a2"]);
}

#[tokio::test]
async fn nothing_is_lost_with_a_client_that_was_woken_and_went_away() {
    let mut bench = Bench::new().await;
    for client in ["one", "two"] {
        bench.add(client, &["a"]).await;
    }
    for round in 0..20 {
        let spawn = |client: &'static str| {
            let mut store = bench.client.clone();
            tokio::spawn(async move { store.pop(poll(client, 32, 3_600_000)).await.map(|answer| answer.into_inner()) })
        };
        let (gone, stays) = (spawn("one"), spawn("two"));
        parked(&mut bench, 2).await;
        gone.abort();
        let id = round.to_string();
        bench.send_all("a", &[&id]).await;
        let given = match gone.await {
            // It was faster than its end.
            Ok(answer) => {
                stays.abort();
                answer
            }
            Err(_) => stays.await.expect("joined"),
        };
        let deliveries = given.expect("answered").deliveries;
        assert_eq!(ids(&deliveries), [id]);
        bench.ack(&deliveries[0]).await;
        parked(&mut bench, 0).await;
    }
}

/// Waits until so many polls of the group are parked.
async fn parked(bench: &mut Bench, polls: u32) {
    loop {
        let request = DescribeGroupRequest { name: GROUP.to_owned() };
        let described = bench.client.describe_group(request).await.expect("described").into_inner();
        if described.topics.iter().map(|topic| topic.polls).sum::<u32>() == polls {
            return;
        }
        tokio::task::yield_now().await;
    }
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

/// Random work against a small reference: order within each lite topic, nothing lost, nothing of a
/// lite topic that one is not subscribed to, with the store closed and opened in between.
#[tokio::test]
async fn random_work_keeps_order_and_loses_nothing() {
    const CLIENTS: [&str; 3] = ["one", "two", "three"];
    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
    let seed = harness::setting("CENTAUR_LITE_SEED", 7);
    let mut random = centaur_store::log::faulty::Random(seed);
    let mut bench = Bench::new().await;
    let mut sent: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut finished: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut held: Vec<Delivery> = Vec::new();
    let mut mine: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in NAMES {
        bench.send_all(name, &[&format!("{name}0")]).await;
        sent.entry(name).or_default().push(format!("{name}0"));
    }
    for step in 0..1500 {
        let client = CLIENTS[random.below(3) as usize];
        let name = NAMES[random.below(5) as usize];
        match random.below(100) {
            0..35 => {
                let id = format!("{name}{}", sent[name].len());
                bench.send(name, &id).await.expect("sent");
                sent.entry(name).or_default().push(id);
            }
            35..70 => {
                let taken = bench.pop(client, 1 + u32::try_from(random.below(4)).expect("small")).await;
                for delivery in &taken {
                    let id = message_id(&delivery.properties);
                    let of = NAMES.into_iter().find(|name| id.starts_with(name)).expect("known");
                    assert!(
                        mine.get(client).is_some_and(|names| names.contains(&of)),
                        "seed {seed}, step {step}: {id}"
                    );
                    // Everything before it in its lite topic is settled, or came with it.
                    let before = sent[of].iter().take_while(|other| **other != id);
                    let with_it = ids(&taken);
                    for other in before {
                        let is_settled = finished.get(of).is_some_and(|ids| ids.contains(other));
                        assert!(is_settled || with_it.contains(other), "seed {seed}, step {step}: {id} before {other}");
                    }
                }
                held.extend(taken);
            }
            70..85 if !held.is_empty() => {
                let delivery = held.swap_remove(random.below(held.len() as u64) as usize);
                let id = message_id(&delivery.properties);
                let of = NAMES.into_iter().find(|name| id.starts_with(name)).expect("known");
                if ack(&mut bench.client, GROUP, TOPIC, &delivery.handle).await.is_ok() {
                    finished.entry(of).or_default().push(id);
                }
            }
            85..90 => {
                bench.add(client, &[name]).await;
                mine.entry(client).or_default().push(name);
            }
            90..93 => {
                bench.sync(client, Action::PartialRemove, &[name]).await.expect("left");
                mine.entry(client).or_default().retain(|other| *other != name);
            }
            93..95 => {
                bench.end(client).await;
                mine.remove(client);
            }
            95..97 => bench.reopen().await,
            _ => bench.hands.pass(random.below(20_000)),
        }
    }
    bench.hands.pass(INVISIBLE_MS + 1);
    bench.sync("last", Action::CompleteAdd, &NAMES).await.expect("subscribed");
    for id in bench.drain("last").await {
        let of = NAMES.into_iter().find(|name| id.starts_with(name)).expect("known");
        finished.entry(of).or_default().push(id);
    }
    for name in NAMES {
        let (mut sent, mut finished) = (sent[name].clone(), finished[name].clone());
        sent.sort_unstable();
        finished.sort_unstable();
        finished.dedup();
        assert_eq!(finished, sent, "seed {seed}");
    }
}
