//! Gives commands to the store and to the model, and compares what comes of them.

mod catalog;
mod consume;
mod letters;
mod lite;
mod places;
mod produce;

use std::{collections::BTreeMap, time::Duration};

use centaur_apis::store::{
    Delivery, DescribeGroupRequest, DescribeGroupResponse, DescribeRequest, DescribeResponse, DescribeTopicRequest,
    DescribeTopicResponse, Error, QueueProgress, TouchRequest,
};
use centaur_store::{
    Config, Flush, Store,
    log::faulty::{Faults, FaultyDisk, Random},
};
use tempfile::TempDir;

use crate::{
    command::{Command, GROUPS, Issued, LITE_GROUPS, TOPICS, Ticketed, pick},
    harness::{self, Client, Hands, Medium, UNLIMITED},
    reference::{Ask, LITE, Message, Progress, Reader, Reference},
};

/// Longer than any test lasts by its own clock.
const NEVER_MS: u64 = 100 * 365 * 24 * 3_600_000;
/// Progress of a group in its queues, by topic.
type Shown = BTreeMap<String, Vec<Progress>>;

/// Longest wait for what has to happen by itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages of one answer, at most.
const POLLED_MAX: usize = 256;
/// Deliveries of a group that came into being by being used.
const ATTEMPTS_DEFAULT: u32 = 17;

pub struct Driver {
    pub(super) random: Random,
    pub(super) model: Reference,
    hands: Hands,
    medium: Medium,
    config: Config,
    data: TempDir,
    store: Option<Store>,
    client: Client,
    pub(super) issued: Vec<Issued>,
    pub(super) tickets: Vec<Ticketed>,
    /// Messages that may be sent once more, to the same topic.
    pub(super) lately: Vec<(&'static str, Message)>,
    pub(super) sent: u64,
    /// Of the commands, those that have to do with lite topics.
    pub(super) lite_percent: u64,
    /// Number of the last notice that was listed.
    notices_seen: u64,
    crashes: u64,
    /// Something was deleted: segments may have gone, and with them what is remembered.
    pub(super) has_deleted: bool,
}

impl Driver {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let data = tempfile::tempdir().expect("a directory");
        let is_real = random.below(3) == 0;
        let config = Config {
            data_dir: data.path().join("0"),
            flush: if random.below(3) == 0 { Flush::Async } else { Flush::Sync },
            segment_bytes: if is_real { 1 << 20 } else { 384 << 10 },
            tail_bytes: [0, 64 << 10, 4 << 20][pick(&mut random, 3)],
            retention_bytes: (random.below(3) == 0).then_some(1 << 20),
            retention_ms: if random.below(4) == 0 { 3 * 3_600_000 } else { NEVER_MS },
            transaction_timeout_ms: 6_000,
            transaction_check_interval_ms: 20_000,
            transaction_checks_max: 3,
            transaction_discarded_ms: 3_600_000,
            lite_expiry_min_ms: 60_000,
            ..Config::default()
        };
        let medium = if is_real { Medium::Real } else { Medium::Faulty(FaultyDisk::default()) };
        let hands = Hands::default();
        let (store, client) = harness::open(&config, &hands, &medium).expect("an empty directory opens");
        let mut model = Reference::new(harness::START_MS);
        (model.undecided_ms, model.discarded_ms) = (config.retention_ms, config.transaction_discarded_ms);
        model.lite_expiry_min_ms = config.lite_expiry_min_ms;
        let lite_percent = [5, 20, 70][pick(&mut random, 3)];
        Self {
            random,
            model,
            hands,
            medium,
            config,
            data,
            store: Some(store),
            client,
            issued: Vec::new(),
            tickets: Vec::new(),
            lately: Vec::new(),
            sent: 0,
            lite_percent,
            notices_seen: 0,
            crashes: 0,
            has_deleted: false,
        }
    }

    /// Lets the store have its first turn before time goes by.
    pub async fn begin(&mut self) {
        let now_ms = self.look_up().await.store_time_ms;
        self.model.restart(now_ms);
    }

    /// Has the store and the model do it, and compares what comes of it.
    pub async fn carry_out(&mut self, command: Command) {
        // What was thinned in the background makes way for the next in its own time.
        self.catch_up().await;
        match command {
            Command::PutTopic { name, queues, dedupe_ms, ttl_ms } => {
                self.put_topic(name, queues, dedupe_ms, ttl_ms).await;
            }
            Command::DeleteTopic { name } => self.delete_topic(name).await,
            Command::PutGroup { name, max_attempts, fifo, blocks, shared_percent } => {
                self.put_group(name, max_attempts, fifo, blocks, shared_percent).await;
            }
            Command::DeleteGroup { name } => self.delete_group(name).await,
            Command::Send(parcels) => self.send(parcels).await,
            Command::Pop(ask) => self.pop(ask).await,
            Command::Park { ask, queue } => self.park(ask, queue).await,
            Command::Ack(issued) => self.ack(issued).await,
            Command::Change { issued, invisible_ms, uncounted } => self.change(issued, invisible_ms, uncounted).await,
            Command::Bury(issued) => self.bury(issued).await,
            Command::BuryById { issued, client } => self.bury_by_id(issued, &client).await,
            Command::EndSession { client, group } => self.end_session(client, group).await,
            Command::Touch(client) => {
                let request = TouchRequest { clients: vec![client.to_owned()] };
                self.client.touch(request).await.expect("touched");
                self.model.touch(client);
            }
            Command::Recall { topic, ticket } => self.recall(topic, ticket).await,
            Command::ListScheduled { topic, limit } => self.list_scheduled(topic, limit).await,
            Command::EndTransaction { topic, ticket, by_id, resolution } => {
                self.end_transaction(topic, ticket, by_id, resolution).await;
            }
            Command::TakeChecks { topics, checks_max } => self.take_checks(topics, checks_max).await,
            Command::ListTransactions { topic, discarded_only, limit } => {
                self.list_transactions(topic, discarded_only, limit).await;
            }
            Command::Redrive { group, places, dry_run } => self.redrive(group, places, dry_run).await,
            Command::Reset { reset, dry_run, create_group } => self.reset(reset, dry_run, create_group).await,
            Command::Read { ask, queue, offset } => self.read(ask, queue, offset).await,
            Command::QueryOffset { topic, queue, target } => self.query_offset(topic, queue, target).await,
            Command::GetOffset { reader, queue } => self.get_offset(reader, queue).await,
            Command::Pass { ms } => self.pass(self.within_memory(ms)).await,
            Command::Jump { ms } => self.hands.jump(ms),
            Command::Query { topic, by, limit } => self.query(topic, by, limit).await,
            Command::PutLiteTopic { expiry_ms, ttl_ms } => self.put_lite_topic(expiry_ms, ttl_ms).await,
            Command::PutLiteGroup(asked) => self.put_lite_group(asked).await,
            Command::SendLite(messages) => self.send_lite(messages).await,
            Command::SyncLite(statement) => self.sync_lite(statement).await,
            Command::PopLite(ask) => self.pop_lite(ask).await,
            Command::ParkLite(ask) => self.park_lite(ask).await,
            Command::ListNotices => self.list_notices().await,
            Command::Close => {
                self.store.take().expect("it runs").close().expect("closed in order");
                self.open().await;
            }
            Command::Crash => self.crash().await,
        }
        self.settle_graves().await;
        self.catch_up().await;
        self.compare_groups().await;
        self.compare_lite_topics().await;
    }

    /// Whether records may be gone that nothing but memory needs.
    pub(super) fn may_forget(&self) -> bool {
        self.has_retention() || self.has_deleted
    }

    fn has_retention(&self) -> bool {
        self.config.retention_bytes.is_some() || self.config.retention_ms != NEVER_MS
    }

    /// Learns what retention took by now, which it does in turns of its own.
    pub(super) async fn catch_up(&mut self) {
        if self.has_retention() {
            self.look_up().await;
            self.learn_starts().await;
        }
    }

    /// Learns what retention took around the time that a poll was answered. Where the answer has messages
    /// that are gone by now, retention came after it, is learnt of later, and may have moved the group on:
    /// how far it was then is not known exactly.
    pub(super) async fn see_what_went(&mut self, reader: &Reader, answer: &[Delivery], fetches: &mut [u64]) -> bool {
        if !self.has_retention() {
            return true;
        }
        let described = self.describe_topic(&reader.1).await.expect("it was polled");
        let start =
            |number: u32| described.queues.iter().find(|queue| queue.queue == number).map_or(0, |queue| queue.start);
        let is_fresh = |one: &&Delivery| !self.model.has_had(reader, one.queue, one.offset);
        let came_before = answer.iter().filter(is_fresh).all(|one| one.offset >= start(one.queue));
        for queue in described.queues.iter().filter(|_| came_before) {
            self.check_start(&reader.1, queue.queue, queue.start);
            self.model.retire(&reader.1, queue.queue, queue.start);
            let fetch = &mut fetches[queue.queue as usize];
            *fetch = queue.start.max(*fetch);
        }
        came_before
    }

    /// Finishes everything: nothing may be left, and nothing may come back.
    pub async fn drain(&mut self) {
        let readers: Vec<Reader> =
            TOPICS.iter().flat_map(|t| GROUPS.map(|g| (g.to_owned(), (*t).to_owned()))).collect();
        for _ in 0..2 {
            for reader in &readers {
                if !self.model.topics.contains_key(&reader.1) {
                    continue;
                }
                let ask =
                    Ask { messages: 256, attempt: String::new(), tags: None, bytes: UNLIMITED, ..self.ask_for(reader) };
                loop {
                    self.catch_up().await;
                    let known = self.issued.len();
                    self.pop(ask.clone()).await;
                    if self.issued.len() == known {
                        break;
                    }
                    self.ack(self.issued[known..].to_vec()).await;
                    self.settle_graves().await;
                }
            }
            self.drain_lite().await;
            self.pass(self.longest_lease_ms() + 3_600_000).await;
            self.settle_graves().await;
        }
        self.compare_groups().await;
    }

    /// The longest that a lease is asked for: retention by age moves what is in hand much longer than
    /// that to the dead-letter topics, in its own time.
    pub(super) fn longest_lease_ms(&self) -> u64 {
        if self.config.retention_ms == NEVER_MS { 24 * 3_600_000 } else { 12 * 3_600_000 }
    }

    /// Retention takes what is too old, or too much.
    fn check_start(&self, topic: &str, number: u32, start: u64) {
        let queue = &self.model.topics[topic].queues[number as usize];
        if start == queue.start || self.config.retention_bytes.is_some() {
            return;
        }
        let last = queue.get(start - 1);
        let age_ms = self.model.now_ms - last.stored_ms;
        assert!(age_ms > self.config.retention_ms, "{topic}/{number} starts at {start}, {age_ms} ms old");
    }

    /// As much of a time as may go by: what a group has not finished a day after its retention goes to the
    /// dead-letter topic by age, in turns of the store's own that the model does not know. Finishing
    /// everything takes another day.
    fn within_memory(&self, ms: u64) -> u64 {
        const LONGEST_MS: u64 = 12 * 3_600_000;
        let passed_ms = self.model.now_ms - harness::START_MS;
        if self.config.retention_ms == NEVER_MS || passed_ms + ms < LONGEST_MS { ms } else { ms.min(10) }
    }

    async fn pass(&mut self, ms: u64) {
        let before_ms = self.model.now_ms;
        self.hands.pass(ms);
        let now_ms = self.look_up().await.store_time_ms;
        let passed_ms = now_ms - before_ms;
        assert!((ms - ms / 20 - 1..=ms + ms / 20 + 1).contains(&passed_ms), "{passed_ms} ms instead of {ms}");
        self.model.pass(now_ms);
        self.see_retention().await;
    }

    /// Lets the store do what is due now: once for what the time brings, once for what that brings.
    async fn look_up(&mut self) -> DescribeResponse {
        self.client.describe(DescribeRequest {}).await.expect("described");
        self.client.describe(DescribeRequest {}).await.expect("described").into_inner()
    }

    /// Learns what retention took; it may take only what is beyond its bound.
    async fn see_retention(&mut self) {
        self.learn_starts().await;
        self.model.bury_due();
        self.look_up().await;
    }

    async fn learn_starts(&mut self) {
        let names: Vec<String> = self.model.topics.keys().cloned().collect();
        for name in names {
            let described = self.describe_topic(&name).await.expect("a topic that exists");
            if name == LITE {
                self.learn_lite_starts().await;
                continue;
            }
            for queue in described.queues {
                self.check_start(&name, queue.queue, queue.start);
                self.model.retire(&name, queue.queue, queue.start);
            }
        }
    }

    async fn crash(&mut self) {
        let store = self.store.take().expect("it runs");
        match &self.medium {
            Medium::Real => {
                self.crashes += 1;
                let left = self.data.path().join(self.crashes.to_string());
                harness::copy_dir(&self.config.data_dir, &left);
                drop(store);
                std::fs::remove_dir_all(&self.config.data_dir).expect("it is ours");
                self.config.data_dir = left;
            }
            Medium::Faulty(disk) if self.config.flush == Flush::Sync => {
                disk.set(Faults { die_at_step: Some(0), ..Faults::default() });
                drop(store);
                disk.power_failure(&mut self.random);
            }
            Medium::Faulty(disk) => {
                let left = disk.copy();
                drop(store);
                self.medium = Medium::Faulty(left);
            }
        }
        self.open().await;
    }

    async fn open(&mut self) {
        let (store, client) = harness::open(&self.config, &self.hands, &self.medium).expect("it opens again");
        (self.store, self.client) = (Some(store), client);
        // Notices are numbered anew: no time goes by here between two starts.
        self.notices_seen = 0;
        let now_ms = self.look_up().await.store_time_ms;
        self.model.restart(now_ms);
        self.see_retention().await;
    }

    async fn compare_groups(&mut self) {
        for group in GROUPS.into_iter().chain(LITE_GROUPS) {
            let (shown, expected) = self.progress_of(group).await;
            if shown != expected && self.has_retention() {
                // It may have taken more since, for what it finds in the background has turns of its own.
                self.catch_up().await;
                let (shown, expected) = self.progress_of(group).await;
                assert_eq!(shown, expected, "progress of {group}");
            } else {
                assert_eq!(shown, expected, "progress of {group}");
            }
        }
    }

    /// Progress of a group as the store shows it, and as the model has it.
    async fn progress_of(&mut self, group: &str) -> (Shown, Shown) {
        let described = self.describe_group(group).await;
        assert_eq!(described.is_ok(), self.model.groups.contains_key(group));
        let topics = described.map(|described| described.topics).unwrap_or_default();
        let mut shown: Shown =
            topics.into_iter().map(|topic| (topic.topic, topic.queues.iter().map(progress).collect())).collect();
        let mut expected = self.model.progress(group);
        // A group without anything to consume in lite topics may be shown in none.
        shown.retain(|_, queues| !queues.is_empty());
        expected.retain(|_, queues| !queues.is_empty());
        (shown, expected)
    }

    async fn describe_group(&mut self, name: &str) -> Result<DescribeGroupResponse, Error> {
        let answer = self.client.describe_group(DescribeGroupRequest { name: name.to_owned() }).await;
        answer.map(tonic::Response::into_inner).map_err(|status| Error::from_status(&status))
    }

    async fn describe_topic(&mut self, name: &str) -> Result<DescribeTopicResponse, Error> {
        let answer = self.client.describe_topic(DescribeTopicRequest { name: name.to_owned() }).await;
        answer.map(tonic::Response::into_inner).map_err(|status| Error::from_status(&status))
    }
}

fn progress(queue: &QueueProgress) -> Progress {
    let backlog = queue.backlog.unwrap_or_default();
    Progress {
        end: queue.end,
        committed: queue.committed,
        fetch: queue.fetch,
        ready: backlog.ready,
        in_flight: backlog.in_flight,
        waiting: backlog.waiting,
        blocked: backlog.blocked,
        oldest_ms: backlog.oldest_ms,
    }
}
