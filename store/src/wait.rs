//! Polls that found nothing: parked until there is something for them, their deadline passes or
//! their caller goes away.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::state::pop::Reader;

/// Parked polls of one subscription.
pub const SUBSCRIPTION_WAITERS_MAX: usize = 32_768;
/// Parked polls in all.
pub const WAITERS_MAX: usize = 200_000;

/// Identifies one parked poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// Polls that the same messages can be given to: those of one subscription, or in a lite group,
/// whose clients consume different lite topics, those of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line {
    pub reader: Reader,
    /// Hash of the client id; 0 when all clients stand in one line.
    pub client: u64,
}

impl From<Reader> for Line {
    fn from(reader: Reader) -> Self {
        Self { reader, client: 0 }
    }
}

/// One parked poll; `T` is what it asked for and how to answer it.
#[derive(Debug)]
struct Waiter<T> {
    line: Line,
    deadline_ms: u64,
    /// Gone while the poll is being served.
    ask: Option<T>,
}

/// Every parked poll, in order of arrival within its line.
#[derive(Debug)]
pub struct Waiters<T> {
    all: HashMap<WaiterId, Waiter<T>>,
    lines: HashMap<Line, VecDeque<WaiterId>>,
    /// How many there are, by topic and subscription.
    by_topic: HashMap<u32, HashMap<Reader, usize>>,
    deadlines: BTreeSet<(u64, WaiterId)>,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self { all: HashMap::new(), lines: HashMap::new(), by_topic: HashMap::new(), deadlines: BTreeSet::new() }
    }
}

impl<T> Waiters<T> {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn of(&self, reader: Reader) -> usize {
        self.by_topic.get(&reader.topic).and_then(|readers| readers.get(&reader)).copied().unwrap_or_default()
    }

    /// Whether anybody stands in a line.
    pub fn has_some(&self, line: Line) -> bool {
        self.lines.contains_key(&line)
    }

    /// Whether there is room for one more poll of this subscription.
    pub fn has_room(&self, reader: Reader) -> bool {
        self.all.len() < WAITERS_MAX && self.of(reader) < SUBSCRIPTION_WAITERS_MAX
    }

    /// Parks a poll behind those that wait already.
    pub fn park(&mut self, id: WaiterId, line: impl Into<Line>, deadline_ms: u64, ask: T) {
        let line = line.into();
        self.all.insert(id, Waiter { line, deadline_ms, ask: Some(ask) });
        self.lines.entry(line).or_default().push_back(id);
        *self.by_topic.entry(line.reader.topic).or_default().entry(line.reader).or_default() += 1;
        self.deadlines.insert((deadline_ms, id));
    }

    /// Takes one poll out, if it is still there.
    pub fn remove(&mut self, id: WaiterId) -> Option<T> {
        let waiter = self.all.remove(&id)?;
        self.deadlines.remove(&(waiter.deadline_ms, id));
        if let Some(queue) = self.lines.get_mut(&waiter.line) {
            // Polls mostly leave from the front; elsewhere the rest is short.
            if queue.front() == Some(&id) {
                queue.pop_front();
            } else {
                queue.retain(|other| *other != id);
            }
            if queue.is_empty() {
                self.lines.remove(&waiter.line);
            }
        }
        self.count_out(waiter.line.reader);
        waiter.ask
    }

    /// Takes what the poll that has waited longest in a line asks for; it keeps its place until it is
    /// removed, or gets its question back.
    pub fn take_first(&mut self, line: impl Into<Line>) -> Option<(WaiterId, T)> {
        let id = *self.lines.get(&line.into())?.front()?;
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
        self.by_topic.get(&topic).into_iter().flat_map(HashMap::keys).copied()
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
            self.all.iter().filter(|(_, waiter)| which(waiter.line.reader)).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    fn count_out(&mut self, reader: Reader) {
        let Some(readers) = self.by_topic.get_mut(&reader.topic) else { return };
        if let Some(count) = readers.get_mut(&reader) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&reader);
            }
        }
        if readers.is_empty() {
            self.by_topic.remove(&reader.topic);
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
    fn clients_of_a_lite_group_stand_in_lines_of_their_own() {
        let line = |client| Line { reader: READER, client };
        let mut waiters = Waiters::default();
        waiters.park(WaiterId(1), line(7), 100, "seven");
        waiters.park(WaiterId(2), line(8), 100, "eight");
        assert_eq!((waiters.of(READER), waiters.take_first(READER)), (2, None));
        assert_eq!(waiters.take_first(line(8)), Some((WaiterId(2), "eight")));
        waiters.remove(WaiterId(2));
        assert_eq!((waiters.has_some(line(7)), waiters.has_some(line(8))), (true, false));
        assert_eq!(waiters.of(READER), 1);
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
