//! Which client of a lite group may have something to take. Each client that polls has a ring of
//! lite topics. A lite topic that gets something to give is put into the ring of everyone who is
//! subscribed to it, and is looked at again when it is taken out: whoever comes first gets it, and
//! nothing is lost with one that went away.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
};

use centaur_apis::{
    hash64,
    log::{CursorsSet, LiteSubscribed, Position, control::Event},
    store::Error,
};

use super::super::{
    Machine,
    consume::{Ask, POSITION_BYTES},
};
use crate::{
    state::{
        State,
        lite::{self, Clients},
        pop::{Due, Reader},
        select::{Offers, is_ready},
    },
    wait::{Line, Waiters},
};

/// Added to the hash that turns begin at, so that no client is always first.
const TURN: u64 = 0x9e37_79b9_7f4a_7c15;
/// Positions of one record.
const POSITIONS_MAX: usize = 4096;

/// What is ready, for every lite group with clients that poll.
#[derive(Default)]
pub struct Dispatch {
    groups: HashMap<Reader, Rings>,
    /// Lines with a poll that may get something.
    runnable: Ring<Line>,
    turn: u64,
}

/// The rings of one group's clients, by the hash of the client id.
#[derive(Default)]
struct Rings {
    /// Everyone consumes all lite topics: there is one ring, of client 0.
    reads_all: bool,
    clients: HashMap<u64, Ring<u32>>,
    /// Rows that became due up to this place in their order were looked at.
    looked_to: Due,
}

/// Things in the order they came, each once.
struct Ring<T> {
    order: VecDeque<T>,
    known: HashSet<T>,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), known: HashSet::new() }
    }
}

impl<T: Copy + Eq + Hash> Ring<T> {
    fn add(&mut self, item: T) {
        if self.known.insert(item) {
            self.order.push_back(item);
        }
    }

    fn take(&mut self) -> Option<T> {
        let item = self.order.pop_front()?;
        self.known.remove(&item);
        Some(item)
    }
}

/// A client's ring, as far as the client is still subscribed to what is in it.
struct Offered<'a> {
    ring: &'a mut Ring<u32>,
    client: u64,
    /// None: all lite topics are its own.
    clients: Option<&'a Clients>,
}

impl Offers for Offered<'_> {
    fn take(&mut self) -> Option<u32> {
        loop {
            let queue = self.ring.take()?;
            if self.clients.is_none_or(|clients| clients.is_subscribed(self.client, queue)) {
                return Some(queue);
            }
        }
    }

    fn put_back(&mut self, queue: u32) {
        self.ring.add(queue);
    }
}

impl Dispatch {
    /// Lines whose turn it is.
    pub fn take_runnable(&mut self) -> VecDeque<Line> {
        self.runnable.known.clear();
        std::mem::take(&mut self.runnable.order)
    }

    pub fn has_runnable(&self) -> bool {
        !self.runnable.order.is_empty()
    }

    /// Has the first poll of a line looked at once more.
    pub fn run_again(&mut self, line: Line) {
        self.runnable.add(line);
    }

    /// Lite topics that a client may take from; none when it is subscribed to nothing.
    pub fn offers<'a>(&'a mut self, line: Line, lite: &'a lite::Lite) -> Option<impl Offers + 'a> {
        let rings = self.groups.get_mut(&line.reader)?;
        let clients = if rings.reads_all { None } else { Some(lite.clients(line.reader.group)?) };
        let ring = rings.clients.get_mut(&line.client)?;
        Some(Offered { ring, client: line.client, clients })
    }

    /// Puts a lite topic into the rings of those who may take from it, if it has something to give.
    pub fn look(&mut self, state: &State, waiters: &Waiters<Ask>, reader: Reader, queue: u32, now_ms: u64) {
        if self.groups.contains_key(&reader) && is_ready_in(state, reader, queue, now_ms) {
            self.offer(state, waiters, reader, queue);
        }
    }

    /// The same when a message has just come into it. Only the first one that is unfinished counts:
    /// with others before it the lite topic is in all rings already, or in somebody's hands.
    pub fn arrived(&mut self, state: &State, waiters: &Waiters<Ask>, topic: u32, queue: u32) {
        let Some(topic) = state.topics.get(topic) else { return };
        let end = topic.queues.get(queue as usize).map_or(0, |queue| queue.end);
        for &group in &topic.readers {
            let reader = Reader { group, topic: topic.settings.id };
            let cursor = state.pop.get(reader).and_then(|s| s.cursors.get(queue));
            if cursor.is_some_and(|cursor| cursor.rows.is_empty() && cursor.fetch + 1 >= end) {
                self.offer(state, waiters, reader, queue);
            }
        }
    }

    /// Looks at lite topics with rows that became due.
    pub fn look_at_due(&mut self, state: &State, waiters: &Waiters<Ask>, reader: Reader, now_ms: u64) {
        let Some(rings) = self.groups.get_mut(&reader) else { return };
        let Some(subscription) = state.pop.get(reader) else { return };
        let mut queues: Vec<u32> = subscription.due_after(rings.looked_to, now_ms).map(|(_, queue, _)| queue).collect();
        rings.looked_to = just_before(now_ms);
        queues.sort_unstable();
        queues.dedup();
        for queue in queues {
            self.look(state, waiters, reader, queue, now_ms);
        }
    }

    /// The group's settings have changed: what was dead may be due.
    pub fn look_again(&mut self, group: u32) {
        for (_, rings) in self.groups.iter_mut().filter(|(reader, _)| reader.group == group) {
            rings.looked_to = Due::default();
        }
    }

    /// What a client consumes has changed.
    pub fn subscribed(
        &mut self,
        state: &State,
        waiters: &Waiters<Ask>,
        reader: Reader,
        event: &LiteSubscribed,
        now_ms: u64,
    ) {
        let client = hash64(event.client.as_bytes());
        let is_known = state.lite.clients(reader.group).is_some_and(|clients| clients.get(client).is_some());
        if !is_known && let Some(rings) = self.groups.get_mut(&reader) {
            rings.clients.remove(&client);
        }
        for queue in &event.added {
            self.look(state, waiters, reader, *queue, now_ms);
        }
        let line = Line { reader, client };
        if !event.added.is_empty() && waiters.has_some(line) {
            self.runnable.add(line); // its first subscription: it has no ring yet
        }
    }

    pub fn forget(&mut self, which: impl Fn(Reader) -> bool) {
        self.groups.retain(|reader, _| !which(*reader));
    }

    fn offer(&mut self, state: &State, waiters: &Waiters<Ask>, reader: Reader, queue: u32) {
        let Some(rings) = self.groups.get_mut(&reader) else { return };
        self.turn = self.turn.wrapping_add(TURN);
        let clients = state.lite.clients(reader.group).filter(|_| !rings.reads_all);
        let subscribers = clients.into_iter().flat_map(|clients| clients.subscribers(queue, self.turn));
        for client in subscribers.chain(rings.reads_all.then_some(0)) {
            let Some(ring) = rings.clients.get_mut(&client) else { continue };
            ring.add(queue);
            let line = Line { reader, client };
            if waiters.has_some(line) {
                self.runnable.add(line);
            }
        }
    }
}

impl Machine {
    /// Gives a client that polls for the first time a ring with all it may take from.
    pub(in super::super) fn open_ring(&mut self, line: Line) -> Result<(), Error> {
        let Line { reader, client } = line;
        let rings = self.lite.dispatch.groups.get(&reader);
        if rings.is_some_and(|rings| rings.clients.contains_key(&client)) {
            return Ok(());
        }
        let reads_all = client == 0;
        let queues: Vec<u32> = if reads_all {
            self.start_reading_all(reader)?;
            self.state
                .lite
                .names(reader.topic)
                .into_iter()
                .flat_map(|names| names.iter().map(|(queue, _)| queue))
                .collect()
        } else {
            let clients = self.state.lite.clients(reader.group);
            let Some(known) = clients.and_then(|clients| clients.get(client)) else { return Ok(()) };
            known.queues.iter().copied().collect()
        };
        let mut ring = Ring::default();
        for queue in queues {
            if is_ready_in(&self.state, reader, queue, self.now_ms) {
                ring.add(queue);
            }
        }
        let new = || Rings { reads_all, looked_to: just_before(self.now_ms), ..Rings::default() };
        self.lite.dispatch.groups.entry(reader).or_insert_with(new).clients.insert(client, ring);
        Ok(())
    }

    /// Puts a group that consumes all lite topics into those that it has no place in. Without any it
    /// becomes a reader all the same: the first one to come gives it a place.
    fn start_reading_all(&mut self, reader: Reader) -> Result<(), Error> {
        let subscription = self.state.pop.get(reader);
        let has_place = |queue: u32| subscription.is_some_and(|s| s.cursors.get(queue).is_some());
        let names = self.state.lite.names(reader.topic).into_iter();
        let queues = names.flat_map(|names| names.iter().map(|(queue, _)| queue));
        let missing: Vec<u32> = queues.filter(|queue| !has_place(*queue)).collect();
        if missing.is_empty() && subscription.is_none() {
            self.make_room(POSITION_BYTES)?;
            let (group, topic) = (reader.group, reader.topic);
            self.commit(Event::CursorsSet(CursorsSet { group, topic, positions: Vec::new() }));
        }
        for queues in missing.chunks(POSITIONS_MAX) {
            let mut positions = Vec::with_capacity(queues.len());
            for &queue in queues {
                positions.push(Position { queue, offset: self.first_offset(reader.topic, queue)? });
            }
            self.make_room(positions.len() * POSITION_BYTES)?;
            self.commit(Event::CursorsSet(CursorsSet { group: reader.group, topic: reader.topic, positions }));
        }
        Ok(())
    }
}

/// Whether a group can be given something of a lite topic now.
fn is_ready_in(state: &State, reader: Reader, queue: u32, now_ms: u64) -> bool {
    let ends = state.topics.get(reader.topic).and_then(|topic| topic.queues.get(queue as usize));
    let subscription = state.pop.get(reader);
    subscription.zip(ends).is_some_and(|(subscription, ends)| is_ready(subscription, queue, ends.end, now_ms))
}

/// Behind everything due before this millisecond: more may become due within it.
fn just_before(now_ms: u64) -> Due {
    (now_ms.saturating_sub(1), u32::MAX, u64::MAX)
}
