//! Messages that wait for the outcome of their transaction, and who is asked for it.

use centaur_apis::log::Resolution;

use super::{Message, Reference};

/// An undecided transaction.
#[derive(Clone, Debug)]
pub struct Half {
    pub topic: String,
    pub queue: u32,
    pub message: Message,
    pub ticket: String,
    pub checks: u32,
    pub next_check_ms: u64,
    pub is_discarded: bool,
}

#[derive(Clone, Debug)]
struct Decided {
    topic: String,
    id: String,
    ticket: String,
    resolution: Resolution,
}

#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// The oldest first.
    undecided: Vec<Half>,
    decided: Vec<Decided>,
}

/// What ending a transaction has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Stands(Resolution),
    NotFound,
}

impl Transactions {
    pub fn forget_topic(&mut self, topic: &str) {
        self.undecided.retain(|half| half.topic != topic);
        self.decided.retain(|decided| decided.topic != topic);
    }

    pub fn was_rolled_back(&self, ticket: &str) -> bool {
        let is_it = |decided: &Decided| decided.ticket == ticket && decided.resolution == Resolution::RolledBack;
        self.decided.iter().any(is_it)
    }
}

impl Reference {
    /// A half message was stored.
    pub fn begin(&mut self, topic: &str, queue: u32, first_check_ms: u64, ticket: String, message: Message) {
        let message = self.record(message);
        self.topics.get_mut(topic).expect("a topic").apart.push(message.clone());
        let next_check_ms = self.now_ms + first_check_ms;
        let topic = topic.to_owned();
        let half = Half { topic, queue, message, ticket, checks: 0, next_check_ms, is_discarded: false };
        self.transactions.undecided.push(half);
    }

    /// Whether a transaction of this topic and message id was decided.
    pub fn was_decided(&self, topic: &str, id: &str) -> bool {
        self.transactions.decided.iter().any(|decided| decided.topic == topic && decided.id == id)
    }

    /// Decides the transaction of a ticket made for this topic or, without, of a message id.
    pub fn end(&mut self, topic: &str, ticket: Option<&str>, id: &str, asked: Resolution) -> Ended {
        let Transactions { undecided, decided } = &self.transactions;
        let is_it = |t: &str, of_ticket: &str, of_id: &str| {
            t == topic && ticket.map_or_else(|| of_id == id, |ticket| ticket == of_ticket)
        };
        if let Some(decided) = decided.iter().rfind(|d| is_it(&d.topic, &d.ticket, &d.id)) {
            return Ended::Stands(decided.resolution);
        }
        let Some(at) = undecided.iter().rposition(|half| is_it(&half.topic, &half.ticket, &half.message.id)) else {
            return Ended::NotFound;
        };
        if asked != Resolution::Undecided {
            self.decide(at, asked);
        }
        Ended::Stands(asked)
    }

    fn decide(&mut self, at: usize, resolution: Resolution) {
        let Half { topic, queue, message, ticket, .. } = self.transactions.undecided.remove(at);
        if resolution == Resolution::Committed {
            self.release(&topic, queue, message.order);
        }
        self.transactions.decided.push(Decided { topic, id: message.id, ticket, resolution });
    }

    /// Who is asked about now, of these topics: those due longest. One asked often enough is
    /// discarded instead.
    pub fn take_checks(&mut self, topics: &[&str], checks_max: usize, limits: Limits) -> Vec<Half> {
        let now_ms = self.now_ms;
        let mut due: Vec<&mut Half> =
            self.transactions.undecided.iter_mut().filter(|half| half.is_due(now_ms)).collect();
        due.retain(|half| topics.contains(&half.topic.as_str()));
        due.sort_by_key(|half| (half.next_check_ms, half.message.order));
        let mut asked = Vec::new();
        for half in due.into_iter().take(checks_max) {
            if half.checks >= limits.checks_max {
                half.is_discarded = true;
                half.next_check_ms = now_ms + limits.discarded_ms;
            } else {
                half.checks += 1;
                half.next_check_ms = now_ms + limits.interval_ms;
                asked.push(half.clone());
            }
        }
        asked
    }

    /// Topics with questions that wait.
    pub fn topics_to_ask(&self) -> impl Iterator<Item = &str> {
        let due = self.transactions.undecided.iter().filter(|half| half.is_due(self.now_ms));
        due.map(|half| half.topic.as_str())
    }

    /// What is too old is discarded, whether or not anybody was asked.
    pub(super) fn discard_aged(&mut self) {
        let (now_ms, undecided_ms, discarded_ms) = (self.now_ms, self.undecided_ms, self.discarded_ms);
        let is_aged = |half: &&mut Half| !half.is_discarded && half.message.recorded_ms + undecided_ms < now_ms;
        for half in self.transactions.undecided.iter_mut().filter(is_aged) {
            half.is_discarded = true;
            half.next_check_ms = now_ms + discarded_ms;
        }
    }

    /// What nobody decided in time is rolled back.
    pub(super) fn drop_discarded(&mut self) {
        let now_ms = self.now_ms;
        let is_over = |half: &Half| half.is_discarded && half.next_check_ms <= now_ms;
        while let Some(at) = self.transactions.undecided.iter().position(is_over) {
            self.decide(at, Resolution::RolledBack);
        }
    }

    /// Undecided transactions, of one topic or of all, the oldest first.
    pub fn undecided(&self, topic: Option<&str>, discarded_only: bool) -> Vec<&Half> {
        let wanted =
            |half: &&Half| topic.is_none_or(|topic| topic == half.topic) && (half.is_discarded || !discarded_only);
        self.transactions.undecided.iter().filter(wanted).collect()
    }
}

/// How often and for how long producers are asked.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub checks_max: u32,
    pub interval_ms: u64,
    pub discarded_ms: u64,
}

impl Half {
    fn is_due(&self, now_ms: u64) -> bool {
        !self.is_discarded && self.next_check_ms <= now_ms
    }
}
