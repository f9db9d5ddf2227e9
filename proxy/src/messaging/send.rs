//! SendMessage: check every message, choose queues, store.

use std::sync::Arc;

use bytes::Bytes;
use centaur_apis::{
    log::TopicType,
    names::{DEAD_LETTER_PREFIX, RETRY_PREFIX},
    store::{Batch, BatchResult, Error, Half, Reason},
    v2::{Code, MessageType},
};

use super::reply::{Reply, Stored, Ticket};
use crate::{
    Inner,
    caller::Caller,
    convert,
    published::{self, Published, System},
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

    let mut load = Load::new(topic, messages.len());
    for message in &messages {
        load.add(request, message, &route, caller, now_ms);
    }
    if load.has_half {
        // It may be asked about the outcome before it names the topic in its settings.
        proxy.sessions.enter(caller, Sign::Seen).inspect(|session| session.produces(topic));
    }
    match proxy.stores.append(load.batch).await {
        Ok(BatchResult { error: None, offsets, tickets }) => Ok(reply(load.sent, &offsets, tickets)),
        Ok(BatchResult { error: Some(error), .. }) | Err(error) => Err(refused(proxy, topic, error)),
    }
}

/// Checks all messages before any is stored; gives the topic they share.
fn check<'a>(messages: &[Published<'a>], limits: Limits, now_ms: u64) -> Result<&'a str, Refusal> {
    let Some(first) = messages.first() else {
        return Err(Refusal::new(Code::MessageCorrupted, "messages is empty; give at least 1 message"));
    };
    let (namespace, topic) = first.topic;
    validate::topic_name(namespace, topic)?;
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
    let stranger =
        messages.iter().map(|message| kind_of(message, route)).find(|kind| !is_derived && !takes(route.kind, *kind));
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

fn kind_of(message: &Published<'_>, route: &Route) -> MessageType {
    message.system.as_ref().map_or(MessageType::Normal, |system| validate::effective_type(system, route.kind))
}

fn takes(topic: TopicType, message: MessageType) -> bool {
    match topic {
        TopicType::Mixed => {
            matches!(message, MessageType::Normal | MessageType::Fifo | MessageType::Delay | MessageType::Transaction)
        }
        one => one as i32 == message as i32,
    }
}

/// The messages of one request, which are stored together or not at all.
struct Load {
    batch: Batch,
    sent: Vec<Sent>,
    /// Of the messages without a message group: they stay together.
    queue: Option<u32>,
    has_half: bool,
}

/// What of a message its answer needs.
struct Sent {
    message_id: Bytes,
    kind: MessageType,
}

impl Load {
    fn new(topic: &str, messages: usize) -> Self {
        let batch = Batch { topic: topic.to_owned(), messages: Vec::with_capacity(messages) };
        Self { batch, sent: Vec::with_capacity(messages), queue: None, has_half: false }
    }

    fn add(&mut self, request: &Bytes, message: &Published<'_>, route: &Route, caller: &Caller<'_>, now_ms: u64) {
        let kind = kind_of(message, route);
        let mut new = convert::to_store(request, message, kind, caller.peer, now_ms);
        new.ttl_ms = validate::ttl_ms(message);
        if let Some(system) = &message.system {
            new.queue = self.queue(system, kind, route);
            match kind {
                MessageType::Transaction => {
                    self.has_half = true;
                    new.half = Some(Half { first_check_ms: validate::first_check_ms(system) });
                }
                MessageType::Delay => new.due_ms = validate::due_ms(system, now_ms),
                MessageType::Lite => system.lite_topic.unwrap_or_default().clone_into(&mut new.lite_topic),
                MessageType::Unspecified | MessageType::Normal | MessageType::Fifo | MessageType::Priority => {}
            }
            self.sent.push(Sent { message_id: request.slice_ref(system.message_id.as_bytes()), kind });
        }
        self.batch.messages.push(new);
    }

    /// The queue of a message; a lite topic has its own, which the store knows.
    fn queue(&mut self, system: &System<'_>, kind: MessageType, route: &Route) -> u32 {
        match (kind, system.message_group) {
            (MessageType::Lite, _) => 0,
            (MessageType::Priority, _) => route.queue_of_priority(system.priority.unwrap_or(0)),
            (_, "") => *self.queue.get_or_insert_with(|| route.next_queue()),
            (_, group) => route.queue_of_group(group),
        }
    }
}

/// What a refusal of the store means, and what it says about what is known of the topic.
fn refused(proxy: &Inner, topic: &str, error: Error) -> Refusal {
    if matches!(error.reason(), Reason::TopicNotFound | Reason::TypeConflict | Reason::Forbidden) {
        proxy.routes.forget_topic(topic);
    }
    error.into()
}

fn reply(sent: Vec<Sent>, offsets: &[u64], tickets: Vec<String>) -> Reply {
    let is_single = sent.len() == 1;
    let mut tickets = tickets.into_iter();
    let stored = |(sent, offset): (Sent, &u64)| {
        let ticket = tickets.next().filter(|ticket| !ticket.is_empty());
        let ticket = match (ticket, sent.kind) {
            (Some(id), MessageType::Transaction) => Some(Ticket::Transaction(id)),
            (Some(handle), MessageType::Delay) if is_single => Some(Ticket::Recall(handle)),
            _ => None,
        };
        Stored { message_id: sent.message_id, offset: *offset, ticket }
    };
    Reply::Stored(sent.into_iter().zip(offsets).map(stored).collect())
}

#[cfg(test)]
mod tests {
    use centaur_apis::v2::SendResultEntry;

    use super::*;

    #[test]
    fn what_clients_keep_of_a_message_depends_on_its_kind() {
        let entries = |kinds: &[MessageType], tickets: &[&str]| {
            let sent = kinds.iter().map(|kind| Sent { message_id: "ID".into(), kind: *kind }).collect();
            let tickets = tickets.iter().map(|ticket| (*ticket).to_owned()).collect();
            let Reply::Stored(stored) = reply(sent, &[0, 0], tickets) else { panic!("stored") };
            let entry = |stored| {
                let entry = SendResultEntry::from(stored);
                (entry.transaction_id, entry.recall_handle)
            };
            stored.into_iter().map(entry).collect::<Vec<_>>()
        };
        let pair = |id: &str, handle: &str| (id.to_owned(), handle.to_owned());
        assert_eq!(entries(&[MessageType::Normal], &[]), [pair("ID", "")]);
        assert_eq!(entries(&[MessageType::Delay], &["t"]), [pair("ID", "t")]);
        assert_eq!(entries(&[MessageType::Transaction], &["t"]), [pair("t", "")]);
        assert_eq!(entries(&[MessageType::Transaction], &[]), [pair("ID", "")], "never empty");
        let both = [MessageType::Delay, MessageType::Transaction];
        assert_eq!(entries(&both, &["a", "b"]), [pair("ID", ""), pair("b", "")], "a batch is not recalled");
    }

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
