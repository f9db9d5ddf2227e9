//! SendMessage: check every message, choose queues, store.

use centaur_apis::{
    log::TopicType,
    names::DEAD_LETTER_PREFIX,
    names::RETRY_PREFIX,
    store::{Batch, BatchResult, Error, Reason},
    v2::{Code, Message, MessageType, SendMessageRequest, SendMessageResponse, SendResultEntry, SystemProperties},
};

use crate::{
    Inner,
    caller::Caller,
    convert,
    refusal::{self, Refusal},
    sessions::Sign,
    topic_routes::Route,
    validate::{self, Limits},
    wall_ms,
};

pub(crate) async fn send(
    proxy: &Inner,
    caller: &Caller<'_>,
    request: SendMessageRequest,
) -> Result<SendMessageResponse, Refusal> {
    proxy.sessions.touch(caller.client, Sign::Seen);
    let now_ms = wall_ms();
    check(&request.messages, proxy.limits(), now_ms)?;
    let topic = topic_of(&request.messages).to_owned();
    let route = route_for(proxy, &topic, &request.messages).await?;
    storable(&request.messages, now_ms)?;

    let mut load = Load::new(topic, request.messages.len());
    for message in request.messages {
        load.add(message, &route, caller, now_ms);
    }
    let Load { topic, batches, places } = load;
    let results = match proxy.stores.append(batches).await {
        Ok(results) => results,
        Err(error) => return Err(refused(proxy, &topic, error)),
    };
    Ok(answer(proxy, &topic, places, &results))
}

fn topic_of(messages: &[Message]) -> &str {
    messages.first().and_then(|m| m.topic.as_ref()).map_or("", |t| t.name.as_str())
}

/// Checks all messages before any is stored.
fn check(messages: &[Message], limits: Limits, now_ms: u64) -> Result<(), Refusal> {
    let Some(first) = messages.first() else {
        return Err(Refusal::new(Code::MessageCorrupted, "messages is empty; give at least 1 message"));
    };
    validate::topic(first.topic.as_ref())?;
    if let Some(other) = messages.iter().find(|m| m.topic != first.topic) {
        let (one, other) = (topic_of(messages), other.topic.as_ref().map_or("", |t| t.name.as_str()));
        let text = format!("messages have the topics {one:?} and {other:?}; one request is for one topic");
        return Err(Refusal::new(Code::MessageCorrupted, text));
    }
    messages.iter().try_for_each(|message| validate::message(message, limits, now_ms))
}

/// The topic's route, if the topic takes these messages.
async fn route_for(proxy: &Inner, topic: &str, messages: &[Message]) -> Result<std::sync::Arc<Route>, Refusal> {
    let route = proxy.routes.topic(topic).await?;
    let Err(conflict) = accepts(topic, &route, messages) else { return Ok(route) };
    // The topic may have been changed a moment ago.
    let renewed = proxy.routes.renew_topic(topic).await?;
    if renewed.kind == route.kind && renewed.permission == route.permission {
        return Err(conflict);
    }
    accepts(topic, &renewed, messages).map(|()| renewed)
}

fn accepts(topic: &str, route: &Route, messages: &[Message]) -> Result<(), Refusal> {
    let is_derived = topic.starts_with(DEAD_LETTER_PREFIX) || topic.starts_with(RETRY_PREFIX);
    if !is_derived {
        for message in messages {
            let kind = kind_of(message);
            if !takes(route.kind, kind) {
                let text = format!(
                    "message is of type {} by its properties, topic {topic:?} takes {} messages only",
                    kind.as_str_name(),
                    route.kind.as_str_name()
                );
                return Err(Refusal::new(Code::MessagePropertyConflictWithType, text));
            }
        }
    }
    if !route.is_writable() {
        let text =
            format!("topic {topic:?} has no writable queue; its permission is {}", route.permission.as_str_name());
        return Err(Refusal::new(Code::Forbidden, text));
    }
    Ok(())
}

fn kind_of(message: &Message) -> MessageType {
    message.system_properties.as_ref().map_or(MessageType::Normal, validate::effective_type)
}

fn takes(topic: TopicType, message: MessageType) -> bool {
    match topic {
        TopicType::Mixed => {
            matches!(message, MessageType::Normal | MessageType::Fifo | MessageType::Delay | MessageType::Transaction)
        }
        one => one as i32 == message as i32,
    }
}

/// Refuses what no store can hold yet.
fn storable(messages: &[Message], now_ms: u64) -> Result<(), Refusal> {
    let is_due = |system: &SystemProperties| {
        let at = system.delivery_timestamp.as_ref().map_or(0, validate::timestamp_ms);
        u64::try_from(at).unwrap_or(0) <= now_ms
    };
    for system in messages.iter().filter_map(|m| m.system_properties.as_ref()) {
        let kind = match validate::effective_type(system) {
            MessageType::Normal | MessageType::Fifo | MessageType::Unspecified => continue,
            MessageType::Delay if is_due(system) => continue,
            kind => kind,
        };
        let text = format!("messages of type {} are not supported by this server yet", kind.as_str_name());
        return Err(Refusal::new(Code::NotImplemented, text));
    }
    Ok(())
}

/// Messages sorted by queue, and where each of them went.
struct Load {
    topic: String,
    batches: Vec<Batch>,
    places: Vec<Place>,
}

struct Place {
    message_id: String,
    batch: usize,
    at: u64,
}

impl Load {
    fn new(topic: String, messages: usize) -> Self {
        Self { topic, batches: Vec::with_capacity(1), places: Vec::with_capacity(messages) }
    }

    fn add(&mut self, message: Message, route: &Route, caller: &Caller<'_>, now_ms: u64) {
        let system = message.system_properties.as_ref();
        let message_id = system.map(|s| s.message_id.clone()).unwrap_or_default();
        let group = system.and_then(|s| s.message_group.as_deref()).filter(|group| !group.is_empty());
        let batch = match group {
            Some(group) => self.batch(route.queue_of_group(group)),
            // Messages without a group stay together: the queue of the first is as good as any.
            None if self.batches.is_empty() => self.batch(route.next_queue()),
            None => 0,
        };
        let kind = kind_of(&message);
        let messages = &mut self.batches[batch].messages;
        self.places.push(Place { message_id, batch, at: messages.len() as u64 });
        messages.push(convert::to_store(message, kind, caller.peer, now_ms));
    }

    /// The batch for a queue, made if need be.
    fn batch(&mut self, queue: u32) -> usize {
        if let Some(at) = self.batches.iter().position(|batch| batch.queue == queue) {
            return at;
        }
        self.batches.push(Batch { topic: self.topic.clone(), queue, messages: Vec::with_capacity(1) });
        self.batches.len() - 1
    }
}

/// What a refusal of the store means, and what it says about what is known of the topic.
fn refused(proxy: &Inner, topic: &str, error: Error) -> Refusal {
    if matches!(error.reason(), Reason::TopicNotFound | Reason::TypeConflict | Reason::Forbidden) {
        proxy.routes.forget_topic(topic);
    }
    error.into()
}

fn answer(proxy: &Inner, topic: &str, places: Vec<Place>, results: &[BatchResult]) -> SendMessageResponse {
    let entry = |place: Place| match results.get(place.batch) {
        Some(BatchResult { error: None, first_offset }) => SendResultEntry {
            status: Some(refusal::ok()),
            transaction_id: place.message_id.clone(),
            message_id: place.message_id,
            offset: i64::try_from(first_offset + place.at).unwrap_or(i64::MAX),
            recall_handle: String::new(),
        },
        Some(BatchResult { error: Some(error), .. }) => {
            SendResultEntry { status: Some(refused(proxy, topic, error.clone()).into()), ..Default::default() }
        }
        None => SendResultEntry::default(),
    };
    let entries: Vec<SendResultEntry> = places.into_iter().map(entry).collect();
    SendMessageResponse { status: Some(refusal::common(entries.iter().map(|e| e.status.as_ref()))), entries }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_takes_its_own_type_and_a_mixed_one_four() {
        use MessageType as M;
        let taken = |topic| {
            [M::Normal, M::Fifo, M::Delay, M::Transaction, M::Lite, M::Priority].map(|message| takes(topic, message))
        };
        assert_eq!(taken(TopicType::Normal), [true, false, false, false, false, false]);
        assert_eq!(taken(TopicType::Fifo), [false, true, false, false, false, false]);
        assert_eq!(taken(TopicType::Priority), [false, false, false, false, false, true]);
        assert_eq!(taken(TopicType::Mixed), [true, true, true, true, false, false]);
    }
}
