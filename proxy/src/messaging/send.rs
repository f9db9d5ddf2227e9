//! SendMessage: check every message, choose queues, store.

use std::sync::Arc;

use bytes::Bytes;
use centaur_apis::{
    log::TopicType,
    names::{DEAD_LETTER_PREFIX, RETRY_PREFIX},
    store::{Batch, BatchResult, Error, NewMessage, Reason},
    v2::{Code, MessageType},
};

use super::reply::{Reply, Stored};
use crate::{
    Inner,
    caller::Caller,
    convert,
    published::{self, Published},
    refusal::Refusal,
    sessions::Sign,
    topic_routes::Route,
    validate::{self, Limits},
    wall_ms,
};

/// Stores the messages of an encoded `SendMessageRequest`: all of them, or none when one is bad.
pub(crate) async fn send(proxy: &Inner, caller: &Caller<'_>, request: Bytes) -> Result<Reply, Refusal> {
    proxy.sessions.touch(caller.client, Sign::Seen);
    let rewritten;
    let (request, messages) = match published::read(&request) {
        Some(messages) => (&request, messages),
        None => {
            let damaged = |error| Refusal::new(Code::MessageCorrupted, format!("the request is damaged: {error}"));
            rewritten = published::rewrite(request.clone()).map_err(damaged)?;
            (&rewritten, published::read(&rewritten).unwrap_or_default())
        }
    };
    let now_ms = wall_ms();
    let topic = check(&messages, proxy.limits(), now_ms)?;
    let route = route_for(proxy, topic, &messages).await?;
    storable(&messages, now_ms)?;

    let mut load = Load::new(topic, messages.len());
    for message in &messages {
        load.add(request, message, &route, caller, now_ms);
    }
    match proxy.stores.append(load.batch).await {
        Ok(BatchResult { error: None, offsets, .. }) => Ok(reply(load.message_ids, &offsets)),
        Ok(BatchResult { error: Some(error), .. }) | Err(error) => Err(refused(proxy, topic, error)),
    }
}

/// Checks all messages before any is stored; gives the topic they share.
fn check<'a>(messages: &[Published<'a>], limits: Limits, now_ms: u64) -> Result<&'a str, Refusal> {
    let Some(first) = messages.first() else {
        return Err(Refusal::new(Code::MessageCorrupted, "messages is empty; give at least 1 message"));
    };
    let (_, topic) = first.topic;
    validate::topic_name(topic)?;
    if let Some(other) = messages[1..].iter().find(|message| message.topic != first.topic) {
        let text = format!("messages have the topics {topic:?} and {:?}; one request is for one topic", other.topic.1);
        return Err(Refusal::new(Code::MessageCorrupted, text));
    }
    messages.iter().try_for_each(|message| validate::message(message, limits, now_ms))?;
    Ok(topic)
}

/// The topic's route, if the topic takes these messages.
async fn route_for(proxy: &Inner, topic: &str, messages: &[Published<'_>]) -> Result<Arc<Route>, Refusal> {
    let route = proxy.routes.topic(topic).await?;
    let Err(conflict) = accepts(topic, &route, messages) else { return Ok(route) };
    // The topic may have been changed a moment ago.
    let renewed = proxy.routes.renew_topic(topic).await?;
    if renewed.kind == route.kind && renewed.permission == route.permission {
        return Err(conflict);
    }
    accepts(topic, &renewed, messages).map(|()| renewed)
}

fn accepts(topic: &str, route: &Route, messages: &[Published<'_>]) -> Result<(), Refusal> {
    let is_derived = topic.starts_with(DEAD_LETTER_PREFIX) || topic.starts_with(RETRY_PREFIX);
    let stranger = messages.iter().map(kind_of).find(|kind| !is_derived && !takes(route.kind, *kind));
    if let Some(kind) = stranger {
        let text = format!(
            "message is of type {} by its properties; topic {topic:?} takes {} messages",
            kind.as_str_name(),
            route.kind.as_str_name()
        );
        return Err(Refusal::new(Code::MessagePropertyConflictWithType, text));
    }
    if !route.is_writable() {
        let text =
            format!("topic {topic:?} has no writable queue; its permission is {}", route.permission.as_str_name());
        return Err(Refusal::new(Code::Forbidden, text));
    }
    Ok(())
}

fn kind_of(message: &Published<'_>) -> MessageType {
    message.system.as_ref().map_or(MessageType::Normal, validate::effective_type)
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
fn storable(messages: &[Published<'_>], now_ms: u64) -> Result<(), Refusal> {
    for message in messages {
        let delivery_ms = message.system.as_ref().and_then(|s| s.delivery.as_ref()).map_or(0, validate::timestamp_ms);
        let is_due = u64::try_from(delivery_ms).unwrap_or(0) <= now_ms;
        let kind = match kind_of(message) {
            MessageType::Normal | MessageType::Fifo | MessageType::Unspecified => continue,
            MessageType::Delay if is_due => continue,
            kind => kind,
        };
        let text = format!("messages of type {} are not supported by this server yet", kind.as_str_name());
        return Err(Refusal::new(Code::NotImplemented, text));
    }
    Ok(())
}

/// The messages of one request, which are stored together or not at all.
struct Load {
    batch: Batch,
    message_ids: Vec<Bytes>,
    /// Of the messages without a message group: they stay together.
    queue: Option<u32>,
}

impl Load {
    fn new(topic: &str, messages: usize) -> Self {
        let batch = Batch { topic: topic.to_owned(), messages: Vec::with_capacity(messages) };
        Self { batch, message_ids: Vec::with_capacity(messages), queue: None }
    }

    fn add(&mut self, request: &Bytes, message: &Published<'_>, route: &Route, caller: &Caller<'_>, now_ms: u64) {
        let (message_id, group) = message.system.as_ref().map_or(("", ""), |s| (s.message_id, s.message_group));
        let queue = match group {
            "" => *self.queue.get_or_insert_with(|| route.next_queue()),
            group => route.queue_of_group(group),
        };
        self.message_ids.push(request.slice_ref(message_id.as_bytes()));
        let stored = convert::to_store(request, message, kind_of(message), caller.peer, now_ms);
        self.batch.messages.push(NewMessage { queue, ..stored });
    }
}

/// What a refusal of the store means, and what it says about what is known of the topic.
fn refused(proxy: &Inner, topic: &str, error: Error) -> Refusal {
    if matches!(error.reason(), Reason::TopicNotFound | Reason::TypeConflict | Reason::Forbidden) {
        proxy.routes.forget_topic(topic);
    }
    error.into()
}

fn reply(message_ids: Vec<Bytes>, offsets: &[u64]) -> Reply {
    let stored = |(message_id, offset): (Bytes, &u64)| Stored { message_id, offset: *offset };
    Reply::Stored(message_ids.into_iter().zip(offsets).map(stored).collect())
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
