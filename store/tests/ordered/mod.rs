//! The words that tests of ordered consumers share.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use centaur_apis::{
    log::{CustomizedBackoff, Group, TopicType},
    store::{
        Backlog, ChangeVisibilityRequest, Delivery, DescribeGroupRequest, DescribeRequest, NewMessage, PopRequest,
        PutGroupRequest, PutTopicRequest, ReadRequest, Reason, put_group_request::Backoff,
    },
    v2,
};
use centaur_store::{Config, Flush, Store};
use prost::Message as _;

use crate::harness::{self, Client, Hands, Medium, UNLIMITED, message, message_id, reason};

pub const TOPIC: &str = "orders";
pub const GROUP: &str = "workers";

/// A store with one topic, and its clock.
pub struct Fixture {
    pub client: Client,
    pub hands: Hands,
    pub config: Config,
    store: Option<Store>,
    dir: tempfile::TempDir,
    crashes: u32,
}

impl Fixture {
    pub async fn open(r#type: TopicType, queues: u32) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let data_dir = dir.path().join("data");
        let config = Config { data_dir, segment_bytes: 1 << 20, flush: Flush::Async, ..Config::default() };
        let hands = Hands::default();
        let (store, mut client) = harness::open(&config, &hands, &Medium::Real).expect("opens");
        let topic =
            PutTopicRequest { name: TOPIC.into(), r#type: r#type.into(), queues: Some(queues), ..Default::default() };
        client.put_topic(topic).await.expect("made");
        Self { client, hands, config, store: Some(store), dir, crashes: 0 }
    }

    /// Sends a message of a message group; its id is its number.
    pub async fn send(&mut self, queue: u32, message_group: &str, number: u64) -> u64 {
        self.send_bytes(queue, message_group, number, 8).await
    }

    pub async fn send_bytes(&mut self, queue: u32, message_group: &str, number: u64, bytes: usize) -> u64 {
        let properties = v2::SystemProperties {
            message_id: number.to_string(),
            message_group: (!message_group.is_empty()).then(|| message_group.to_owned()),
            ..Default::default()
        };
        let sent = message(TOPIC, &number.to_string(), None, &[], vec![7; bytes]);
        let sent = NewMessage { properties: properties.encode_to_vec().into(), ..sent };
        harness::send(&mut self.client, TOPIC, queue, sent).await.expect("stored")
    }

    /// Sends messages of several message groups to queue 0, each the number of its place.
    pub async fn send_all(&mut self, message_groups: &str) {
        for (number, message_group) in (0..).zip(message_groups.chars()) {
            self.send(0, &message_group.to_string(), number).await;
        }
    }

    pub async fn put_group(&mut self, request: PutGroupRequest) -> Result<Group, Reason> {
        let steps = CustomizedBackoff { next_ms: vec![1_000] };
        let backoff = Some(Backoff::Customized(steps));
        let request = PutGroupRequest { name: GROUP.into(), backoff, ..request };
        let answer = self.client.put_group(request).await.map_err(|status| reason(&status))?;
        Ok(answer.into_inner().group.expect("settings"))
    }

    /// Makes the group an ordered one.
    pub async fn put_ordered(&mut self, max_attempts: u32) {
        let request = PutGroupRequest { fifo: Some(true), max_attempts: Some(max_attempts), ..Default::default() };
        self.put_group(request).await.expect("made");
    }

    pub async fn pop(&mut self, messages: u32) -> Vec<Delivery> {
        self.pop_as(PopRequest { messages_max: messages, ..request() }).await
    }

    pub async fn pop_as(&mut self, request: PopRequest) -> Vec<Delivery> {
        self.client.pop(request).await.expect("answered").into_inner().deliveries
    }

    pub async fn ack(&mut self, delivery: &Delivery) -> Result<(), Reason> {
        harness::ack(&mut self.client, GROUP, TOPIC, &delivery.handle).await
    }

    /// Gives a message back for a while.
    pub async fn change(&mut self, handle: &str, invisible_ms: u64, uncounted: bool) -> Result<String, Reason> {
        let request = ChangeVisibilityRequest {
            group: GROUP.into(),
            topic: TOPIC.into(),
            handle: handle.into(),
            invisible_ms,
            uncounted,
        };
        let answer = self.client.change_visibility(request).await.map_err(|status| reason(&status))?;
        Ok(answer.into_inner().handle)
    }

    pub async fn backlog(&mut self) -> Backlog {
        let request = DescribeGroupRequest { name: GROUP.into() };
        let described = self.client.describe_group(request).await.expect("described").into_inner();
        let of_topic = described.topics.into_iter().find(|progress| progress.topic == TOPIC);
        of_topic.and_then(|progress| progress.backlog).unwrap_or_default()
    }

    /// Polls of the group that wait.
    pub async fn polls(&mut self) -> u32 {
        let request = DescribeGroupRequest { name: GROUP.into() };
        let described = self.client.describe_group(request).await.expect("described").into_inner();
        described.topics.iter().map(|progress| progress.polls).sum()
    }

    /// Lets time go by, and the store do what is due then; gives the store's time.
    pub async fn pass(&mut self, ms: u64) -> u64 {
        self.hands.pass(ms);
        self.look_up().await
    }

    /// Lets the store do what is due: once for what there is, once for what comes of that.
    pub async fn look_up(&mut self) -> u64 {
        self.client.describe(DescribeRequest {}).await.expect("described");
        self.client.describe(DescribeRequest {}).await.expect("described").into_inner().store_time_ms
    }

    /// Ids of what the group's dead-letter topic holds.
    pub async fn dead(&mut self) -> Vec<u64> {
        let topic = format!("%DLQ%{GROUP}");
        let request = ReadRequest { topic, messages_max: 256, bytes_max: UNLIMITED, ..Default::default() };
        let mut dead = Vec::new();
        loop {
            let request = ReadRequest { offset: dead.len() as u64, ..request.clone() };
            match self.client.read(request).await {
                Ok(page) if !page.get_ref().messages.is_empty() => dead.extend(numbers(&page.get_ref().messages)),
                _ => return dead,
            }
        }
    }

    /// Closes the store in order, or kills it, and opens what is there.
    pub fn reopen(&mut self, crash: bool) {
        let store = self.store.take().expect("it runs");
        if crash {
            self.crashes += 1;
            let left = self.dir.path().join(self.crashes.to_string());
            harness::copy_dir(&self.config.data_dir, &left);
            drop(store);
            std::fs::remove_dir_all(&self.config.data_dir).expect("it is ours");
            self.config.data_dir = left;
        } else {
            store.close().expect("closed in order");
        }
        let (store, client) = harness::open(&self.config, &self.hands, &Medium::Real).expect("it opens again");
        (self.store, self.client) = (Some(store), client);
    }
}

/// A poll of one consumer for a minute that waits for nothing.
pub fn request() -> PopRequest {
    PopRequest {
        group: GROUP.into(),
        topic: TOPIC.into(),
        client: "consumer".into(),
        messages_max: 32,
        bytes_max: UNLIMITED,
        invisible_ms: 60_000,
        ..Default::default()
    }
}

/// The numbers of messages, in the order of the answer.
pub fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| message_id(&delivery.properties).parse().expect("a number")).collect()
}
