//! Messages sent again: a topic may ask that a message id is stored once within a time. What was
//! stored is found by a hash among the keys of the index, and compared in the log itself.

use std::collections::HashMap;

use centaur_apis::{
    fields::{self, system},
    hash64,
    log::Resolution,
    store::{Error, NewMessage},
    units::Lsn,
};

use super::{Machine, consume::damaged};
use crate::{
    log::record::{Message, Place, Record},
    metrics,
    state::index::TimerPlace,
};

/// Places under one hash that are looked at.
const HITS_MAX: usize = 64;

/// What became of a message the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    Stored {
        offset: u64,
        ticket: Option<String>,
    },
    /// It is in the same batch, at this position.
    InBatch(usize),
}

impl Machine {
    /// For each message of a batch, what became of its id within the topic's time, if anything.
    pub(super) fn find_earlier(&mut self, topic: u32, messages: &[NewMessage]) -> Result<Vec<Option<Earlier>>, Error> {
        let window_ms = self.state.topics.get(topic).map_or(0, |topic| topic.settings.dedupe_ms);
        if window_ms == 0 {
            return Ok(Vec::new());
        }
        let since_ms = self.now_ms.saturating_sub(window_ms);
        let mut in_batch = HashMap::new();
        let mut found = Vec::with_capacity(messages.len());
        for (at, message) in messages.iter().enumerate() {
            let Some(id) = fields::text(&message.properties, system::MESSAGE_ID).filter(|id| !id.is_empty()) else {
                found.push(None);
                continue;
            };
            found.push(match in_batch.get(id) {
                Some(first) => Some(Earlier::InBatch(*first)),
                None => self.stored_before(topic, id, since_ms)?,
            });
            in_batch.entry(id).or_insert(at);
        }
        metrics::duplicates(found.iter().flatten().count() as u64);
        Ok(found)
    }

    fn stored_before(&mut self, topic: u32, id: &str, since_ms: u64) -> Result<Option<Earlier>, Error> {
        let hits = self.state.index.keys_since(duplicate_key(topic, id), since_ms, HITS_MAX);
        for lsn in hits.map_err(|error| damaged(&error))? {
            // One that is damaged may be another message, and is better stored twice than never.
            let Some(Record::Message(message)) = self.read_if_sound(lsn)? else { continue };
            let is_same = message.topic == topic
                && message.stored_ms >= since_ms
                && fields::text(&message.properties, system::MESSAGE_ID) == Some(id);
            if is_same && !self.was_withdrawn(lsn, message.place)? {
                let ticket = self.ticket(topic, lsn, message.place);
                return Ok(Some(Earlier::Stored { offset: message.offset().unwrap_or_default(), ticket }));
            }
        }
        Ok(None)
    }

    /// Whether a message was recalled or rolled back: it is not coming, and may be sent again. One of
    /// which that is not known any more is better stored twice than never.
    fn was_withdrawn(&mut self, lsn: Lsn, place: Place) -> Result<bool, Error> {
        match place {
            Place::Queued(_) => Ok(false),
            Place::Scheduled(due_ms) => {
                self.state.index.is_recalled(TimerPlace { due_ms, lsn }).map_err(|error| damaged(&error))
            }
            Place::Half(_) if self.state.transactions.get(lsn).is_some() => Ok(false),
            Place::Half(_) => Ok(self.decision(lsn)? != Some(Resolution::Committed)),
        }
    }

    /// Makes a message findable by its id within its topic, if the topic wants each id once.
    pub(super) fn mark_id(&self, message: &mut Message) {
        if self.state.topics.get(message.topic).is_none_or(|topic| topic.settings.dedupe_ms == 0) {
            return;
        }
        if let Some(id) = fields::text(&message.properties, system::MESSAGE_ID).filter(|id| !id.is_empty()) {
            let key = duplicate_key(message.topic, id);
            message.key_hashes.push(key);
        }
    }
}

/// The look-up hash of an id within a topic.
fn duplicate_key(topic: u32, id: &str) -> u64 {
    hash64(format!("{topic}\0{id}").as_bytes())
}
