//! Lite topics: what clients say of them, what they get of them, and what is shown of them.

use std::collections::BTreeMap;

use centaur_apis::{
    log::{self, TopicType},
    store::{
        AppendRequest, Batch, Delivery, ListLiteTopicsRequest, ListNoticesRequest, LiteOffset, LiteTopic, Notice,
        PutGroupRequest, PutTopicRequest, Reason, SyncLiteRequest,
    },
};

use super::{
    ATTEMPTS_DEFAULT, Driver,
    consume::{pop_request, woken},
};
use crate::{
    command::{LITE_GROUPS, LiteGroup},
    harness::reason,
    reference::{Ask, Group, LITE, Listed, Message, Said, Statement},
};

/// Lite topics of one client, unless its group says otherwise.
const QUOTA_DEFAULT: u32 = 2000;

impl Driver {
    pub(super) async fn put_lite_topic(&mut self, expiry_ms: u64, ttl_ms: u64) {
        self.has_deleted |= expiry_ms > 0;
        let request = PutTopicRequest {
            name: LITE.to_owned(),
            r#type: TopicType::Lite.into(),
            lite_expiry_ms: Some(expiry_ms),
            ttl_ms: Some(ttl_ms),
            ..Default::default()
        };
        let answer = self.client.put_topic(request).await.expect("set").into_inner();
        let settings = answer.topic.expect("settings");
        assert_eq!(answer.created, !self.model.topics.contains_key(LITE));
        assert_eq!((settings.lite_expiry_ms, settings.ttl_ms), (expiry_ms, ttl_ms));
        self.model.put_topic(&settings);
    }

    pub(super) async fn put_lite_group(&mut self, asked: LiteGroup) {
        let LiteGroup { name, max_attempts, blocks, lite } = asked;
        let request = PutGroupRequest {
            name: name.to_owned(),
            max_attempts: Some(max_attempts),
            blocks_when_exhausted: Some(blocks),
            lite: Some(lite.clone()),
            ..Default::default()
        };
        let answer = self.client.put_group(request).await.map_err(|status| reason(&status));
        let known = self.model.groups.get(name).copied();
        let refusal = match known {
            Some(known) if known.reads_all() != lite.wildcard => Some(Reason::Precondition),
            _ if !self.model.topics.contains_key(LITE) => Some(Reason::TopicNotFound),
            _ if lite.exclusive && lite.wildcard => Some(Reason::Invalid),
            _ => None,
        };
        let answer = answer.map(|answer| answer.into_inner().group.expect("a group"));
        if let Some(refusal) = refusal {
            return assert_eq!(answer.map(drop), Err(refusal));
        }
        let group = Group::from(&answer.expect("set"));
        let client_quota = if lite.client_quota == 0 { QUOTA_DEFAULT } else { lite.client_quota };
        assert_eq!(group, new_group(group.id, &log::Lite { client_quota, ..lite }, max_attempts, blocks));
        self.model.put_group(name, group);
    }

    pub(super) async fn send_lite(&mut self, messages: Vec<Message>) {
        let batch = Batch { topic: LITE.to_owned(), messages: messages.iter().map(Message::to_send).collect() };
        let answer = self.client.append(AppendRequest { batches: vec![batch] }).await.expect("answered");
        let result = answer.into_inner().results.remove(0);
        let is_legal = |message: &Message| !message.lite_topic.contains('.');
        let refusal = if !self.model.topics.contains_key(LITE) {
            Some(Reason::TopicNotFound)
        } else if messages.iter().all(is_legal) {
            None
        } else {
            Some(Reason::IllegalLiteTopic)
        };
        assert_eq!(result.error.as_ref().map(|error| error.reason()), refusal);
        if refusal.is_none() {
            let listed = self.listed().await;
            assert_eq!(result.offsets, self.model.append_lite(messages, &listed));
        }
    }

    pub(super) async fn sync_lite(&mut self, statement: Statement) {
        let request = SyncLiteRequest {
            topic: LITE.to_owned(),
            group: statement.group.clone(),
            client: statement.client.clone(),
            action: statement.said.action().into(),
            lite_topics: statement.names.clone(),
            offset: if let Said::Add(at) = statement.said { at.map(|at| LiteOffset { at: Some(at) }) } else { None },
            version: if let Said::All(version) = statement.said { version } else { 0 },
            create_group: true,
        };
        let answer = self.client.sync_lite(request).await.map(drop).map_err(|status| reason(&status));
        if !self.model.topics.contains_key(LITE) {
            return assert_eq!(answer, Err(Reason::TopicNotFound));
        }
        self.meet_lite_group(&statement.group).await;
        if let Some(refusal) = self.model.refuses(&statement) {
            return assert_eq!(answer, Err(refusal));
        }
        assert_eq!(answer, Ok(()));
        let listed = self.listed().await;
        self.model.sync(&statement, &listed);
    }

    /// A poll of lite topics, or by a lite group.
    pub(super) async fn pop_lite(&mut self, mut ask: Ask) {
        let is_known = self.model.topics.contains_key(&ask.reader.1);
        if is_known && ask.reader.1 == LITE && !self.model.foresees(&ask) {
            (ask.messages, ask.bytes) = (super::POLLED_MAX, u64::MAX);
            if !self.model.foresees(&ask) {
                return;
            }
        }
        let answer = self.client.pop(pop_request(&ask, 0)).await;
        let answer = answer.map(|answer| answer.into_inner().deliveries).map_err(|status| reason(&status));
        let is_lite = self.model.groups.get(&ask.reader.0).is_none_or(|group| group.lite.is_some());
        let refusal = match ask.reader.1.as_str() {
            _ if !is_known => Some(Reason::TopicNotFound),
            LITE if !is_lite => Some(Reason::IllegalGroup),
            LITE => None,
            _ => Some(Reason::IllegalTopic),
        };
        if let Some(refusal) = refusal {
            return assert_eq!(answer.map(drop), Err(refusal));
        }
        self.meet_lite_group(&ask.reader.0).await;
        self.take_over_lite(&ask, answer.expect("answered")).await;
    }

    pub(super) async fn park_lite(&mut self, ask: Ask) {
        let ask = Ask { attempt: String::new(), ..ask };
        let Some(name) = self.model.idle_lite_topic(&ask) else { return };
        if self.model.available(&ask) > 0 || !self.model.foresees(&ask) {
            return;
        }
        let poll = self.parked(&ask).await;
        let message = self.message_to(name);
        self.send_lite(vec![message]).await;
        let deliveries = woken(poll).await;
        self.take_over_lite(&ask, deliveries).await;
    }

    /// Gives an answer to the model, with how far the group is after it.
    async fn take_over_lite(&mut self, ask: &Ask, deliveries: Vec<Delivery>) {
        let described = self.describe_group(&ask.reader.0).await.expect("the group exists by now");
        let places = described.topics.iter().flat_map(|topic| &topic.queues);
        let fetches: BTreeMap<u32, u64> = places.map(|place| (place.queue, place.fetch)).collect();
        self.model.deliver_lite(ask, &deliveries, &fetches);
        self.note_issued(ask, deliveries);
    }

    pub(super) async fn list_notices(&mut self) {
        let request = ListNoticesRequest { after: self.notices_seen };
        let answer = self.client.list_notices(request).await.expect("listed").into_inner();
        self.notices_seen = answer.last;
        assert_eq!(in_order(answer.notices), in_order(self.model.take_notices()));
    }

    /// Compares what is shown of lite topics.
    pub(super) async fn compare_lite_topics(&mut self) {
        let shown = self.list_lite_topics().await.into_iter().map(|lite| {
            let place = lite.state.expect("a queue");
            (lite.name, place.queue, place.start, place.end, place.last_stored_ms, lite.subscribers)
        });
        assert_eq!(shown.collect::<Vec<_>>(), self.model.lite_topics());
    }

    /// Learns what retention took of lite topics.
    pub(super) async fn learn_lite_starts(&mut self) {
        for lite in self.list_lite_topics().await {
            let place = lite.state.expect("a queue");
            self.check_start(LITE, place.queue, place.start);
            self.model.retire(LITE, place.queue, place.start);
        }
    }

    async fn listed(&mut self) -> Listed {
        let lite_topics = self.list_lite_topics().await.into_iter();
        lite_topics.map(|lite| (lite.name, lite.state.expect("a queue").queue)).collect()
    }

    async fn list_lite_topics(&mut self) -> Vec<LiteTopic> {
        if !self.model.topics.contains_key(LITE) {
            return Vec::new();
        }
        let request = ListLiteTopicsRequest { topic: LITE.to_owned(), ..Default::default() };
        let answer = self.client.list_lite_topics(request).await.expect("listed").into_inner();
        assert_eq!(answer.total, answer.lite_topics.len() as u64);
        answer.lite_topics
    }

    /// A group that was used on the topic of lite topics is there, and bound to it if it is new.
    async fn meet_lite_group(&mut self, name: &str) {
        let described = self.describe_group(name).await.expect("the group exists by now");
        let group = Group::from(&described.group.expect("settings"));
        if !self.model.groups.contains_key(name) {
            let lite = log::Lite { client_quota: QUOTA_DEFAULT, ..Default::default() };
            assert_eq!(group, new_group(group.id, &lite, ATTEMPTS_DEFAULT, false));
            self.model.put_group(name, group);
        }
    }

    /// Takes what is left for each lite group, as a client that consumes everything.
    pub(super) async fn drain_lite(&mut self) {
        for group in LITE_GROUPS {
            if !self.model.topics.contains_key(LITE) {
                return;
            }
            let names: Vec<String> = self.listed().await.into_keys().collect();
            let reader = (group.to_owned(), LITE.to_owned());
            let ask = Ask { messages: 256, attempt: String::new(), bytes: u64::MAX, ..self.ask_for(&reader) };
            let all =
                Statement { group: group.to_owned(), client: ask.client.clone(), said: Said::All(u64::MAX), names };
            self.sync_lite(all).await;
            loop {
                self.catch_up().await;
                let known = self.issued.len();
                self.pop_lite(ask.clone()).await;
                if self.issued.len() == known {
                    break;
                }
                self.ack(self.issued[known..].to_vec()).await;
                self.settle_graves().await;
            }
        }
    }
}

fn new_group(id: u32, lite: &log::Lite, max_attempts: u32, blocks: bool) -> Group {
    Group { id, max_attempts, fifo: false, blocks, shared_percent: 0, lite: Some(lite.into()) }
}

fn in_order(mut notices: Vec<Notice>) -> Vec<Notice> {
    notices.sort_by(|a, b| (&a.group, &a.client, &a.lite_topic).cmp(&(&b.group, &b.client, &b.lite_topic)));
    notices
}
