//! Judges what a client of a lite group gets.

use std::collections::{BTreeMap, BTreeSet};

use centaur_apis::store::Delivery;

use super::LITE;
use crate::reference::{Ask, Reference, pop::fresh};

impl Reference {
    /// Queues that a poll may be served from; none: all.
    pub(in crate::reference) fn offered(&self, ask: &Ask) -> Option<BTreeSet<u32>> {
        if ask.reader.1 != LITE {
            return None;
        }
        let lite_topics = &self.topics[LITE].lite_topics;
        let reads_all = self.groups.get(&ask.reader.0).is_some_and(|group| group.reads_all());
        let names = self.names_of(&(ask.reader.0.clone(), ask.client.clone()));
        let its_own = lite_topics.iter().filter(|(name, _)| reads_all || names.contains(*name));
        Some(its_own.map(|(_, lite)| lite.queue).collect())
    }

    /// A lite topic that a poll may be served from and of which nothing is in hand; none if the group
    /// begins to consume others with this poll.
    pub fn idle_lite_topic(&self, ask: &Ask) -> Option<String> {
        let lite_topics = &self.topics.get(LITE)?.lite_topics;
        let offered = self.offered(ask)?;
        let cursors = &self.subscriptions.get(&ask.reader)?.cursors;
        if offered.iter().any(|queue| !cursors.contains_key(queue)) {
            return None;
        }
        let is_idle = |queue: &u32| offered.contains(queue) && cursors[queue].rows.is_empty();
        lite_topics.iter().find(|(_, lite)| is_idle(&lite.queue)).map(|(name, _)| name.clone())
    }

    /// A group that consumes all lite topics has a place in each from its first poll on.
    pub(in crate::reference) fn start_reading_all(&mut self, ask: &Ask) {
        if !self.groups[&ask.reader.0].reads_all() {
            return;
        }
        self.subscriptions.entry(ask.reader.clone()).or_default();
        let known: Vec<(String, u32)> =
            self.topics[LITE].lite_topics.iter().map(|(name, lite)| (name.clone(), lite.queue)).collect();
        for (name, queue) in known {
            if !self.subscriptions[&ask.reader].cursors.contains_key(&queue) {
                self.put_at(&ask.reader, queue, self.first_place(&name));
            }
        }
    }

    /// Judges an answer to a client of a lite group and takes it over. `fetches` is how far the
    /// group was seen to be afterwards in lite topics with something unfinished.
    pub fn deliver_lite(&mut self, ask: &Ask, answer: &[Delivery], fetches: &BTreeMap<u32, u64>) {
        self.start_reading_all(ask);
        if !self.subscriptions.contains_key(&ask.reader) {
            assert!(answer.is_empty(), "nobody of the group is subscribed to anything");
            return;
        }
        answer.iter().for_each(|delivery| self.check_content(&ask.reader, delivery));
        if self.is_repeated(ask, answer) {
            return;
        }
        let offered = self.offered(ask).expect("a poll of lite topics");
        for delivery in answer {
            assert!(offered.contains(&delivery.queue), "queue {} is not {}'s", delivery.queue, ask.client);
        }
        let is_cut = self.settle_expired(ask);
        self.check_amount(ask, answer, is_cut);
        self.check_order(ask, answer, 0);
        self.check_all_is_given(ask, answer);
        self.take_fresh_of_lite_topics(ask, answer, fetches);
        self.take_leases(ask, answer);
    }

    /// While there is room, all that a client may have of a lite topic is given.
    fn check_all_is_given(&self, ask: &Ask, answer: &[Delivery]) {
        if ask.bytes != u64::MAX || answer.len() == ask.messages {
            return;
        }
        for ((queue, _), line) in self.lines_for(ask) {
            let all: Vec<u64> = line.rows.into_iter().chain(line.fresh).collect();
            let given: Vec<u64> = answer.iter().filter(|d| d.queue == queue).map(|d| d.offset).collect();
            assert_eq!(given, all, "of queue {queue}");
        }
    }

    /// Nothing is passed over but what is of no use any more.
    fn take_fresh_of_lite_topics(&mut self, ask: &Ask, answer: &[Delivery], fetches: &BTreeMap<u32, u64>) {
        let offered = self.offered(ask).expect("a poll of lite topics");
        let topic = &self.topics[LITE];
        let wanted = topic.wanted(ask, self.now_ms);
        let subscription = self.subscriptions.get_mut(&ask.reader).expect("it reads");
        for (&number, cursor) in &mut subscription.cursors {
            let queue = &topic.queues[number as usize];
            let to = fetches.get(&number).copied().unwrap_or(queue.end());
            assert!(cursor.fetch <= to && to <= queue.end(), "queue {number} went from {} to {to}", cursor.fetch);
            assert!(offered.contains(&number) || cursor.fetch == to, "queue {number} is not {}'s", ask.client);
            let mut passed = fresh(queue, cursor.fetch, &wanted);
            passed.retain(|offset| *offset < to);
            let given = answer.iter().filter(|d| d.queue == number && d.offset >= cursor.fetch);
            assert_eq!(given.map(|d| d.offset).collect::<Vec<_>>(), passed, "of queue {number}, up to {to}");
            cursor.fetch = to;
        }
    }
}
