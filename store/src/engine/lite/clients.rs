//! Clients of lite groups that go away: by saying so, or by saying nothing.

use std::collections::BTreeSet;

use centaur_apis::{
    hash64,
    log::{LiteSubscribed, VisibilityChanged, control::Event},
    store::{EndSessionRequest, Notice},
};

use super::super::Machine;
use crate::state::pop::Reader;

/// A client that has not said what it consumes for so long consumes nothing; source: public
/// contract. Clients say it twice a minute.
const SILENT_MS: u64 = 180_000;
/// Lite topics of one client that are known to be gone, for clients that never list all they have;
/// others are forgotten with the next list.
const GONE_MAX: usize = 10_000;
/// Clients that are dropped in one turn, for what they hold is looked for one by one.
const DROPPED_MAX: usize = 64;
/// Bytes of one lite topic's number in the record of what a client leaves, at most, and of the rest.
const LEFT_BYTES: usize = 6;
const LEAVING_BYTES: usize = 64;
/// Bytes of a visibility change in the log, at most.
const CHANGE_BYTES: usize = 80;

/// What a client said last.
pub struct Heard {
    pub at_ms: u64,
    /// Of its last complete list; 0: it gives none.
    pub version: u64,
    /// Lite topics that it was told are gone: its complete lists do not bring them back before one
    /// was without them.
    pub gone: BTreeSet<Box<str>>,
}

impl Heard {
    fn new(at_ms: u64) -> Self {
        Self { at_ms, version: 0, gone: BTreeSet::new() }
    }

    /// Notes that a lite topic of the client is gone.
    pub fn lose(&mut self, name: &str) {
        self.gone.insert(name.into());
        if self.gone.len() > GONE_MAX {
            self.gone.pop_first(); // by name, which is as good as any
        }
    }
}

impl Machine {
    /// Notes that a client was heard from.
    pub(super) fn hear(&mut self, group: u32, client: u64) -> &mut Heard {
        let now_ms = self.now_ms;
        let heard = self.lite.heard.entry((group, client)).or_insert_with(|| Heard::new(now_ms));
        heard.at_ms = now_ms;
        heard
    }

    /// Drops what clients are subscribed to that were not heard from. After a start all of them
    /// count as just heard.
    pub(super) fn drop_silent_clients(&mut self) {
        let (now_ms, started_ms, heard) = (self.now_ms, self.lite.started_ms, &mut self.lite.heard);
        let is_silent = |heard: &Heard| now_ms.saturating_sub(heard.at_ms) > SILENT_MS;
        let known = self.state.lite.all_clients();
        let silent: Vec<(u32, u64)> = known
            .map(|(group, client, _)| (group, client))
            .filter(|key| is_silent(heard.entry(*key).or_insert_with(|| Heard::new(started_ms))))
            .take(DROPPED_MAX)
            .collect();
        if silent.len() == DROPPED_MAX {
            self.lite.clients_ms = now_ms; // there may be more
        }
        for (group, client) in silent {
            if self.check_alive().is_err() {
                return;
            }
            self.drop_client(group, client, 0);
            tracing::info!(group, client, "lite client was not heard from; its subscriptions are dropped");
        }
        self.lite.heard.retain(|_, heard| !is_silent(heard));
    }

    /// Ends a client in its lite groups: its subscriptions go, what it holds is visible again after
    /// `linger_ms`. Says how many messages that is.
    pub(in super::super) fn end_lite_client(&mut self, request: &EndSessionRequest, linger_ms: u64) -> u64 {
        let client = hash64(request.client.as_bytes());
        let wanted = self.state.groups.named(&request.group).map(|group| group.id);
        if wanted.is_none() && !request.group.is_empty() {
            return 0;
        }
        // Clients of a group that reads all lite topics are subscribed to nothing.
        let groups = self.state.lite.groups_of(client).chain(self.state.groups_reading_all());
        let groups: BTreeSet<u32> = groups.filter(|group| wanted.is_none_or(|wanted| wanted == *group)).collect();
        groups.into_iter().map(|group| self.drop_client(group, client, linger_ms)).sum()
    }

    /// Forgets a client of one group; says how many messages it had.
    pub(super) fn drop_client(&mut self, group: u32, client: u64, linger_ms: u64) -> u64 {
        self.lite.heard.remove(&(group, client));
        let released = self.state.lite_reader(group).map_or(0, |reader| self.let_go(reader, client, linger_ms));
        let known = self.state.lite.clients(group).and_then(|clients| clients.get(client));
        if let Some(known) = known {
            let left = known.queues.len() + known.barred.len();
            let bytes = left * LEFT_BYTES + known.name.len() + LEAVING_BYTES;
            let event = LiteSubscribed {
                group,
                client: known.name.to_string(),
                removed: known.queues.iter().copied().collect(),
                unbarred: known.barred.iter().copied().collect(),
                ..Default::default()
            };
            // Without room it stays until it is found silent.
            if self.make_room(bytes).is_ok() {
                self.commit(Event::LiteSubscribed(event));
            }
        }
        released
    }

    fn let_go(&mut self, reader: Reader, client: u64, linger_ms: u64) -> u64 {
        let visible_at_ms = self.now_ms + linger_ms;
        let Some(subscription) = self.state.pop.get(reader) else { return 0 };
        let is_longer = |(queue, offset): &(u32, u64)| {
            subscription.row(*queue, *offset).is_some_and(|row| row.visible_at_ms > visible_at_ms)
        };
        let held: Vec<(u32, u64)> = self.state.pop.held_of_lite(client, reader).filter(is_longer).collect();
        let count = held.len() as u64;
        if self.make_room(held.len() * CHANGE_BYTES).is_err() {
            return 0; // they are visible again when their time is over
        }
        for (queue, offset) in held {
            self.commit(Event::VisibilityChanged(VisibilityChanged {
                group: reader.group,
                topic: reader.topic,
                queue,
                offset,
                visible_at_ms,
                uncounted: false,
                keeps_handle: true,
            }));
        }
        count
    }

    /// Has a client told that a lite topic is no longer its own.
    pub(super) fn notify(&mut self, group: u32, client: &str, lite_topic: &str) {
        let Some(group) = self.state.groups.get(group) else { return };
        let notice = Notice { group: group.name.clone(), client: client.to_owned(), lite_topic: lite_topic.to_owned() };
        self.lite.notices.add(self.now_ms, notice);
    }
}
