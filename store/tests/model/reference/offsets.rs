//! Places in queues: asking for one, reading from one, and putting a group at one.

use centaur_apis::store::{ResetQueue, reset_group_request::To};

use super::{LITE, Queue, Reader, Reference};

/// What a reset names.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    Earliest,
    Latest,
    FromMs(u64),
    Offset(u64),
}

/// A reset of a group; a topic that is named exists.
#[derive(Clone, Debug)]
pub struct Reset {
    pub group: String,
    pub topic: Option<String>,
    pub queue: Option<u32>,
    pub target: Target,
    pub strict: bool,
}

impl Target {
    pub fn to_send(self) -> To {
        match self {
            Self::Earliest => To::Earliest(true),
            Self::Latest => To::Latest(true),
            Self::FromMs(ms) => To::FromMs(ms),
            Self::Offset(offset) => To::Offset(offset),
        }
    }

    /// The offset it means in a queue; none if that has no such place.
    pub fn place_in(self, queue: &Queue, strict: bool) -> Option<u64> {
        match self {
            Self::Earliest => Some(queue.start),
            Self::Latest => Some(queue.end()),
            Self::FromMs(ms) => {
                let first = queue.kept().find(|(_, message)| message.stored_ms >= ms);
                Some(first.map_or(queue.end(), |(offset, _)| offset))
            }
            Self::Offset(offset) if strict && !(queue.start..=queue.end()).contains(&offset) => None,
            Self::Offset(offset) => Some(offset.clamp(queue.start, queue.end())),
        }
    }
}

impl Reference {
    /// A group's place in a queue.
    pub fn committed(&self, reader: &Reader, queue: u32) -> Option<u64> {
        let start = self.topics[&reader.1].queues[queue as usize].start;
        Some(self.subscriptions.get(reader)?.cursors.get(&queue)?.floor().max(start))
    }

    /// What a reset does; none if a queue has no such place.
    pub fn moves(&self, reset: &Reset) -> Option<Vec<ResetQueue>> {
        let mut moves = Vec::new();
        for topic in self.topics_to_reset(reset) {
            let subscription = self.subscriptions.get(&(reset.group.clone(), topic.clone()));
            for (number, queue) in (0..).zip(&self.topics[&topic].queues) {
                let cursor = subscription.and_then(|subscription| subscription.cursors.get(&number));
                // Of lite topics, those that the group has a place in.
                let is_meant = reset.queue.map_or(topic != LITE || cursor.is_some(), |only| only == number);
                if !is_meant {
                    continue;
                }
                let after = reset.target.place_in(queue, reset.strict)?;
                let cursor = cursor.cloned().unwrap_or_default();
                let in_hand = cursor.rows.values().filter(|row| row.deliveries > 0 && !row.backing_off);
                // One by one: of each message, whether it is handed out, and whether it is finished.
                let is_open = |offset: &u64| *offset >= cursor.fetch || cursor.rows.contains_key(offset);
                let pinned = cursor.rows.range(..queue.start).count() as u64;
                moves.push(ResetQueue {
                    topic: topic.clone(),
                    queue: number,
                    before: cursor.floor().max(queue.start),
                    after,
                    released: in_hand.filter(|row| row.visible_at_ms > self.now_ms).count() as u64,
                    again: (after..cursor.fetch).count() as u64,
                    skipped: pinned + (queue.start..after).filter(is_open).count() as u64,
                });
            }
        }
        Some(moves)
    }

    /// Carries out a reset: what the group had in hand is void.
    pub fn reset(&mut self, reset: &Reset, moves: &[ResetQueue]) {
        for topic in self.topics_to_reset(reset) {
            let reader = (reset.group.clone(), topic.clone());
            if topic == LITE {
                self.subscriptions.entry(reader.clone()).or_default();
            }
            self.start_reading(&reader);
            let subscription = self.subscriptions.get_mut(&reader).expect("it reads");
            for moved in moves.iter().filter(|moved| moved.topic == topic) {
                let cursor = subscription.cursors.entry(moved.queue).or_default();
                cursor.rows.clear();
                cursor.epoch += 1;
                cursor.fetch = moved.after;
                let answers = subscription.answers.values_mut();
                answers.for_each(|leases| leases.retain(|(queue, ..)| *queue != moved.queue));
            }
            (subscription.owed, subscription.passed) = Default::default();
        }
    }

    fn topics_to_reset(&self, reset: &Reset) -> Vec<String> {
        let of_group = self.subscriptions.keys().filter(|(group, _)| *group == reset.group);
        reset
            .topic
            .as_ref()
            .map_or_else(|| of_group.map(|(_, topic)| topic.clone()).collect(), |topic| vec![topic.clone()])
    }
}
