//! Gives commands to the store and to the model, and compares what comes of them.

use std::{collections::BTreeMap, time::Duration};

use centaur_apis::{
    log::TopicType,
    receipt_handle::ReceiptHandle,
    store::{
        AckEntry, AckRequest, AppendRequest, Batch, ChangeVisibilityRequest, DeadLetterRequest, DeleteGroupRequest,
        DeleteTopicRequest, Delivery, DescribeGroupRequest, DescribeGroupResponse, DescribeRequest, DescribeResponse,
        DescribeTopicRequest, DescribeTopicResponse, EndSessionRequest, Error, Filter, NewMessage, Place, PopRequest,
        PutGroupRequest, PutTopicRequest, QueryMessagesRequest, QueryMessagesResponse, QueueProgress, Reason,
        TouchRequest, filter::Kind, query_messages_request::By,
    },
    v2,
};
use centaur_store::{
    Config, Flush, Store,
    log::faulty::{Faults, FaultyDisk, Random},
};
use prost::Message as _;
use tempfile::TempDir;

use crate::{
    command::{Command, GROUPS, Issued, TOPICS, pick},
    harness::{self, Client, Hands, Medium, UNLIMITED, message_id, reason},
    reference::{Ask, Group, Message, Progress, Reader, Reference, Worth, check_same},
};

/// Deliveries of a group that came into being by being used.
const ATTEMPTS_DEFAULT: u32 = 17;
/// Longer than any test lasts by its own clock.
const NEVER_MS: u64 = 100 * 365 * 24 * 3_600_000;
/// Longest wait for what has to happen by itself.
const PATIENCE: Duration = Duration::from_secs(10);

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
    pub(super) sent: u64,
    crashes: u64,
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
            ..Config::default()
        };
        let medium = if is_real { Medium::Real } else { Medium::Faulty(FaultyDisk::default()) };
        let hands = Hands::default();
        let (store, client) = harness::open(&config, &hands, &medium).expect("an empty directory opens");
        let model = Reference::new(harness::START_MS);
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
            sent: 0,
            crashes: 0,
        }
    }

    /// Has the store and the model do it, and compares what comes of it.
    pub async fn carry_out(&mut self, command: Command) {
        match command {
            Command::PutTopic { name, queues } => self.put_topic(name, queues).await,
            Command::DeleteTopic { name } => self.delete_topic(name).await,
            Command::PutGroup { name, max_attempts } => self.put_group(name, max_attempts).await,
            Command::DeleteGroup { name } => self.delete_group(name).await,
            Command::Send(batches) => self.send(batches).await,
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
            Command::Pass { ms } => self.pass(ms).await,
            Command::Jump { ms } => self.hands.jump(ms),
            Command::Query { topic, by, limit } => self.query(topic, by, limit).await,
            Command::Close => {
                self.store.take().expect("it runs").close().expect("closed in order");
                self.open().await;
            }
            Command::Crash => self.crash().await,
        }
        self.settle_graves().await;
        self.compare_groups().await;
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
                    let known = self.issued.len();
                    self.pop(ask.clone()).await;
                    if self.issued.len() == known {
                        break;
                    }
                    self.ack(self.issued[known..].to_vec()).await;
                }
            }
            self.pass(25 * 3_600_000).await;
            self.settle_graves().await;
        }
        self.compare_groups().await;
    }

    async fn put_topic(&mut self, name: &str, queues: u32) {
        let request = PutTopicRequest {
            name: name.to_owned(),
            r#type: TopicType::Unspecified.into(),
            queues: Some(queues),
            ..Default::default()
        };
        let known = self.model.topics.get(name).map(|topic| topic.queues.len());
        let is_fixed = name.starts_with('%');
        match self.client.put_topic(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let settings = answer.topic.expect("settings");
                assert_eq!((answer.created, settings.queues), (known.is_none(), queues));
                self.model.put_topic(&settings);
            }
            Err(status) => {
                let known = known.expect("a new topic is created");
                assert_eq!(reason(&status), Reason::Precondition, "{status}");
                assert!(known > queues as usize || (is_fixed && known != queues as usize), "{status}");
            }
        }
    }

    async fn delete_topic(&mut self, name: &str) {
        let request = DeleteTopicRequest { name: name.to_owned(), dry_run: false };
        let answer = self.client.delete_topic(request).await.map_err(|status| reason(&status));
        let kept = self.model.topics.get(name).map(|t| t.queues.iter().map(|queue| queue.kept().count() as u64).sum());
        assert_eq!(answer.map(|answer| answer.into_inner().messages), kept.ok_or(Reason::TopicNotFound));
        self.model.delete_topic(name);
    }

    async fn put_group(&mut self, name: &str, max_attempts: u32) {
        let request = PutGroupRequest { name: name.to_owned(), max_attempts: Some(max_attempts), ..Default::default() };
        let group = self.client.put_group(request).await.expect("created").into_inner().group.expect("a group");
        self.model.put_group(name, Group { id: group.id, max_attempts });
    }

    async fn delete_group(&mut self, name: &str) {
        let answer = self.client.delete_group(DeleteGroupRequest { name: name.to_owned() }).await;
        assert_eq!(answer.is_ok(), self.model.groups.contains_key(name));
        self.model.delete_group(name);
    }

    async fn send(&mut self, batches: Vec<(&str, u32, Vec<usize>)>) {
        let mut request = AppendRequest::default();
        let mut expected = Vec::new();
        for (topic, queue, sizes) in batches {
            let messages: Vec<Message> = sizes.into_iter().map(|bytes| self.message(topic, bytes)).collect();
            let sent = messages.iter().map(|message| NewMessage { queue, ..message.to_send() });
            request.batches.push(Batch { topic: topic.to_owned(), messages: sent.collect() });
            expected.push(match self.model.topics.get(topic) {
                None => Err(Reason::TopicNotFound),
                Some(known) if known.queues.len() <= queue as usize => Err(Reason::Invalid),
                Some(_) => Ok(self.model.append(topic, queue, messages)),
            });
        }
        let results = self.client.append(request).await.expect("answered").into_inner().results;
        let results: Vec<_> = results
            .into_iter()
            .map(|r| r.error.map_or_else(|| Ok(r.offsets[0]), |error| Err(error.reason())))
            .collect();
        assert_eq!(results, expected);
    }

    async fn pop(&mut self, ask: Ask) {
        let outcome = self.client.pop(pop_request(&ask, 0)).await.map(|answer| answer.into_inner().deliveries);
        match outcome {
            Ok(deliveries) => self.take_over(&ask, deliveries).await,
            Err(status) => {
                assert_eq!(reason(&status), Reason::TopicNotFound, "{status}");
                assert!(!self.model.topics.contains_key(&ask.reader.1));
            }
        }
    }

    async fn park(&mut self, ask: Ask, queue: u32) {
        let ask = Ask { tags: None, attempt: String::new(), ..ask };
        let Some(queues) = self.model.topics.get(&ask.reader.1).map(|topic| topic.queues.len()) else { return };
        if self.model.available(&ask) > 0 {
            return;
        }
        let mut client = self.client.clone();
        let request = pop_request(&ask, 3_600_000);
        let poll = tokio::spawn(async move { client.pop(request).await });
        let (group, topic) = ask.reader.clone();
        loop {
            let described = self.client.describe_group(DescribeGroupRequest { name: group.clone() }).await;
            let topics = described.map(|answer| answer.into_inner().topics).unwrap_or_default();
            if topics.iter().any(|progress| progress.topic == topic && progress.polls == 1) {
                break;
            }
            tokio::task::yield_now().await;
        }
        let message = self.message(&topic, 10);
        let queue = queue % queues as u32;
        let offset = harness::send(&mut self.client, &topic, queue, message.to_send()).await;
        assert_eq!(offset, Ok(self.model.append(&topic, queue, vec![message])));
        let answer = tokio::time::timeout(PATIENCE, poll).await.expect("a waiting poll is answered").expect("no panic");
        let deliveries = answer.expect("answered").into_inner().deliveries;
        assert_eq!(deliveries.len(), 1, "the message that was waited for");
        self.take_over(&ask, deliveries).await;
    }

    /// Gives an answer to the model, with how far the group is after it.
    async fn take_over(&mut self, ask: &Ask, deliveries: Vec<Delivery>) {
        let described = self.describe_group(&ask.reader.0).await.expect("the group exists by now");
        let group = described.group.expect("settings");
        let known = Group { id: group.id, max_attempts: ATTEMPTS_DEFAULT };
        let known = *self.model.groups.entry(ask.reader.0.clone()).or_insert(known);
        assert_eq!((known.id, known.max_attempts), (group.id, group.max_attempts));
        let topic = described.topics.iter().find(|topic| topic.topic == ask.reader.1).expect("it reads the topic");
        let fetches: Vec<u64> = topic.queues.iter().map(|queue| queue.fetch).collect();
        self.model.deliver(ask, &deliveries, &fetches);
        self.issued.extend(deliveries.into_iter().map(|delivery| Issued {
            reader: ask.reader.clone(),
            client: ask.client.clone(),
            id: message_id(&delivery.properties),
            text: delivery.handle,
        }));
    }

    async fn ack(&mut self, issued: Vec<Issued>) {
        let entry =
            |i: &Issued| AckEntry { group: i.reader.0.clone(), topic: i.reader.1.clone(), handle: i.text.clone() };
        let entries: Vec<_> = issued.iter().map(entry).collect();
        let worths: Vec<_> = issued.iter().map(|i| self.worth(i)).collect();
        let results = self.client.ack(AckRequest { entries }).await.expect("answered").into_inner().results;
        let results: Vec<_> = results.into_iter().map(|result| result.error.map(|error| error.reason())).collect();
        let refusal = |worth: &Worth| (*worth == Worth::Invalid).then_some(Reason::InvalidHandle);
        assert_eq!(results, worths.iter().map(refusal).collect::<Vec<_>>(), "{worths:?}");
        for (issued, worth) in issued.iter().zip(worths) {
            if worth == Worth::Held {
                self.model.settle(&issued.reader, &issued.text);
            }
        }
    }

    async fn change(&mut self, issued: Issued, invisible_ms: u64, uncounted: bool) {
        let request = ChangeVisibilityRequest {
            group: issued.reader.0.clone(),
            topic: issued.reader.1.clone(),
            handle: issued.text.clone(),
            invisible_ms,
            uncounted,
        };
        let worth = self.worth(&issued);
        match self.client.change_visibility(request).await {
            Ok(answer) => {
                assert_eq!(worth, Worth::Held);
                let text = answer.into_inner().handle;
                let expected = self.model.change(&issued.reader, &issued.text, invisible_ms, uncounted);
                assert_eq!(ReceiptHandle::peek(&text), Some(expected));
                self.issued.push(Issued { text, ..issued });
            }
            Err(status) => assert!(worth != Worth::Held && reason(&status) == Reason::InvalidHandle, "{status}"),
        }
    }

    async fn bury(&mut self, issued: Issued) {
        let request = DeadLetterRequest {
            group: issued.reader.0.clone(),
            topic: issued.reader.1.clone(),
            handle: issued.text.clone(),
            ..Default::default()
        };
        let worth = self.worth(&issued);
        match self.client.dead_letter(request).await {
            Ok(_) if worth == Worth::Held => {
                let handle = ReceiptHandle::peek(&issued.text).expect("held");
                self.model.bury(&issued.reader, handle.queue, handle.offset);
            }
            Ok(_) => assert_eq!(worth, Worth::Finished),
            Err(status) => assert!(worth == Worth::Invalid && reason(&status) == Reason::InvalidHandle, "{status}"),
        }
    }

    async fn bury_by_id(&mut self, issued: Issued, client: &str) {
        let (group, topic) = issued.reader.clone();
        let request = DeadLetterRequest {
            group: group.clone(),
            topic: topic.clone(),
            client: client.to_owned(),
            message_id: issued.id.clone(),
            ..Default::default()
        };
        match self.client.dead_letter(request).await {
            Ok(_) => {
                if let Some((queue, offset)) = self.model.held_by(&issued.reader, client, &issued.id) {
                    self.model.bury(&issued.reader, queue, offset);
                }
            }
            Err(status) => {
                let is_known = self.model.topics.contains_key(&topic) && self.model.groups.contains_key(&group);
                assert!(!is_known, "{status}");
            }
        }
    }

    async fn end_session(&mut self, client: &str, group: Option<&str>) {
        let of_group = group.unwrap_or_default().to_owned();
        let request = EndSessionRequest { client: client.to_owned(), group: of_group, linger_ms: 0 };
        let released = self.client.end_session(request).await.expect("ended").into_inner().released;
        assert_eq!(released, self.model.end_session(client, group));
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
        let names: Vec<String> = self.model.topics.keys().cloned().collect();
        for name in names {
            let described = self.describe_topic(&name).await.expect("a topic that exists");
            for queue in described.queues {
                self.model.retire(&name, queue.queue, queue.start);
            }
        }
        self.model.bury_due();
        let store = self.look_up().await;
        if store.log_start_lsn == 0 || self.config.retention_ms != NEVER_MS {
            return;
        }
        let bound = self.config.retention_bytes.expect("nothing expires without a bound");
        assert!(store.written_lsn - store.log_start_lsn >= bound - self.config.segment_bytes, "{store:?}");
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
        let now_ms = self.look_up().await.store_time_ms;
        self.model.restart(now_ms);
        self.see_retention().await;
    }

    async fn query(&mut self, topic: &str, by: By, limit: u32) {
        let request = QueryMessagesRequest { topic: topic.to_owned(), by: Some(by.clone()), limit };
        let answer = self.client.query_messages(request).await.map_err(|status| reason(&status));
        let Some(known) = self.model.topics.get(topic) else {
            assert_eq!(answer.map(drop), Err(Reason::TopicNotFound));
            return;
        };
        let QueryMessagesResponse { messages, complete } = answer.expect("answered").into_inner();
        let queues = (0..).zip(&known.queues);
        let all = queues.flat_map(|(queue, q)| q.kept().map(move |(offset, m)| (queue, offset, m)));
        let is_wanted = |(queue, offset, m): &(u32, u64, &Message)| match &by {
            By::MessageId(id) => m.id == *id,
            By::Key(key) => m.keys.contains(key),
            By::FromMs(from_ms) => m.stored_ms >= *from_ms,
            By::Place(place) => (*queue, *offset) == (place.queue, place.offset),
        };
        let mut expected: Vec<_> = all.filter(is_wanted).collect();
        expected.sort_by_key(|(_, _, message)| message.order);
        if !matches!(by, By::FromMs(_)) {
            expected.reverse();
        }
        let is_complete = expected.len() <= limit as usize;
        expected.truncate(limit as usize);
        let found: Vec<_> = messages.iter().map(|d| (d.queue, d.offset)).collect();
        assert_eq!(found, expected.iter().map(|(q, o, _)| (*q, *o)).collect::<Vec<_>>());
        assert_eq!(complete, is_complete);
        messages.iter().zip(&expected).for_each(|(found, (_, _, sent))| check_same(sent, found));
    }

    /// Finds every message that died in the dead-letter topic of its group: all of them, once, and
    /// nothing else.
    async fn settle_graves(&mut self) {
        for (group, mut dead) in std::mem::take(&mut self.model.graves) {
            let name = format!("%DLQ%{group}");
            let before = self.model.topics.get(&name).map_or(0, |topic| topic.queues[0].end());
            let described = self.wait_for_end(&name, before + dead.len() as u64).await;
            self.model.put_topic(&described.topic.expect("settings"));
            for offset in before..described.queues[0].end {
                let by = Some(By::Place(Place { queue: 0, offset }));
                let request = QueryMessagesRequest { topic: name.clone(), by, limit: 1 };
                let found = self.client.query_messages(request).await.expect("found").into_inner().messages.remove(0);
                let origin = origin(&found);
                let is_it =
                    |message: &Message| message.id == origin.message_id && topic_of(&message.head) == origin.topic;
                let at = dead.iter().position(is_it).expect("a message that died");
                let message = buried(dead.swap_remove(at), &name, found);
                assert_eq!(self.model.append(&name, 0, vec![message]), offset);
            }
            assert!(dead.is_empty());
        }
    }

    async fn wait_for_end(&mut self, topic: &str, end: u64) -> DescribeTopicResponse {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let described = self.describe_topic(topic).await;
            let found = described.as_ref().map_or(0, |described| described.queues[0].end);
            match described {
                Ok(described) if found >= end => {
                    assert_eq!(found, end, "messages of {topic}");
                    return described;
                }
                _ => assert!(std::time::Instant::now() < deadline, "{topic} has {found} of {end} messages"),
            }
        }
    }

    async fn compare_groups(&mut self) {
        for group in GROUPS {
            let described = self.describe_group(group).await;
            assert_eq!(described.is_ok(), self.model.groups.contains_key(group));
            let topics = described.map(|described| described.topics).unwrap_or_default();
            let shown: BTreeMap<String, Vec<Progress>> =
                topics.into_iter().map(|topic| (topic.topic, topic.queues.iter().map(progress).collect())).collect();
            assert_eq!(shown, self.model.progress(group), "progress of {group}");
        }
    }

    async fn describe_group(&mut self, name: &str) -> Result<DescribeGroupResponse, Error> {
        let answer = self.client.describe_group(DescribeGroupRequest { name: name.to_owned() }).await;
        answer.map(tonic::Response::into_inner).map_err(|status| Error::from_status(&status))
    }

    async fn describe_topic(&mut self, name: &str) -> Result<DescribeTopicResponse, Error> {
        let answer = self.client.describe_topic(DescribeTopicRequest { name: name.to_owned() }).await;
        answer.map(tonic::Response::into_inner).map_err(|status| Error::from_status(&status))
    }

    /// What the model says of a handle; a forged one is worth nothing.
    fn worth(&self, issued: &Issued) -> Worth {
        if issued.text.ends_with('!') {
            Worth::Invalid
        } else {
            self.model.worth(&issued.reader.0, &issued.reader.1, &issued.text)
        }
    }
}

/// A dead message as the dead-letter topic has to hold it.
fn buried(dead: Message, topic: &str, found: Delivery) -> Message {
    let properties = |encoded: &[u8]| v2::SystemProperties::decode(encoded).expect("properties");
    let user_properties = |encoded: &[u8]| {
        let mut all = v2::Message::decode(encoded).expect("a message").user_properties;
        all.retain(|name, _| !name.starts_with("DLQ_"));
        all
    };
    assert_eq!(topic_of(&found.head), topic);
    assert_eq!(user_properties(&found.head), user_properties(&dead.head));
    let rest = |encoded| v2::SystemProperties { dead_letter_queue: None, ..properties(encoded) };
    assert_eq!(rest(&found.properties), rest(&dead.properties));
    assert_eq!(found.body, dead.body);
    Message { head: found.head, properties: found.properties, ..dead }
}

/// Where a message of a dead-letter topic came from.
fn origin(found: &Delivery) -> v2::DeadLetterQueue {
    let properties = v2::SystemProperties::decode(found.properties.as_ref()).expect("properties");
    properties.dead_letter_queue.expect("where it came from")
}

fn topic_of(head: &[u8]) -> String {
    v2::Message::decode(head).expect("a message").topic.expect("a topic").name
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
        oldest_ms: backlog.oldest_ms,
    }
}

fn pop_request(ask: &Ask, wait_ms: u64) -> PopRequest {
    let tags = |tags: &Vec<String>| Filter { kind: Kind::Tags.into(), tags: tags.clone(), ..Default::default() };
    PopRequest {
        group: ask.reader.0.clone(),
        topic: ask.reader.1.clone(),
        client: ask.client.clone(),
        filter: ask.tags.as_ref().map(tags),
        messages_max: u32::try_from(ask.messages).expect("few"),
        bytes_max: ask.bytes,
        invisible_ms: ask.invisible_ms,
        session_bound: ask.session_bound,
        attempt: ask.attempt.clone(),
        wait_ms,
        create_group: true,
    }
}
