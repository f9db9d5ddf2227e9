//! Topics and consumer groups: made, changed, deleted.

use centaur_apis::{
    log::{self, CustomizedBackoff, GroupDeleted, Permission, TopicDeleted, TopicType, control::Event, group::Backoff},
    names::{GroupName, TopicName},
    store::{
        DeleteGroupRequest, DeleteGroupResponse, DeleteTopicRequest, DeleteTopicResponse, Error, Mode, PutGroupRequest,
        PutGroupResponse, PutTopicRequest, PutTopicResponse, Reason, put_group_request,
    },
};

use super::{Machine, consume::is_system, produce::topic_not_found};
use crate::state::pop::Rules;

/// Queues of one topic.
const QUEUES_MAX: u32 = 100_000;
/// Longest time that message ids are compared, ms: each send looks through the index of that time.
const DEDUPE_MS_MAX: u64 = 24 * 3_600_000;
/// Longest time that a lite topic is kept after its last message, ms; source: public contract.
const LITE_EXPIRY_MS_MAX: u64 = 30 * 24 * 3_600_000;
/// Deliveries of one message; source: public contract, 16 retries after the first.
const ATTEMPTS_DEFAULT: u32 = 17;
/// More deliveries than this are not counted.
const ATTEMPTS_MAX: u32 = 65_000;
/// Steps of a back-off.
const BACKOFF_STEPS_MAX: usize = 256;
/// The default back-off, seconds; source: public contract.
const BACKOFF_DEFAULT_S: [u64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];

impl Machine {
    /// Creates or changes a topic; queues are only ever added, its type stays.
    pub fn put_topic(&mut self, request: &PutTopicRequest) -> Result<PutTopicResponse, Error> {
        let name =
            TopicName::parse(&request.name).map_err(|invalid| Error::new(Reason::Invalid, invalid.to_string()))?;
        let known = self.state.topics.named(name.as_str()).map(|topic| topic.settings.clone());
        if let (true, Some(topic)) = (request.implicit, &known) {
            return Ok(PutTopicResponse { topic: Some(topic.clone()), created: false });
        }
        if request.implicit && !self.config.create_topics {
            return Err(topic_not_found(name.as_str()));
        }
        if let Some(queues) = request.queues.filter(|queues| !(1..=QUEUES_MAX).contains(queues)) {
            return Err(Error::new(Reason::Invalid, format!("queues is {queues}; it must be 1 to {QUEUES_MAX}")));
        }
        if let Some(dedupe_ms) = request.dedupe_ms.filter(|ms| *ms > DEDUPE_MS_MAX) {
            let sentence = format!("dedupe is {dedupe_ms} ms; at most {DEDUPE_MS_MAX} ms are allowed");
            return Err(Error::new(Reason::Invalid, sentence));
        }
        if name.is_derived() && request.r#type() == TopicType::Lite {
            let sentence = format!("topic {:?} takes messages of any kind; it cannot be of type LITE", name.as_str());
            return Err(Error::new(Reason::Invalid, sentence));
        }
        self.check_lite_expiry(request)?;
        let created = known.is_none();
        let retention_ms = known.as_ref().map(|topic| topic.retention_ms);
        let topic = match (known, request.mode()) {
            (Some(_), Mode::Create) => {
                return Err(Error::new(Reason::AlreadyExists, format!("topic {:?} exists already", name.as_str())));
            }
            (None, Mode::Update) => return Err(topic_not_found(name.as_str())),
            (Some(topic), _) => changed_topic(topic, request)?,
            (None, _) => self.new_topic(&name, request),
        };
        self.check_space()?;
        self.commit(Event::TopicSet(topic.clone()));
        if retention_ms.is_some_and(|before| before != topic.retention_ms) {
            self.retention.look_again();
        }
        tracing::info!(topic = topic.name, queues = topic.queues, created, implicit = request.implicit, "topic set");
        if self.state.topics.get(topic.id).is_some_and(|topic| !topic.is_readable()) {
            self.refuse_waiters(|reader| reader.topic == topic.id, &gives_no_messages(&topic));
        }
        Ok(PutTopicResponse { topic: Some(topic), created })
    }

    /// Refuses an expiry that would not be kept to.
    fn check_lite_expiry(&self, request: &PutTopicRequest) -> Result<(), Error> {
        let (least, most) = (self.config.lite_expiry_min_ms, LITE_EXPIRY_MS_MAX);
        let asked = request.lite_expiry_ms.filter(|ms| *ms > 0 && !(least..=most).contains(ms));
        asked.map_or(Ok(()), |ms| {
            let sentence = format!("lite_expiry is {ms} ms; it must be 0, for never, or {least} to {most} ms");
            Err(Error::new(Reason::Invalid, sentence))
        })
    }

    fn new_topic(&self, name: &TopicName, request: &PutTopicRequest) -> log::Topic {
        let default_queues = if name.is_derived() { 1 } else { self.config.default_queues };
        let r#type = match request.r#type() {
            TopicType::Unspecified => TopicType::Normal,
            given => given,
        };
        log::Topic {
            id: self.state.topics.next_id(),
            name: name.as_str().to_owned(),
            r#type: r#type.into(),
            queues: request.queues.unwrap_or(default_queues),
            permission: request.permission.unwrap_or(Permission::ReadWrite.into()),
            created_ms: self.now_ms,
            version: 1,
            retention_ms: request.retention_ms.unwrap_or_default(),
            ttl_ms: request.ttl_ms.unwrap_or_default(),
            dedupe_ms: request.dedupe_ms.unwrap_or_default(),
            lite_expiry_ms: request.lite_expiry_ms.unwrap_or_default(),
        }
    }

    /// Deletes a topic with its messages and every group's place in it.
    pub fn delete_topic(&mut self, request: &DeleteTopicRequest) -> Result<DeleteTopicResponse, Error> {
        let topic = self.state.topics.named(&request.name).ok_or_else(|| topic_not_found(&request.name))?;
        let id = topic.settings.id;
        let readers = topic.readers.iter().filter_map(|group| self.state.groups.get(*group));
        // What waits for its time or its transaction is lost like the rest.
        let waiting = self.state.timers.pending(id) + self.state.transactions.count(Some(id), false) as u64;
        let response = DeleteTopicResponse {
            messages: topic.messages() + waiting,
            groups: readers.map(|group| group.name.clone()).collect(),
        };
        if !request.dry_run {
            self.commit(Event::TopicDeleted(TopicDeleted { id }));
            self.retention.look_again();
            self.watchers.forget(id);
            tracing::info!(topic = request.name, messages = response.messages, "topic deleted");
            self.refuse_waiters(|reader| reader.topic == id, &topic_not_found(&request.name));
        }
        Ok(response)
    }

    /// Creates or changes a consumer group.
    pub fn put_group(&mut self, request: &PutGroupRequest) -> Result<PutGroupResponse, Error> {
        let name =
            GroupName::parse(&request.name).map_err(|invalid| Error::new(Reason::Invalid, invalid.to_string()))?;
        let known = self.state.groups.named(name.as_str()).cloned();
        let created = known.is_none();
        let mut group = match (known, request.mode()) {
            (Some(_), Mode::Create) => {
                return Err(Error::new(Reason::AlreadyExists, format!("group {:?} exists already", name.as_str())));
            }
            (None, Mode::Update) => return Err(group_not_found(name.as_str())),
            (Some(group), _) => log::Group { version: group.version + 1, ..group },
            (None, _) => new_group(self.state.groups.next_id(), name.as_str(), self.now_ms),
        };
        let before = Rules::of(&group);
        change_group(&mut group, request)?;
        if let Some(lite) = &request.lite {
            group.lite = Some(self.checked_binding(&group, lite)?);
        }
        self.check_order_may_change(before, &group)?;
        self.check_space()?;
        self.commit(Event::GroupSet(group.clone()));
        tracing::info!(group = group.name, created, "group set");
        if group.consume_disabled {
            self.refuse_waiters(|reader| reader.group == group.id, &may_not_consume(&group.name));
        }
        Ok(PutGroupResponse { group: Some(group), created })
    }

    /// Refuses to begin or end order within message groups while messages are in hand.
    fn check_order_may_change(&self, before: Rules, group: &log::Group) -> Result<(), Error> {
        let is_ordered = Rules::of(group).is_ordered;
        let in_hand: usize = self.state.pop.of_group(group.id).map(|(_, subscription)| subscription.rows()).sum();
        if is_ordered == before.is_ordered || in_hand == 0 {
            return Ok(());
        }
        let name = &group.name;
        let sentence = format!(
            "group {name:?} has {in_hand} messages in hand; whether it consumes in order may change only when all are settled"
        );
        Err(Error::new(Reason::Precondition, sentence))
    }

    /// Deletes a group with its places in all topics.
    pub fn delete_group(&mut self, request: &DeleteGroupRequest) -> Result<DeleteGroupResponse, Error> {
        let id = self.state.groups.named(&request.name).ok_or_else(|| group_not_found(&request.name))?.id;
        self.commit(Event::GroupDeleted(GroupDeleted { id }));
        tracing::info!(group = request.name, "group deleted");
        self.refuse_waiters(|reader| reader.group == id, &group_not_found(&request.name));
        Ok(DeleteGroupResponse {})
    }
}

/// A group as it comes into being by being used.
pub(super) fn new_group(id: u32, name: &str, now_ms: u64) -> log::Group {
    log::Group {
        id,
        name: name.to_owned(),
        fifo: false,
        max_attempts: ATTEMPTS_DEFAULT,
        backoff: Some(Backoff::Customized(CustomizedBackoff {
            next_ms: BACKOFF_DEFAULT_S.iter().map(|s| s * 1000).collect(),
        })),
        consume_disabled: false,
        created_ms: now_ms,
        version: 1,
        backoff_is_default: true,
        ..Default::default()
    }
}

pub(super) fn group_not_found(name: &str) -> Error {
    Error::new(
        Reason::GroupNotFound,
        format!("group {name:?} does not exist; create it with: centaur group create {name}"),
    )
}

pub(super) fn may_not_consume(name: &str) -> Error {
    Error::new(
        Reason::Forbidden,
        format!("group {name:?} may not consume; enable it with: centaur group update {name} --consume enabled"),
    )
}

pub(super) fn gives_no_messages(topic: &log::Topic) -> Error {
    let permission = topic.permission().as_str_name();
    Error::new(
        Reason::Forbidden,
        format!("topic {:?} does not give messages; its permission is {permission}", topic.name),
    )
}

fn changed_topic(topic: log::Topic, request: &PutTopicRequest) -> Result<log::Topic, Error> {
    let asked = request.r#type();
    if asked != TopicType::Unspecified && asked != topic.r#type() {
        let sentence = format!(
            "topic {:?} has type {} and keeps it; delete it first, or create another",
            topic.name,
            topic.r#type().as_str_name()
        );
        return Err(Error::new(Reason::Precondition, sentence));
    }
    if let Some(queues) = request.queues.filter(|queues| *queues < topic.queues) {
        let sentence = format!(
            "topic {:?} has {} queues; {queues} would be fewer, and queues are only added",
            topic.name, topic.queues
        );
        return Err(Error::new(Reason::Precondition, sentence));
    }
    if is_system(&topic.name) && request.queues.is_some_and(|queues| queues != topic.queues) {
        return Err(Error::new(Reason::Precondition, format!("topic {:?} keeps its one queue", topic.name)));
    }
    Ok(log::Topic {
        queues: request.queues.unwrap_or(topic.queues),
        permission: request.permission.unwrap_or(topic.permission),
        version: topic.version + 1,
        retention_ms: request.retention_ms.unwrap_or(topic.retention_ms),
        ttl_ms: request.ttl_ms.unwrap_or(topic.ttl_ms),
        dedupe_ms: request.dedupe_ms.unwrap_or(topic.dedupe_ms),
        lite_expiry_ms: request.lite_expiry_ms.unwrap_or(topic.lite_expiry_ms),
        ..topic
    })
}

fn change_group(group: &mut log::Group, request: &PutGroupRequest) -> Result<(), Error> {
    let invalid = |sentence: String| Err(Error::new(Reason::Invalid, sentence));
    if let Some(attempts) = request.max_attempts {
        if !(1..=ATTEMPTS_MAX).contains(&attempts) {
            return invalid(format!("max_attempts is {attempts}; it must be 1 to {ATTEMPTS_MAX}"));
        }
        group.max_attempts = attempts;
    }
    match &request.backoff {
        None => {}
        Some(put_group_request::Backoff::Exponential(steps)) => {
            let grows = steps.multiplier.is_finite() && steps.multiplier >= 1.0;
            if !grows || steps.initial_ms == 0 || steps.max_ms < steps.initial_ms {
                return invalid(
                    "exponential backoff needs initial > 0, max >= initial and a multiplier of at least 1".to_owned(),
                );
            }
            group.backoff = Some(Backoff::Exponential(*steps));
            group.backoff_is_default = false;
        }
        Some(put_group_request::Backoff::Customized(steps)) => {
            if steps.next_ms.is_empty() || steps.next_ms.len() > BACKOFF_STEPS_MAX {
                return invalid(format!(
                    "customized backoff has {} steps; it must have 1 to {BACKOFF_STEPS_MAX}",
                    steps.next_ms.len()
                ));
            }
            group.backoff = Some(Backoff::Customized(steps.clone()));
            group.backoff_is_default = false;
        }
    }
    if let Some(percent) = request.shared_percent {
        if percent > 100 {
            return invalid(format!("shared_percent is {percent}; it must be 0 to 100"));
        }
        group.shared_percent = percent;
    }
    group.blocks_when_exhausted = request.blocks_when_exhausted.unwrap_or(group.blocks_when_exhausted);
    group.fifo = request.fifo.unwrap_or(group.fifo);
    group.consume_disabled = request.consume_disabled.unwrap_or(group.consume_disabled);
    Ok(())
}
