//! What clients were told, and whether it can be true.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::client::{LEASE, Received};

/// How much store time and the clients' clocks may differ over one lease, part of it.
const CLOCK_ERROR: u32 = 20;

/// The history of one group and topic. A contradiction fails the test at once.
#[derive(Default)]
pub struct History {
    /// Sent, with or without an answer.
    sent: HashSet<String>,
    stored: HashSet<String>,
    /// When the OK of an ack came.
    acked: HashMap<String, Instant>,
    /// An ack was sent; it may have been carried out.
    ack_sent: HashSet<String>,
    delivered: HashMap<String, Delivered>,
    redeliveries: usize,
    last_delivery: Option<Instant>,
}

struct Delivered {
    attempt: i32,
    asked: Instant,
}

impl History {
    /// Messages are about to be sent.
    pub fn sending(&mut self, messages: &[(String, Bytes)]) {
        self.sent.extend(messages.iter().map(|(id, _)| id.clone()));
    }

    /// The OK of a send came.
    pub fn stored(&mut self, messages: &[(String, Bytes)]) {
        self.stored.extend(messages.iter().map(|(id, _)| id.clone()));
    }

    /// A message came on a receive that was sent at `asked`.
    pub fn delivered(&mut self, received: &Received, asked: Instant) {
        let id = &received.id;
        assert!(self.sent.contains(id), "{id} was never sent");
        assert_eq!(received.body, body(id), "the body of {id}");
        if let Some(acked) = self.acked.get(id) {
            assert!(*acked > asked, "{id} came back after the OK of its ack");
        }
        if let Some(before) = self.delivered.get(id) {
            assert!(received.attempt > before.attempt, "attempt {} of {id} after {}", received.attempt, before.attempt);
            let apart = before.asked.elapsed();
            assert!(apart + LEASE / CLOCK_ERROR >= LEASE, "{id} came again after {apart:?}");
            self.redeliveries += 1;
        }
        assert!(received.attempt >= 1, "attempt {} of {id}", received.attempt);
        self.delivered.insert(id.clone(), Delivered { attempt: received.attempt, asked });
        self.last_delivery = Some(Instant::now());
    }

    /// An ack is about to be sent.
    pub fn acking(&mut self, id: &str) {
        self.ack_sent.insert(id.to_owned());
    }

    /// The OK of an ack came.
    pub fn acked(&mut self, id: &str) {
        self.acked.insert(id.to_owned(), Instant::now());
    }

    /// Stored messages that are not known to be acked. One whose ack may have been carried out
    /// need not come again.
    pub fn open(&self) -> Vec<&String> {
        self.stored.iter().filter(|id| !self.acked.contains_key(*id) && !self.ack_sent.contains(*id)).collect()
    }

    /// About how many messages wait.
    pub fn backlog(&self) -> usize {
        self.stored.len().saturating_sub(self.acked.len())
    }

    /// Time since something came.
    pub fn silence(&self) -> Duration {
        self.last_delivery.map_or(Duration::ZERO, |last| last.elapsed())
    }

    /// How many messages were stored, acked and delivered again.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.stored.len(), self.acked.len(), self.redeliveries)
    }
}

/// The body of a message follows from its id.
pub fn body(id: &str) -> Bytes {
    let bytes = id.bytes().fold(0, |sum: usize, byte| sum * 31 % 4099 + usize::from(byte));
    id.bytes().cycle().take(bytes).collect()
}
