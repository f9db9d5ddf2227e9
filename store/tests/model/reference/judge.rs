//! Judges what the store delivers, and takes it over.

use std::collections::{BTreeMap, BTreeSet};

use centaur_apis::{receipt_handle::ReceiptHandle, store::Delivery};

use crate::harness::message_id;

use super::{
    Ask, Reader, Reference, check_same,
    pop::{INVISIBLE_MS_MAX, Key, Lease, Line, Row, fresh},
};

/// A lease bound to its client ends after this in any case.
const SESSION_LEASE_MS: u64 = 3 * 3_600_000;

impl Reference {
    /// Judges an answer and takes it over. `fetches` is how far the group was seen to be afterwards; if
    /// that is not exact, retention moved it further.
    pub fn deliver(&mut self, ask: &Ask, answer: &[Delivery], fetches: &[u64], is_exact: bool) {
        self.start_reading(&ask.reader);
        for delivery in answer {
            self.check_content(&ask.reader, delivery);
        }
        if self.is_repeated(ask, answer) {
            return;
        }
        let is_cut = self.settle_expired(ask);
        let mut due = self.due(&ask.reader);
        due.retain(|place| self.is_of_use(&ask.reader, *place));
        let subscription = &self.subscriptions[&ask.reader];
        let has_row = |d: &&Delivery| subscription.cursors[&d.queue].rows.contains_key(&d.offset);
        let (again, first): (Vec<&Delivery>, Vec<&Delivery>) = answer.iter().partition(has_row);

        if is_cut {
            due.truncate(again.len()); // what is left was not looked at
        }
        self.check_amount(ask, answer, is_cut);
        if self.is_fifo(&ask.reader) {
            self.check_order(ask, answer, due.len() - again.len());
            self.check_turns(ask, due.len(), (again.len(), first.len()), fetches, is_exact);
            self.take_fresh_in_order(ask, answer, fetches, is_exact);
        } else {
            let mut expected: Vec<_> = due.iter().take(again.len()).copied().collect();
            expected.sort_unstable();
            let given: Vec<_> = again.iter().map(|d| (d.queue, d.offset)).collect();
            assert_eq!(given, expected, "redeliveries are those due longest, in queue order");
            self.check_turns(ask, due.len(), (again.len(), first.len()), fetches, is_exact);
            self.take_fresh(ask, &first, fetches, is_exact);
            self.check_priorities(ask, &first);
        }
        self.take_leases(ask, answer);
    }

    /// Whether it is the answer that this attempt got before.
    pub(super) fn is_repeated(&self, ask: &Ask, answer: &[Delivery]) -> bool {
        let running = self.running(ask);
        if running.is_empty() {
            return false;
        }
        let again: BTreeSet<_> = answer.iter().map(lease).collect();
        assert_eq!(again, running.into_iter().collect(), "the same attempt gets the same messages");
        assert_eq!(again.len(), answer.len(), "no message comes twice");
        true
    }

    pub(super) fn check_content(&self, reader: &Reader, delivery: &Delivery) {
        let (topic, group) = (&self.topics[&reader.1], &self.groups[&reader.0]);
        let queue = &topic.queues[delivery.queue as usize];
        assert!(delivery.offset < queue.end(), "{} is none of {}", shown(delivery), reader.1);
        let sent = queue.get(delivery.offset);
        check_same(sent, delivery);
        assert_eq!(delivery.stored_ms, sent.stored_ms, "store time of {}", sent.id);
        let handle = ReceiptHandle::peek(&delivery.handle).expect("a handle");
        let cursor = &self.subscriptions[reader].cursors[&delivery.queue];
        assert_eq!((handle.group, handle.topic), (group.id, topic.id));
        assert_eq!((handle.queue, handle.offset, handle.epoch), (delivery.queue, delivery.offset, cursor.epoch));
    }

    /// What of the answer that this attempt got before is still leased.
    fn running(&self, ask: &Ask) -> Vec<Lease> {
        let subscription = &self.subscriptions[&ask.reader];
        let answer = subscription.answers.get(&(ask.client.clone(), ask.attempt.clone()));
        let runs = |lease: &Lease| {
            let row = subscription.cursors.get(&lease.0).and_then(|cursor| cursor.rows.get(&lease.1));
            row.is_some_and(|row| row.generation == lease.2 && row.visible_at_ms > self.now_ms)
        };
        answer.map(|leases| leases.iter().copied().filter(runs).collect()).unwrap_or_default()
    }

    /// As much as there is, or as fits.
    pub(super) fn check_amount(&self, ask: &Ask, answer: &[Delivery], is_cut: bool) {
        let available = self.available(ask);
        assert!(answer.len() <= ask.messages, "{} messages for {}", answer.len(), ask.messages);
        if is_cut {
            return;
        }
        assert_eq!(answer.is_empty(), available == 0, "at least one of {available} messages is given");
        if ask.bytes != u64::MAX {
            let bytes: u64 = answer.iter().map(|d| d.body.len() as u64).sum();
            assert!(answer.len() <= 1 || bytes <= ask.bytes, "{bytes} bytes of {}", ask.bytes);
        } else if !self.is_fifo(&ask.reader) {
            assert_eq!(answer.len(), available.min(ask.messages), "all that is visible is given");
        }
    }

    /// Of each message group nobody holds a message of, the first ones in their order; and no message
    /// group is left out while there is room.
    pub(super) fn check_order(&self, ask: &Ask, answer: &[Delivery], left: usize) {
        let lines = self.lines_for(ask);
        let mut given: BTreeMap<Key, Vec<u64>> = BTreeMap::new();
        for delivery in answer {
            let key = self.key(&ask.reader, delivery.queue, delivery.offset);
            given.entry(key).or_default().push(delivery.offset);
        }
        let nothing = Line::default();
        for (key, offsets) in &given {
            let line = lines.get(key).unwrap_or(&nothing);
            let expected: Vec<u64> = line.rows.iter().chain(&line.fresh).take(offsets.len()).copied().collect();
            assert_eq!(offsets, &expected, "the first of message group {key:?}, in their order");
        }
        if ask.bytes == u64::MAX && answer.len() < ask.messages {
            assert_eq!(left, 0, "what waits is given while there is room");
            for (key, line) in lines.iter().filter(|(_, line)| line.rows.is_empty()) {
                let all = given.get(key).map_or(0, Vec::len) == line.fresh.len();
                assert!(all, "all of message group {key:?} is given: {:?}", line.fresh);
            }
        }
    }

    /// No queue with something fresh is passed over twice, and of five deliveries one is a
    /// redelivery while both wait.
    fn check_turns(&mut self, ask: &Ask, due: usize, (again, first): (usize, usize), fetches: &[u64], is_exact: bool) {
        let has_turns = !self.topics[&ask.reader.1].has_priorities;
        let queues = &self.topics[&ask.reader.1].queues;
        let subscription = self.subscriptions.get_mut(&ask.reader).expect("it reads");
        if ask.bytes != u64::MAX || !is_exact {
            (subscription.owed, subscription.passed) = (0, BTreeMap::new());
            return;
        }
        let waits = again < due;
        subscription.owed = if waits { (subscription.owed + again + first).saturating_sub(5 * again) } else { 0 };
        assert!(subscription.owed < 5, "{} messages were delivered while redeliveries waited", subscription.owed);
        if ask.tags.is_some() || !has_turns {
            subscription.passed.clear();
            return;
        }
        let moved = subscription.cursors.iter().zip(fetches).filter(|((_, cursor), to)| cursor.fetch < **to);
        let served: BTreeSet<u32> = moved.map(|((number, _), _)| *number).collect();
        for (&number, cursor) in &subscription.cursors {
            let queue = &queues[number as usize];
            if served.contains(&number) || cursor.fetch >= queue.end() {
                subscription.passed.remove(&number);
                continue;
            }
            let passed = subscription.passed.entry(number).or_default();
            for other in &served {
                assert!(passed.insert(*other), "queue {other} was served twice while queue {number} waited");
            }
        }
    }

    /// Fresh messages are the first that match, and nothing that matches is passed over.
    fn take_fresh(&mut self, ask: &Ask, first: &[&Delivery], fetches: &[u64], is_exact: bool) {
        let topic = &self.topics[&ask.reader.1];
        let (queues, wanted) = (&topic.queues, topic.wanted(ask, self.now_ms));
        let subscription = self.subscriptions.get_mut(&ask.reader).expect("it reads");
        assert_eq!(fetches.len(), queues.len());
        for (&number, cursor) in &mut subscription.cursors {
            let (queue, to) = (&queues[number as usize], fetches[number as usize]);
            let given: Vec<u64> = first.iter().filter(|d| d.queue == number).map(|d| d.offset).collect();
            assert!(cursor.fetch <= to && to <= queue.end(), "queue {number} went from {} to {to}", cursor.fetch);
            let mut passed = fresh(queue, cursor.fetch, &wanted);
            passed.retain(|offset| *offset < to);
            if !is_exact {
                passed.truncate(given.len());
            }
            assert_eq!(given, passed, "of queue {number}, from {} to {to}", cursor.fetch);
            cursor.fetch = to;
        }
    }

    /// What was passed over of a message group waits for what is before it; nothing else is passed
    /// over.
    fn take_fresh_in_order(&mut self, ask: &Ask, answer: &[Delivery], fetches: &[u64], is_exact: bool) {
        let topic = &self.topics[&ask.reader.1];
        let (queues, wanted) = (&topic.queues, topic.wanted(ask, self.now_ms));
        let lines = self.lines_for(ask);
        let given: BTreeSet<(u32, u64)> = answer.iter().map(|d| (d.queue, d.offset)).collect();
        let subscription = self.subscriptions.get_mut(&ask.reader).expect("it reads");
        assert_eq!(fetches.len(), queues.len());
        for (&number, cursor) in &mut subscription.cursors {
            let (queue, to) = (&queues[number as usize], fetches[number as usize]);
            assert!(cursor.fetch <= to && to <= queue.end(), "queue {number} went from {} to {to}", cursor.fetch);
            for offset in fresh(queue, cursor.fetch, &wanted) {
                let is_given = given.contains(&(number, offset));
                if offset >= to {
                    assert!(!is_given, "{number}/{offset} is beyond {to}");
                } else if !is_given {
                    let line = lines.get(&(number, queue.get(offset).group.clone()));
                    let may_wait = line.is_none_or(|line| !line.rows.is_empty());
                    assert!(may_wait || !is_exact, "{number}/{offset} was passed over");
                    if may_wait {
                        cursor.rows.insert(offset, passed_over());
                    }
                }
            }
            cursor.fetch = to;
        }
    }

    /// While a higher priority has something fresh, no lower one is served, unless a share is for all.
    fn check_priorities(&self, ask: &Ask, first: &[&Delivery]) {
        let topic = &self.topics[&ask.reader.1];
        if !topic.has_priorities || self.groups[&ask.reader.0].shared_percent > 0 {
            return;
        }
        let lowest = first.iter().map(|delivery| delivery.queue).min().unwrap_or(u32::MAX);
        for (&number, cursor) in &self.subscriptions[&ask.reader].cursors {
            let queue = &topic.queues[number as usize];
            let left = fresh(queue, cursor.fetch, &topic.wanted(ask, self.now_ms));
            assert!(number <= lowest || left.is_empty(), "priority {lowest} was served before {number}");
        }
    }

    pub(super) fn take_leases(&mut self, ask: &Ask, answer: &[Delivery]) {
        let span_ms = if ask.session_bound { SESSION_LEASE_MS } else { ask.invisible_ms.min(INVISIBLE_MS_MAX) };
        let visible_at_ms = self.now_ms + span_ms;
        let group = self.groups[&ask.reader.0];
        let attempts_max = if group.is_ordered() && group.blocks { u32::MAX } else { group.max_attempts };
        for delivery in answer {
            let rows = &mut self.cursor(&ask.reader, delivery.queue).rows;
            let before = rows.get(&delivery.offset);
            let row = Row {
                visible_at_ms,
                client: ask.client.clone(),
                generation: before.map_or(1, |row| row.generation + 1),
                deliveries: before.map_or(1, |row| row.deliveries + 1),
                backing_off: false,
                session_bound: ask.session_bound,
            };
            let place = (delivery.queue, delivery.offset);
            assert!(row.deliveries <= attempts_max, "{} attempts of {place:?}", row.deliveries);
            assert_eq!(delivery.attempt, row.deliveries, "attempts of {place:?}");
            assert_eq!(delivery.visible_at_ms, visible_at_ms);
            assert_eq!(lease(delivery).2, row.generation, "generation of {place:?}");
            rows.insert(delivery.offset, row);
        }
        if ask.session_bound && !answer.is_empty() {
            self.seen.insert(ask.client.clone(), self.now_ms);
        }
        if !ask.attempt.is_empty() {
            let subscription = self.subscriptions.get_mut(&ask.reader).expect("it reads");
            let key = (ask.client.clone(), ask.attempt.clone());
            subscription.answers.insert(key, answer.iter().map(lease).collect());
        }
        self.bury_due();
    }
}

/// A message that waits for others of its message group.
fn passed_over() -> Row {
    Row {
        visible_at_ms: 0,
        client: String::new(),
        generation: 0,
        deliveries: 0,
        backing_off: false,
        session_bound: false,
    }
}

fn lease(delivery: &Delivery) -> Lease {
    let handle = ReceiptHandle::peek(&delivery.handle).expect("a handle");
    (delivery.queue, delivery.offset, handle.generation)
}

fn shown(delivery: &Delivery) -> String {
    let Delivery { queue, offset, stored_ms, attempt, .. } = delivery;
    format!("{} at {queue}/{offset} of {stored_ms}, attempt {attempt}", message_id(&delivery.properties))
}
