//! Lite topics: named queues that come and go, consumed in order by the clients subscribed to them.
//!
//! `CENTAUR_LITE_SEED` decides what the random work is; a failure tells it.

#[path = "../harness/mod.rs"]
mod harness;

mod delivery;
mod lifetimes;
mod random;
mod subscriptions;

use std::collections::BTreeMap;

use centaur_apis::v2;
use centaur_apis::{
    log::{Lite, TopicType},
    store::{
        ChangeVisibilityRequest, DeadLetterRequest, DeleteTopicRequest, Delivery, DescribeGroupRequest,
        DescribeTopicRequest, EndSessionRequest, ListLiteTopicsRequest, ListNoticesRequest, LiteOffset, LiteTopic,
        Mode, NewMessage, Notice, Place, PopRequest, PutGroupRequest, PutTopicRequest, QueryMessagesRequest, Reason,
        RedriveRequest, SyncLiteRequest, lite_offset::At, query_messages_request::By, sync_lite_request::Action,
    },
};
use centaur_store::{Config, Flush, Store};
use harness::{Client, Hands, Medium, START_MS, UNLIMITED, ack, create_topic, message, message_id, reason, send};
use prost::Message as _;
use tempfile::TempDir;

const TOPIC: &str = "chats";
const GROUP: &str = "bots";
/// How long messages are taken for.
const INVISIBLE_MS: u64 = 60_000;
const MINUTE_MS: u64 = 60_000;
/// Of a message: so many that random work fills several segments, each with a snapshot.
const BODY_BYTES: usize = 8 << 10;

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

    /// A group in which what fails once is dead.
    async fn put_group_of_one_attempt(&mut self) {
        let request = PutGroupRequest {
            name: GROUP.to_owned(),
            max_attempts: Some(1),
            lite: Some(Lite { topic: TOPIC.to_owned(), ..Default::default() }),
            ..Default::default()
        };
        self.client.put_group(request).await.expect("made");
    }

    async fn send(&mut self, lite_topic: &str, id: &str) -> Result<u64, Reason> {
        let new = message(TOPIC, id, None, &[], vec![7; BODY_BYTES]);
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

    /// Asks until all are gone: each question is a turn of the store, after which it does what is due.
    async fn wait_for_no_lite_topics(&mut self) {
        for _ in 0..1_000 {
            if self.names().await.is_empty() {
                return;
            }
        }
        panic!("lite topics stay: {:?}", self.names().await);
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
