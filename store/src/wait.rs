//! Polls that found nothing: parked until there is something for them, their deadline passes or
//! their caller goes away.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use crate::state::pop::Reader;

/// Parked polls of one subscription.
pub const SUBSCRIPTION_WAITERS_MAX: usize = 32_768;
/// Parked polls in all.
pub const WAITERS_MAX: usize = 200_000;

/// Identifies one parked poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// One parked poll; `T` is what it asked for and how to answer it.
#[derive(Debug)]
struct Waiter<T> {
    reader: Reader,
    deadline_ms: u64,
    /// Gone while the poll is being served.
    ask: Option<T>,
}

/// Every parked poll, in order of arrival within its subscription.
#[derive(Debug)]
pub struct Waiters<T> {
    all: HashMap<WaiterId, Waiter<T>>,
    by_reader: HashMap<Reader, VecDeque<WaiterId>>,
    by_topic: HashMap<u32, HashSet<Reader>>,
    deadlines: BTreeSet<(u64, WaiterId)>,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self { all: HashMap::new(), by_reader: HashMap::new(), by_topic: HashMap::new(), deadlines: BTreeSet::new() }
    }
}

impl<T> Waiters<T> {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn of(&self, reader: Reader) -> usize {
        self.by_reader.get(&reader).map_or(0, VecDeque::len)
    }

    /// Whether there is room for one more poll of this subscription.
    pub fn has_room(&self, reader: Reader) -> bool {
        self.all.len() < WAITERS_MAX && self.of(reader) < SUBSCRIPTION_WAITERS_MAX
    }

    /// Parks a poll behind those that wait already.
    pub fn park(&mut self, id: WaiterId, reader: Reader, deadline_ms: u64, ask: T) {
        self.all.insert(id, Waiter { reader, deadline_ms, ask: Some(ask) });
        self.by_reader.entry(reader).or_default().push_back(id);
        self.by_topic.entry(reader.topic).or_default().insert(reader);
        self.deadlines.insert((deadline_ms, id));
    }

    /// Takes one poll out, if it is still there.
    pub fn remove(&mut self, id: WaiterId) -> Option<T> {
        let waiter = self.all.remove(&id)?;
        self.deadlines.remove(&(waiter.deadline_ms, id));
        if let Some(queue) = self.by_reader.get_mut(&waiter.reader) {
            // Polls mostly leave from the front; elsewhere the rest is short.
            if queue.front() == Some(&id) {
                queue.pop_front();
            } else {
                queue.retain(|other| *other != id);
            }
            if queue.is_empty() {
                self.forget(waiter.reader);
            }
        }
        waiter.ask
    }

    /// Takes what the poll that has waited longest in a subscription asks for; it keeps its place
    /// until it is removed, or gets its question back.
    pub fn take_first(&mut self, reader: Reader) -> Option<(WaiterId, T)> {
        let id = *self.by_reader.get(&reader)?.front()?;
        let ask = self.all.get_mut(&id)?.ask.take()?;
        Some((id, ask))
    }

    /// Gives a poll its question back: it goes on waiting.
    pub fn put_back(&mut self, id: WaiterId, ask: T) {
        if let Some(waiter) = self.all.get_mut(&id) {
            waiter.ask = Some(ask);
        }
    }

    /// Subscriptions of a topic that have a poll waiting.
    pub fn readers_of(&self, topic: u32) -> impl Iterator<Item = Reader> {
        self.by_topic.get(&topic).into_iter().flatten().copied()
    }

    /// When the next poll gives up.
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Takes a poll whose deadline has passed.
    pub fn take_expired(&mut self, now_ms: u64) -> Option<T> {
        let (at, id) = *self.deadlines.first()?;
        if at <= now_ms { self.remove(id) } else { None }
    }

    /// Takes every poll of the subscriptions that `which` names.
    pub fn take_where(&mut self, which: impl Fn(Reader) -> bool) -> Vec<T> {
        let ids: Vec<WaiterId> =
            self.all.iter().filter(|(_, waiter)| which(waiter.reader)).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    fn forget(&mut self, reader: Reader) {
        self.by_reader.remove(&reader);
        if let Some(readers) = self.by_topic.get_mut(&reader.topic) {
            readers.remove(&reader);
            if readers.is_empty() {
                self.by_topic.remove(&reader.topic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READER: Reader = Reader { group: 1, topic: 2 };

    #[test]
    fn polls_are_served_in_order_of_arrival() {
        let mut waiters = Waiters::default();
        for n in 0..3 {
            waiters.park(WaiterId(n), READER, 100 - n, n);
        }
        assert_eq!(waiters.take_first(READER), Some((WaiterId(0), 0)));
        waiters.put_back(WaiterId(0), 0);
        assert_eq!(waiters.remove(WaiterId(1)), Some(1));
        assert_eq!(waiters.remove(WaiterId(0)), Some(0));
        assert_eq!(waiters.take_first(READER), Some((WaiterId(2), 2)));
        waiters.put_back(WaiterId(2), 2);
        assert_eq!(waiters.readers_of(2).collect::<Vec<_>>(), [READER]);
        assert_eq!(waiters.remove(WaiterId(2)), Some(2));
        assert_eq!((waiters.len(), waiters.readers_of(2).count()), (0, 0));
    }

    #[test]
    fn the_earliest_deadline_is_taken_first_and_not_too_soon() {
        let mut waiters = Waiters::default();
        waiters.park(WaiterId(1), READER, 20, "late");
        waiters.park(WaiterId(2), READER, 10, "early");
        assert_eq!(waiters.next_deadline(), Some(10));
        assert_eq!(waiters.take_expired(9), None);
        assert_eq!(waiters.take_expired(10), Some("early"));
        assert_eq!(waiters.take_expired(19), None);
    }
}
