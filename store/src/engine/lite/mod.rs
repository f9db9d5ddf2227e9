//! Lite topics at work: who is subscribed to what, who is woken when something is there, and lite
//! topics that come and go.

mod clients;
mod dispatch;
mod groups;
mod notices;
mod sync;
mod topics;

use std::collections::HashMap;

use centaur_apis::log::control::Event;

use super::Machine;
use crate::state::pop::Reader;

use clients::Heard;
use dispatch::Dispatch;
use notices::Notices;
use topics::Sweep;

/// How often clients are looked through for those that say nothing any more.
const CLIENTS_CHECK_MS: u64 = 10_000;

/// What the leader knows of lite topics and their clients besides derived state; it may be lost.
pub(super) struct Lite {
    pub dispatch: Dispatch,
    notices: Notices,
    /// When each client last said what it consumes, by group and hash of its id.
    heard: HashMap<(u32, u64), Heard>,
    sweep: Sweep,
    /// Clients that said nothing since the start count as heard then.
    started_ms: u64,
    clients_ms: u64,
}

impl Lite {
    pub fn new(now_ms: u64) -> Self {
        Self {
            dispatch: Dispatch::default(),
            notices: Notices::new(now_ms),
            heard: HashMap::new(),
            sweep: Sweep::default(),
            started_ms: now_ms,
            clients_ms: now_ms,
        }
    }
}

impl Machine {
    /// Serves polls that something was found for, drops clients that are gone and lite topics that
    /// nobody writes to.
    pub(super) fn keep_lite(&mut self) {
        for line in self.lite.dispatch.take_runnable() {
            self.serve_line(line);
        }
        if self.now_ms >= self.lite.clients_ms {
            self.lite.clients_ms = self.now_ms + CLIENTS_CHECK_MS;
            self.drop_silent_clients();
            self.lite.notices.forget_old(self.now_ms);
        }
        if self.now_ms >= self.lite.sweep.due_ms && self.bury_dead_in_lite_topics() {
            self.sweep_lite_topics();
        }
    }

    /// Moves what died in lite topics to the dead-letter topics, before the lite topics go that are old.
    /// Whether that is all: of much, as after a stop of hours, a part is moved at a time.
    fn bury_dead_in_lite_topics(&mut self) -> bool {
        let topics = self.state.lite.topics().filter_map(|(id, _)| self.state.topics.get(id));
        let readers =
            topics.flat_map(|topic| topic.readers.iter().map(|&group| Reader { group, topic: topic.settings.id }));
        let has_dead = |machine: &Self, reader: &Reader| {
            machine.state.pop.get(*reader).is_some_and(|one| one.dead(machine.now_ms).next().is_some())
        };
        let with_dead: Vec<Reader> = readers.filter(|reader| has_dead(self, reader)).collect();
        with_dead.iter().for_each(|reader| self.bury_dead(*reader));
        !with_dead.iter().any(|reader| has_dead(self, reader))
    }

    /// When that has to be done next, store time.
    pub(super) fn lite_due_ms(&self) -> Option<u64> {
        if self.lite.dispatch.has_runnable() {
            return Some(self.now_ms);
        }
        let clients = self.state.lite.all_clients().next().map(|_| self.lite.clients_ms);
        let topics = self.state.lite.topics().next().map(|_| self.lite.sweep.due_ms);
        [clients, topics].into_iter().flatten().min()
    }

    /// Looks whether what was just applied lets a lite topic be given to somebody. What comes with
    /// time is seen when its time has come.
    pub(super) fn look_after(&mut self, event: &Event) {
        let (dispatch, now_ms) = (&mut self.lite.dispatch, self.now_ms);
        let mut look = |reader, queue| dispatch.look(&self.state, &self.waiters, reader, queue, now_ms);
        match event {
            Event::Acked(e) => look(Reader { group: e.group, topic: e.topic }, e.queue),
            Event::DeadLettered(e) => look(Reader { group: e.group, topic: e.topic }, e.queue),
            Event::CursorsSet(e) => {
                let reader = Reader { group: e.group, topic: e.topic };
                e.positions.iter().for_each(|position| look(reader, position.queue));
            }
            Event::SegmentRetired(e) => {
                for start in &e.starts {
                    let readers = self.state.topics.get(start.topic).into_iter().flat_map(|topic| &topic.readers);
                    readers.for_each(|group| look(Reader { group: *group, topic: start.topic }, start.queue));
                }
            }
            Event::LiteSubscribed(e) => {
                if let Some(reader) = self.state.lite_reader(e.group) {
                    dispatch.subscribed(&self.state, &self.waiters, reader, e, now_ms);
                }
            }
            Event::GroupSet(e) => dispatch.look_again(e.id),
            Event::GroupDeleted(e) => dispatch.forget(|reader| reader.group == e.id),
            Event::TopicDeleted(e) => dispatch.forget(|reader| reader.topic == e.id),
            _ => {}
        }
    }
}
