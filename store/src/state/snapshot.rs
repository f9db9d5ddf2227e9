//! Derived state written out and read back. What a snapshot holds and the records after it give
//! the same state as all records from the beginning.

use std::collections::HashMap;

use centaur_apis::{
    log::{AttemptState, CursorState, HandleKey, Snapshot, SubscriptionState, TopicState},
    units::Lsn,
};

use super::{
    State,
    cursors::Cursors,
    lite::Lite,
    offsets,
    pop::{Cursor, Granted, Hold, Reader, Row, Rules, Subscription},
    redriven::RedrivenOffsets,
    timers::Timers,
    topics::{Queue, Topic},
};

const BACKING_OFF: u32 = 1;
const SESSION_BOUND: u32 = 2;
const PASSED: u32 = 4;

impl State {
    /// The state as it is at `at`, without the index.
    pub fn to_snapshot(&self, at: Lsn) -> Snapshot {
        let key = |(id, known): (&u8, &super::HandleKey)| HandleKey {
            id: u32::from(*id),
            key: known.key.to_vec().into(),
            since_lsn: known.since.0,
        };
        Snapshot {
            at_lsn: at.0,
            start_lsn: self.start.0,
            topics: self.topics.after("").map(topic_state).collect(),
            last_topic_id: self.topics.last_id(),
            groups: self.groups.after("").cloned().collect(),
            last_group_id: self.groups.last_id(),
            handle_keys: self.handle_keys.iter().map(key).collect(),
            subscriptions: self
                .pop
                .all()
                .map(|(reader, subscription)| subscription_state(reader, subscription))
                .collect(),
            transactions: self.transactions.undecided().copied().collect(),
            redriven: self.redriven.to_snapshot(),
            timers: Some(self.timers.to_snapshot()),
            lite_topics: self.lite.topics_to_snapshot(),
            lite_clients: self.lite.clients_to_snapshot(),
        }
    }

    /// The state a snapshot describes; its index is empty.
    pub fn from_snapshot(snapshot: Snapshot) -> Self {
        let mut state = Self { start: Lsn(snapshot.start_lsn), ..Self::default() };
        for saved in &snapshot.topics {
            let Some(settings) = &saved.topic else { continue };
            state.topics.set(settings);
            let Some(topic) = state.topics.get_mut(settings.id) else { continue };
            let columns = saved.starts.iter().zip(&saved.ends).zip(&saved.last_stored_ms);
            topic.queues =
                columns.map(|((&start, &end), &last_stored_ms)| Queue { start, end, last_stored_ms }).collect();
        }
        state.topics.reserve_ids(snapshot.last_topic_id);
        state.lite = Lite::from_snapshot(snapshot.lite_topics, snapshot.lite_clients);
        snapshot.groups.iter().for_each(|group| state.groups.set(group));
        state.groups.reserve_ids(snapshot.last_group_id);
        state.timers = snapshot.timers.as_ref().map(Timers::from_snapshot).unwrap_or_default();
        snapshot.handle_keys.iter().for_each(|key| state.set_handle_key(key, Lsn(key.since_lsn)));
        state.transactions.restore(snapshot.transactions);
        state.redriven = RedrivenOffsets::from_snapshot(&snapshot.redriven);
        for saved in snapshot.subscriptions {
            if let Some(topic) = state.topics.get_mut(saved.topic) {
                topic.readers.insert(saved.group);
                let reader = Reader { group: saved.group, topic: saved.topic };
                let rules = state.groups.get(saved.group).map(Rules::of).unwrap_or_default();
                state.pop.restore(reader, subscription(&saved, rules, topic.is_lite()));
            }
        }
        state
    }
}

fn topic_state(topic: &Topic) -> TopicState {
    TopicState {
        topic: Some(topic.settings.clone()),
        starts: topic.queues.iter().map(|queue| queue.start).collect(),
        ends: topic.queues.iter().map(|queue| queue.end).collect(),
        last_stored_ms: topic.queues.iter().map(|queue| queue.last_stored_ms).collect(),
    }
}

fn subscription_state(reader: Reader, subscription: &Subscription) -> SubscriptionState {
    let attempt = |(attempt, granted): (u64, &[Granted])| AttemptState {
        attempt,
        queues: granted.iter().map(|g| g.queue).collect(),
        offsets: granted.iter().map(|g| g.offset).collect(),
        generations: granted.iter().map(|g| g.generation).collect(),
    };
    SubscriptionState {
        group: reader.group,
        topic: reader.topic,
        cursors: subscription
            .cursors
            .iter()
            .map(|(queue, cursor)| cursor_state(cursor, |offset| subscription.fifo()?.hash(queue, offset)))
            .collect(),
        queues: match &subscription.cursors {
            Cursors::All(_) => Vec::new(),
            Cursors::Some(cursors) => cursors.keys().copied().collect(),
        },
        attempts: subscription.attempts().map(attempt).collect(),
        expired_unconsumed: subscription.expired_unconsumed,
    }
}

fn cursor_state(cursor: &Cursor, hash: impl Fn(u64) -> Option<u64>) -> CursorState {
    let flags = |row: &Row| {
        let hold = match row.hold {
            Hold::Leased => 0,
            Hold::BackingOff => BACKING_OFF,
            Hold::Passed => PASSED,
        };
        hold + u32::from(row.session_bound) * SESSION_BOUND
    };
    let rows = || cursor.rows.values();
    CursorState {
        epoch: cursor.epoch,
        fetch: cursor.fetch,
        offsets: offsets::pack(cursor.rows.keys().copied()),
        generations: rows().map(|row| row.generation).collect(),
        deliveries: rows().map(|row| u32::from(row.deliveries)).collect(),
        visible_at_ms: rows().map(|row| row.visible_at_ms).collect(),
        clients: rows().map(|row| row.client).collect(),
        flags: rows().map(flags).collect(),
        keys: cursor.rows.keys().filter_map(|offset| hash(*offset)).collect(),
    }
}

fn subscription(saved: &SubscriptionState, rules: Rules, is_lite: bool) -> Subscription {
    let all = if is_lite { 0..0 } else { 0..u32::MAX };
    let queues = || all.clone().chain(saved.queues.iter().copied());
    let hashes = queues().zip(&saved.cursors).flat_map(|(queue, cursor)| {
        let offsets = offsets::unpack(&cursor.offsets).map(move |offset| (queue, offset));
        offsets.zip(cursor.keys.iter().copied())
    });
    let hashes: HashMap<(u32, u64), u64> = hashes.collect();
    let cursors = saved.cursors.iter().map(cursor);
    let cursors = match is_lite {
        true => Cursors::Some(queues().zip(cursors).collect()),
        false => Cursors::All(cursors.collect()),
    };
    let mut subscription = Subscription::restored(rules, cursors, &hashes);
    subscription.expired_unconsumed = saved.expired_unconsumed;
    for (attempt, granted) in saved.attempts.iter().map(attempt) {
        subscription.remember(attempt, granted);
    }
    subscription
}

fn cursor(saved: &CursorState) -> Cursor {
    // Columns have a value for each row; one that is short was not written by us.
    let row = |(at, offset): (usize, u64)| {
        let flags = *saved.flags.get(at)?;
        let row = Row {
            visible_at_ms: *saved.visible_at_ms.get(at)?,
            client: *saved.clients.get(at)?,
            generation: *saved.generations.get(at)?,
            deliveries: u16::try_from(*saved.deliveries.get(at)?).unwrap_or(u16::MAX),
            hold: match flags & (BACKING_OFF | PASSED) {
                0 => Hold::Leased,
                PASSED => Hold::Passed,
                _ => Hold::BackingOff,
            },
            session_bound: flags & SESSION_BOUND != 0,
        };
        Some((offset, row))
    };
    let rows = offsets::unpack(&saved.offsets).enumerate().filter_map(row).collect();
    Cursor { epoch: saved.epoch, fetch: saved.fetch, rows }
}

fn attempt(saved: &AttemptState) -> (u64, Vec<Granted>) {
    let columns = saved.queues.iter().zip(&saved.offsets).zip(&saved.generations);
    let granted = columns.map(|((&queue, &offset), &generation)| Granted { queue, offset, generation });
    (saved.attempt, granted.collect())
}
