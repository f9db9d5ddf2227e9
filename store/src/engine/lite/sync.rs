//! What a client of a lite group says it consumes. Clients repeat all of it twice a minute: what
//! changes nothing leaves no record.

use std::collections::{BTreeMap, BTreeSet};

use centaur_apis::{
    hash64,
    log::{self, CursorsSet, LiteSubscribed, Position, control::Event},
    store::{Error, LiteOffset, Reason, SyncLiteRequest, lite_offset::At, sync_lite_request::Action},
};

use super::{
    super::{
        Machine, catalog,
        consume::{POSITION_BYTES, damaged},
        produce::topic_not_found,
    },
    groups::{bound_elsewhere, not_a_lite_group, not_a_lite_topic},
    topics::check_name,
};
use crate::state::{index::QueueKey, lite::Client, pop::Reader};

/// A complete list may be longer than the quota by this much: what a client is about to drop may
/// still be in it. Source: public contract.
const QUOTA_SLACK: usize = 300;
/// Lite topics that clients of one store are subscribed to, each client's counted.
const SUBSCRIPTIONS_MAX: usize = 2_000_000;
/// Bytes that a subscription may add to the log: a name, who loses it, and its number in the records.
const SUBSCRIPTION_BYTES: usize = 192 + POSITION_BYTES;

/// A client, and the group and topic it speaks of.
struct Caller<'a> {
    reader: Reader,
    lite: log::Lite,
    name: &'a str,
    hash: u64,
}

/// What changes for a client. Names are of lite topics it is not subscribed to.
#[derive(Default)]
struct Change<'a> {
    added: BTreeSet<&'a str>,
    removed: Vec<u32>,
    unbarred: Vec<u32>,
}

impl Change<'_> {
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.unbarred.is_empty()
    }
}

impl Machine {
    /// Changes what a client of a lite group is subscribed to.
    pub fn sync_lite(&mut self, request: &SyncLiteRequest) -> Result<(), Error> {
        let caller = self.find_caller(request)?;
        let names: BTreeSet<&str> = request.lite_topics.iter().map(String::as_str).collect();
        if matches!(request.action(), Action::PartialAdd | Action::CompleteAdd) {
            names.iter().try_for_each(|name| check_name(name))?;
        }
        check_quota(names.len(), caller.lite.client_quota as usize + QUOTA_SLACK)?;
        if let Some(group) = self.state.groups.get(caller.reader.group).filter(|group| group.consume_disabled) {
            return Err(catalog::may_not_consume(&group.name));
        }
        if request.action() == Action::CompleteRemove {
            self.drop_client(caller.reader.group, caller.hash, 0);
            return Ok(());
        }
        if caller.lite.wildcard {
            self.hear(caller.reader.group, caller.hash); // all lite topics are its own already
            return Ok(());
        }
        match request.action() {
            Action::PartialAdd => self.add_some(&caller, names, request.offset.as_ref()),
            Action::PartialRemove => self.remove_some(&caller, &names),
            Action::CompleteAdd | Action::CompleteRemove => self.replace_all(&caller, names, request.version),
        }
    }

    fn find_caller<'a>(&mut self, request: &'a SyncLiteRequest) -> Result<Caller<'a>, Error> {
        let topic = self.state.topics.named(&request.topic).ok_or_else(|| topic_not_found(&request.topic))?;
        let (id, is_lite) = (topic.settings.id, topic.is_lite());
        let known = self.state.groups.named(&request.group);
        match known.map(|group| (group, &group.lite)) {
            Some((_, None)) => return Err(not_a_lite_group(&request.group)),
            Some((group, Some(lite))) if lite.topic != request.topic => {
                return Err(bound_elsewhere(group, lite, &request.topic));
            }
            _ if !is_lite => return Err(not_a_lite_topic(topic)),
            None if !request.create_group || !self.config.create_groups => {
                return Err(catalog::group_not_found(&request.group));
            }
            _ => {}
        }
        let group = match known {
            Some(group) => group.id,
            None => self.find_or_create_reader(&request.group, id, true)?,
        };
        let lite = self.state.groups.get(group).and_then(|group| group.lite.clone()).unwrap_or_default();
        let reader = Reader { group, topic: id };
        Ok(Caller { reader, lite, name: &request.client, hash: hash64(request.client.as_bytes()) })
    }

    /// Adds lite topics that the client asks for by name.
    fn add_some(
        &mut self,
        caller: &Caller<'_>,
        names: BTreeSet<&str>,
        offset: Option<&LiteOffset>,
    ) -> Result<(), Error> {
        let mut change = Change::default();
        let mut known = Vec::new();
        for name in names {
            let queue = self.queue_named(caller.reader.topic, name);
            match queue.filter(|queue| self.is_subscribed(caller, *queue)) {
                Some(queue) => known.push(queue),
                None => drop(change.added.insert(name)),
            }
            change.unbarred.extend(queue.filter(|queue| self.is_barred(caller, *queue)));
        }
        let before = self.client(caller).map_or(0, |client| client.queues.len());
        if !change.added.is_empty() {
            check_quota(before + change.added.len(), caller.lite.client_quota as usize)?;
        }
        let heard = self.hear(caller.reader.group, caller.hash);
        heard.gone.retain(|name| !change.added.contains(name.as_ref()));
        let mut positions = Vec::new();
        for queue in known {
            positions.extend(self.asked_position(caller.reader, queue, offset)?);
        }
        self.change(caller, change, positions, offset)
    }

    /// Takes lite topics away that the client names. With `reset_when_left` the group begins with
    /// the oldest message of those that nobody is subscribed to any more.
    fn remove_some(&mut self, caller: &Caller<'_>, names: &BTreeSet<&str>) -> Result<(), Error> {
        self.hear(caller.reader.group, caller.hash);
        let mut change = Change::default();
        let mut positions = Vec::new();
        for name in names {
            let Some(queue) = self.queue_named(caller.reader.topic, name) else { continue };
            if self.is_barred(caller, queue) {
                change.unbarred.push(queue);
            }
            if self.is_subscribed(caller, queue) {
                change.removed.push(queue);
                if caller.lite.reset_when_left && self.others(caller, queue).is_empty() {
                    positions.push(self.oldest(caller.reader.topic, queue));
                }
            }
        }
        self.change(caller, change, positions, None)
    }

    /// Makes a list all that the client consumes. What another client took from it stays there.
    fn replace_all(&mut self, caller: &Caller<'_>, names: BTreeSet<&str>, version: u64) -> Result<(), Error> {
        let heard = self.hear(caller.reader.group, caller.hash);
        if version != 0 && version < heard.version {
            return Ok(());
        }
        heard.version = version.max(heard.version);
        // What it does not list any more it knows to be gone: listed again, it is wanted again.
        heard.gone.retain(|name| names.contains(name.as_ref()));
        let gone = heard.gone.clone();
        let mut change = Change::default();
        let mut kept = BTreeSet::new();
        for name in names {
            match self.queue_named(caller.reader.topic, name) {
                Some(queue) if self.is_subscribed(caller, queue) => drop(kept.insert(queue)),
                Some(queue) if self.is_barred(caller, queue) => {}
                None if gone.contains(name) => {}
                _ => drop(change.added.insert(name)),
            }
        }
        let had = self.client(caller).map(|client| &client.queues);
        change.removed = had.into_iter().flatten().copied().filter(|queue| !kept.contains(queue)).collect();
        self.change(caller, change, Vec::new(), None)
    }

    /// Carries a change out: new lite topics, evictions, positions, and then what the client has.
    fn change(
        &mut self,
        caller: &Caller<'_>,
        change: Change<'_>,
        mut positions: Vec<Position>,
        offset: Option<&LiteOffset>,
    ) -> Result<(), Error> {
        let reader = caller.reader;
        if change.is_empty() && positions.is_empty() {
            return Ok(());
        }
        if !change.added.is_empty() {
            check_cap(self.state.lite.subscriptions() + change.added.len())?;
            self.check_lite_quota(reader.topic, change.added.iter().copied())?;
            self.check_space()?;
        }
        let changes = change.added.len() + change.removed.len() + change.unbarred.len() + positions.len();
        self.make_room(changes * SUBSCRIPTION_BYTES + caller.name.len())?;

        let added: Vec<u32> = change.added.iter().map(|name| self.lite_queue(reader.topic, name)).collect();
        let asked = offset.filter(|offset| !matches!(offset.at, None | Some(At::Last(_))));
        for &queue in &added {
            let was_moved = caller.lite.exclusive && self.evict_others(caller, queue);
            positions.extend(match asked {
                // Also when the group is there already.
                Some(_) => self.asked_position(reader, queue, asked)?,
                None if was_moved && caller.lite.reset_when_moved => Some(self.oldest(reader.topic, queue)),
                None => self.first_position(reader, queue)?,
            });
        }
        let is_subscription = !(added.is_empty() && change.removed.is_empty() && change.unbarred.is_empty());
        if !positions.is_empty() {
            self.commit(Event::CursorsSet(CursorsSet { group: reader.group, topic: reader.topic, positions }));
        }
        if is_subscription {
            self.commit(Event::LiteSubscribed(LiteSubscribed {
                group: reader.group,
                client: caller.name.to_owned(),
                added,
                removed: change.removed,
                unbarred: change.unbarred,
                ..Default::default()
            }));
        }
        Ok(())
    }

    /// Takes a lite topic from whoever else has it, and has them told; whether anybody had it.
    fn evict_others(&mut self, caller: &Caller<'_>, queue: u32) -> bool {
        let others = self.others(caller, queue);
        let names = self.state.lite.names(caller.reader.topic);
        let name = names.and_then(|names| names.get(queue)).map(|lite| lite.name.clone());
        for client in others.values() {
            self.commit(Event::LiteSubscribed(LiteSubscribed {
                group: caller.reader.group,
                client: client.clone(),
                removed: vec![queue],
                barred: vec![queue],
                ..Default::default()
            }));
            self.notify(caller.reader.group, client, name.as_deref().unwrap_or_default());
        }
        !others.is_empty()
    }

    /// Where a client asks its group to be put; none when it says nothing, or what is so already.
    fn asked_position(
        &mut self,
        reader: Reader,
        queue: u32,
        offset: Option<&LiteOffset>,
    ) -> Result<Option<Position>, Error> {
        let Some(at) = offset.and_then(|offset| offset.at) else { return Ok(None) };
        let topic = self.state.topics.get(reader.topic);
        let ends = topic.and_then(|topic| topic.queues.get(queue as usize)).copied().unwrap_or_default();
        let offset = match at {
            At::Last(_) => return Ok(None),
            At::Earliest(_) => ends.start,
            At::Latest(_) => ends.end,
            At::Offset(offset) => offset.clamp(ends.start, ends.end),
            At::Tail(messages) => ends.end.saturating_sub(messages).max(ends.start),
            At::FromMs(from_ms) => {
                let key = QueueKey { topic: reader.topic, queue };
                let found = self.state.index.first_at_or_after(key, from_ms).map_err(|error| damaged(&error))?;
                found.unwrap_or(ends.end).clamp(ends.start, ends.end)
            }
        };
        let cursor = self.state.pop.get(reader).and_then(|subscription| subscription.cursors.get(queue));
        let is_there = cursor.is_some_and(|cursor| cursor.fetch == offset && cursor.rows.is_empty());
        Ok((!is_there).then_some(Position { queue, offset }))
    }

    /// Where a group begins in a lite topic that it has no place in; none when it has one.
    fn first_position(&mut self, reader: Reader, queue: u32) -> Result<Option<Position>, Error> {
        let subscription = self.state.pop.get(reader);
        if subscription.is_some_and(|subscription| subscription.cursors.get(queue).is_some()) {
            return Ok(None);
        }
        Ok(Some(Position { queue, offset: self.first_offset(reader.topic, queue)? }))
    }

    fn oldest(&self, topic: u32, queue: u32) -> Position {
        let ends = self.state.topics.get(topic).and_then(|topic| topic.queues.get(queue as usize));
        Position { queue, offset: ends.map_or(0, |ends| ends.start) }
    }

    fn queue_named(&self, topic: u32, name: &str) -> Option<u32> {
        self.state.lite.names(topic)?.queue(name)
    }

    fn client(&self, caller: &Caller<'_>) -> Option<&Client> {
        self.state.lite.clients(caller.reader.group)?.get(caller.hash)
    }

    fn is_subscribed(&self, caller: &Caller<'_>, queue: u32) -> bool {
        self.client(caller).is_some_and(|client| client.queues.contains(&queue))
    }

    fn is_barred(&self, caller: &Caller<'_>, queue: u32) -> bool {
        self.client(caller).is_some_and(|client| client.barred.contains(&queue))
    }

    /// Other clients of the group that are subscribed to a lite topic, by the hash of their ids.
    fn others(&self, caller: &Caller<'_>, queue: u32) -> BTreeMap<u64, String> {
        let Some(clients) = self.state.lite.clients(caller.reader.group) else { return BTreeMap::new() };
        let others = clients.subscribers(queue, 0).filter(|hash| *hash != caller.hash);
        others.filter_map(|hash| Some((hash, clients.get(hash)?.name.to_string()))).collect()
    }
}

fn check_quota(lite_topics: usize, max: usize) -> Result<(), Error> {
    if lite_topics <= max {
        return Ok(());
    }
    let sentence = format!("client would be subscribed to {lite_topics} lite topics; its group allows {max}");
    Err(Error::new(Reason::LiteSubscriptionQuota, sentence))
}

fn check_cap(subscriptions: usize) -> Result<(), Error> {
    if subscriptions <= SUBSCRIPTIONS_MAX {
        return Ok(());
    }
    let sentence =
        format!("store would have {subscriptions} lite subscriptions; at most {SUBSCRIPTIONS_MAX} are allowed");
    Err(Error::new(Reason::LiteSubscriptionQuota, sentence))
}
