//! Half messages: stored, and not visible before their transaction is committed. One row for each
//! undecided transaction, about 250 bytes with its places in the orders below. What was decided is in
//! the log, and found through the index.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Bound, Range},
};

use centaur_apis::{
    fields::{self, system},
    hash64,
    log::{TransactionChecked, TransactionEnded, TransactionState},
    units::Lsn,
};

use crate::log::record::{Message, Place};

/// Every undecided transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transactions {
    /// By LSN of the half message, as a snapshot has them. `next_check_ms` of a discarded one is when
    /// it is rolled back, should nobody decide.
    undecided: BTreeMap<Lsn, TransactionState>,
    topics: BTreeMap<u32, OfTopic>,
    /// Discarded ones by the time they are rolled back.
    discarded: BTreeSet<(u64, Lsn)>,
}

/// The undecided transactions of one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OfTopic {
    all: BTreeSet<Lsn>,
    /// By hash of the message id.
    ids: BTreeSet<(u64, Lsn)>,
    /// By the time their producer is asked.
    checks: BTreeSet<(u64, Lsn)>,
    discarded: BTreeSet<Lsn>,
}

impl Transactions {
    /// A half message was stored.
    pub fn begin(&mut self, lsn: Lsn, length: u32, message: &Message) {
        let Place::Half(next_check_ms) = message.place else { return };
        self.insert(TransactionState {
            lsn: lsn.0,
            length,
            topic: message.topic,
            queue: message.queue,
            tag_hash: message.tag_hash,
            group_hash: message.group_hash,
            has_ttl: message.ttl_ms > 0,
            id_hash: id_hash(fields::text(&message.properties, system::MESSAGE_ID).unwrap_or_default()),
            stored_ms: message.stored_ms,
            checks: 0,
            next_check_ms,
            discarded: false,
        });
    }

    pub fn end(&mut self, event: &TransactionEnded) {
        self.remove(Lsn(event.lsn));
    }

    pub fn check(&mut self, event: &TransactionChecked) {
        let Some(row) = self.remove(Lsn(event.lsn)) else { return };
        let TransactionChecked { checks, next_check_ms, discarded, .. } = *event;
        self.insert(TransactionState { checks, next_check_ms, discarded, ..row });
    }

    /// Forgets the undecided transactions of a topic that is gone.
    pub fn delete_topic(&mut self, topic: u32) {
        let gone = self.topics.get(&topic).map(|of_topic| of_topic.all.clone()).unwrap_or_default();
        for lsn in gone {
            self.remove(lsn);
        }
    }

    /// The undecided transaction of a half message.
    pub fn get(&self, lsn: Lsn) -> Option<&TransactionState> {
        self.undecided.get(&lsn)
    }

    /// The newest undecided transaction of a message with this id.
    pub fn with_id(&self, topic: u32, message_id: &str) -> Option<&TransactionState> {
        let hash = id_hash(message_id);
        let ids = &self.topics.get(&topic)?.ids;
        let (_, lsn) = ids.range((hash, Lsn(0))..=(hash, Lsn(u64::MAX))).next_back()?;
        self.get(*lsn)
    }

    /// Transactions of a topic whose producer is to be asked by now, the one due longest first.
    pub fn due(&self, topic: u32, now_ms: u64) -> impl Iterator<Item = &TransactionState> {
        let checks = self.topics.get(&topic).map(|of_topic| of_topic.checks.range(..=(now_ms, Lsn(u64::MAX))));
        checks.into_iter().flatten().filter_map(|(_, lsn)| self.get(*lsn))
    }

    /// Topics with such transactions.
    pub fn due_topics(&self, now_ms: u64) -> impl Iterator<Item = u32> {
        let is_due = move |of_topic: &OfTopic| of_topic.checks.first().is_some_and(|(at, _)| *at <= now_ms);
        self.topics.iter().filter(move |(_, of_topic)| is_due(of_topic)).map(|(topic, _)| *topic)
    }

    /// The discarded transaction that is rolled back next, and when, ms.
    pub fn next_dropped(&self) -> Option<(u64, &TransactionState)> {
        let (at, lsn) = self.discarded.first()?;
        Some((*at, self.get(*lsn)?))
    }

    /// The oldest undecided transactions behind a place, of one topic or of all.
    pub fn oldest(&self, topic: Option<u32>, discarded_only: bool, after: Lsn, limit: usize) -> Vec<&TransactionState> {
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        let wanted = |of_topic| Self::lsns(of_topic, discarded_only).range(behind).take(limit).copied();
        let mut lsns: Vec<Lsn> = self.of_topics(topic).flat_map(wanted).collect();
        lsns.sort_unstable();
        lsns.into_iter().take(limit).filter_map(|lsn| self.get(lsn)).collect()
    }

    /// How many there are of those.
    pub fn count(&self, topic: Option<u32>, discarded_only: bool) -> usize {
        self.of_topics(topic).map(|of_topic| Self::lsns(of_topic, discarded_only).len()).sum()
    }

    /// Every undecided transaction, by LSN: part of a snapshot. Their records have to stay readable.
    pub fn undecided(&self) -> impl Iterator<Item = &TransactionState> {
        self.undecided.values()
    }

    /// Undecided ones whose half messages lie in `lsns`, and the lengths of their records.
    pub fn undecided_in(&self, lsns: Range<Lsn>) -> impl Iterator<Item = (Lsn, u32)> {
        self.undecided.range(lsns).map(|(lsn, row)| (*lsn, row.length))
    }

    /// Takes transactions back from a snapshot.
    pub fn restore(&mut self, undecided: Vec<TransactionState>) {
        undecided.into_iter().for_each(|row| self.insert(row));
    }

    fn of_topics(&self, topic: Option<u32>) -> impl Iterator<Item = &OfTopic> {
        let range = topic.map_or(0..=u32::MAX, |topic| topic..=topic);
        self.topics.range(range).map(|(_, of_topic)| of_topic)
    }

    fn lsns(of_topic: &OfTopic, discarded_only: bool) -> &BTreeSet<Lsn> {
        if discarded_only { &of_topic.discarded } else { &of_topic.all }
    }

    fn insert(&mut self, row: TransactionState) {
        let lsn = Lsn(row.lsn);
        let of_topic = self.topics.entry(row.topic).or_default();
        of_topic.all.insert(lsn);
        of_topic.ids.insert((row.id_hash, lsn));
        if row.discarded {
            of_topic.discarded.insert(lsn);
            self.discarded.insert((row.next_check_ms, lsn));
        } else {
            of_topic.checks.insert((row.next_check_ms, lsn));
        }
        self.undecided.insert(lsn, row);
    }

    fn remove(&mut self, lsn: Lsn) -> Option<TransactionState> {
        let row = self.undecided.remove(&lsn)?;
        self.discarded.remove(&(row.next_check_ms, lsn));
        let of_topic = self.topics.get_mut(&row.topic)?;
        of_topic.all.remove(&lsn);
        of_topic.ids.remove(&(row.id_hash, lsn));
        of_topic.checks.remove(&(row.next_check_ms, lsn));
        of_topic.discarded.remove(&lsn);
        if of_topic.all.is_empty() {
            self.topics.remove(&row.topic);
        }
        Some(row)
    }
}

fn id_hash(message_id: &str) -> u64 {
    hash64(message_id.as_bytes())
}

#[cfg(test)]
mod tests {
    use centaur_apis::{log::Resolution, v2};
    use prost::Message as _;

    use super::*;

    fn half(topic: u32, id: &str, next_check_ms: u64) -> Message {
        let properties = v2::SystemProperties { message_id: id.to_owned(), ..Default::default() };
        let encoded = properties.encode_to_vec().into();
        Message::new(topic, 0, Place::Half(next_check_ms), 1, "".into(), encoded, "body".into())
    }

    fn ended(lsn: u64, resolution: Resolution) -> TransactionEnded {
        TransactionEnded { lsn, resolution: resolution.into(), ..Default::default() }
    }

    fn lsns<'a>(rows: impl IntoIterator<Item = &'a TransactionState>) -> Vec<u64> {
        rows.into_iter().map(|row| row.lsn).collect()
    }

    fn three() -> Transactions {
        let mut transactions = Transactions::default();
        for (lsn, topic, id, next_check_ms) in [(8, 1, "a", 30), (16, 2, "b", 10), (24, 1, "c", 20)] {
            transactions.begin(Lsn(lsn), 64, &half(topic, id, next_check_ms));
        }
        transactions
    }

    #[test]
    fn those_due_longest_come_first_and_only_when_due() {
        let transactions = three();
        assert_eq!(lsns(transactions.due(1, 19)), []);
        assert_eq!(lsns(transactions.due(1, 20)), [24]);
        assert_eq!(lsns(transactions.due(1, 99)), [24, 8]);
        assert_eq!(transactions.due_topics(10).collect::<Vec<_>>(), [2]);
        assert_eq!(transactions.due_topics(20).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn one_that_was_discarded_is_not_asked_about_and_waits_to_be_dropped() {
        let mut transactions = three();
        transactions.check(&TransactionChecked { lsn: 24, checks: 3, next_check_ms: 500, discarded: true });
        assert_eq!(lsns(transactions.due(1, 999)), [8]);
        assert_eq!(transactions.next_dropped().map(|(at, row)| (at, row.lsn, row.checks)), Some((500, 24, 3)));
        assert_eq!(lsns(transactions.oldest(None, true, Lsn(0), 9)), [24]);
        assert_eq!((transactions.count(None, true), transactions.count(None, false)), (1, 3));
        transactions.end(&ended(24, Resolution::RolledBack));
        assert_eq!(transactions.next_dropped(), None);
        assert_eq!(lsns(transactions.oldest(Some(1), false, Lsn(0), 9)), [8]);
        assert_eq!(lsns(transactions.oldest(None, false, Lsn(8), 9)), [16]);
    }

    #[test]
    fn the_transactions_of_a_deleted_topic_go_with_it() {
        let mut transactions = three();
        transactions.check(&TransactionChecked { lsn: 24, checks: 3, next_check_ms: 500, discarded: true });
        transactions.delete_topic(1);
        assert_eq!(lsns(transactions.undecided()), [16]);
        assert_eq!(transactions.next_dropped(), None);
        assert_eq!(transactions.due_topics(u64::MAX).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_snapshot_gives_the_same_again() {
        let mut transactions = three();
        transactions.check(&TransactionChecked { lsn: 24, checks: 3, next_check_ms: 500, discarded: true });
        transactions.end(&ended(16, Resolution::Committed));
        let mut again = Transactions::default();
        again.restore(transactions.undecided().copied().collect());
        assert_eq!(again, transactions);
    }
}
