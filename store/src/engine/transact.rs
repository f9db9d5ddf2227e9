//! Transactions: the first decision about a half message stands, and who owes one is asked.

use centaur_apis::{
    fields::{self, system},
    hash64,
    log::{Control, Released, Resolution, TransactionChecked, TransactionEnded, TransactionState, control::Event},
    store::{
        Batch, EndTransactionRequest, EndTransactionResponse, Error, ListTransactionsRequest, Reason,
        TakeChecksRequest, Transaction,
    },
    ticket::{Purpose, Ticket},
    units::Lsn,
};

use super::{Machine, consume::damaged, produce::topic_not_found};
use crate::{
    config::Config,
    log::record::{Place, Record},
    metrics,
};

/// Questions of one answer.
pub const CHECKS_MAX: u32 = 256;
/// Bytes of their messages.
const CHECK_BYTES_MAX: u64 = 8 << 20;
/// Names of topics with questions waiting, in one answer.
const DUE_TOPICS_MAX: usize = 1000;
/// Transactions of one list, unless another number is asked for.
const LIST_DEFAULT: usize = 100;
const LIST_MAX: usize = 1000;
/// Discarded transactions that are rolled back in one turn.
const DROPPED_MAX: usize = 256;
/// Transactions looked at for their age in one turn.
const AGED_MAX: usize = 256;
/// Added where the turns of topics begin: a part of the whole that no number of callers divides.
const TURN: u32 = 0x9e37_79b9;

/// How far transactions were looked through for those that are too old, and whose topics are named
/// next. Of the leader; it may be lost.
#[derive(Debug, Default)]
pub(super) struct Checking {
    /// When the next one is too old, store time, ms.
    pub due_ms: u64,
    from: Lsn,
    turn: u32,
}

/// One question for a producer, before its message is read.
#[derive(Clone, Debug)]
pub struct Question {
    pub topic: String,
    pub ticket: String,
    pub lsn: Lsn,
    pub length: u32,
}

/// Questions that somebody took to put them to producers.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    pub questions: Vec<Question>,
    /// Topics not asked for that have questions waiting.
    pub due_topics: Vec<String>,
}

/// Transactions of a list, before their messages are read.
#[derive(Clone, Debug, Default)]
pub struct Undecided {
    pub transactions: Vec<(Lsn, u32, Transaction)>,
    pub total: u64,
    /// What a list of the others begins after; empty: there are none.
    pub next: String,
}

/// Messages with one id that are looked at for a transaction.
const SAME_ID_MAX: usize = 64;

/// What is known of the transaction that a request names.
enum Known {
    Undecided(TransactionState),
    Decided(Resolution),
}

impl Machine {
    /// Refuses half messages when too many transactions are undecided.
    pub(super) fn check_halves(&self, batch: &Batch) -> Result<(), Error> {
        let more = batch.messages.iter().filter(|message| message.half.is_some()).count();
        let max = self.config.transactions_max;
        if more == 0 || self.state.transactions.count(None, false) + more <= max {
            return Ok(());
        }
        metrics::refused_busy();
        let sentence = format!("store has {max} undecided transactions, as many as it keeps; end some and try again");
        Err(Error::new(Reason::Busy, sentence))
    }

    /// Decides a transaction; the first decision stands, and every later one is told of it.
    pub fn end_transaction(&mut self, request: &EndTransactionRequest) -> Result<EndTransactionResponse, Error> {
        let asked = request.resolution();
        let standing = match self.find_transaction(request)? {
            Known::Decided(resolution) => resolution,
            Known::Undecided(_) if asked == Resolution::Undecided => asked,
            Known::Undecided(row) => {
                self.decide(&row, asked);
                asked
            }
        };
        Ok(EndTransactionResponse { resolution: standing.into() })
    }

    fn find_transaction(&mut self, request: &EndTransactionRequest) -> Result<Known, Error> {
        let topic = self.state.topics.named(&request.topic).ok_or_else(|| topic_not_found(&request.topic))?.settings.id;
        let known = match self.half_named(&request.ticket, topic) {
            Some(lsn) => self.known_at(lsn, topic)?,
            None if request.message_id.is_empty() => None,
            None => self.known_with_id(topic, &request.message_id)?,
        };
        known.ok_or_else(|| {
            let sentence =
                format!("topic {:?} has no transaction of this id, or it was decided long ago", request.topic);
            Error::new(Reason::TransactionNotFound, sentence)
        })
    }

    fn known_at(&mut self, lsn: Lsn, topic: u32) -> Result<Option<Known>, Error> {
        if let Some(row) = self.state.transactions.get(lsn).filter(|row| row.topic == topic) {
            return Ok(Some(Known::Undecided(*row)));
        }
        Ok(self.decision(lsn)?.map(Known::Decided))
    }

    /// What was decided comes first: of a message that was sent twice, one commit is enough.
    fn known_with_id(&mut self, topic: u32, id: &str) -> Result<Option<Known>, Error> {
        let places = self.state.index.keys(hash64(id.as_bytes()), SAME_ID_MAX).map_err(|error| damaged(&error))?;
        for lsn in places {
            if self.state.transactions.get(lsn).is_none()
                && let Some(Record::Message(message)) = self.read_if_sound(lsn)?
                && message.topic == topic
                && matches!(message.place, Place::Half(_))
                && fields::text(&message.properties, system::MESSAGE_ID) == Some(id)
                && let Some(decision) = self.decision(lsn)?
            {
                return Ok(Some(Known::Decided(decision)));
            }
        }
        Ok(self.state.transactions.with_id(topic, id).map(|row| Known::Undecided(*row)))
    }

    /// How the transaction of a half message was decided; none if it was not, or so long ago that the
    /// record of it is gone.
    pub(super) fn decision(&mut self, half: Lsn) -> Result<Option<Resolution>, Error> {
        for lsn in self.state.index.decisions(half).map_err(|error| damaged(&error))? {
            if let Some(Record::Control(Control { event: Some(Event::TransactionEnded(ended)) })) =
                self.read_record(lsn)?
                && ended.lsn == half.0
            {
                return Ok(Some(ended.resolution()));
            }
        }
        Ok(None)
    }

    /// Whether a power failure took the message of a ticket, as it can when not every message is
    /// synced. Another may be in its place.
    pub(super) fn was_lost(&self, ticket: &Ticket) -> bool {
        ticket.lsn >= self.state.handle_key_end(ticket.key_id).unwrap_or(self.log.next())
    }

    /// The half message that a ticket was made for, if this store made it for that topic.
    fn half_named(&self, ticket: &str, topic: u32) -> Option<Lsn> {
        let ticket = Ticket::open(ticket, |id| self.state.handle_key(id))?;
        let is_ours = ticket.store_group == self.store_group
            && ticket.purpose == Purpose::Transaction
            && ticket.topic == topic
            && !self.was_lost(&ticket);
        is_ours.then_some(ticket.lsn)
    }

    /// Writes a decision down; a commit gives the message its place in its queue.
    fn decide(&mut self, row: &TransactionState, resolution: Resolution) {
        let queue = self.state.topics.get(row.topic).and_then(|topic| topic.queues.get(row.queue as usize));
        let released = (resolution == Resolution::Committed).then(|| Released {
            lsn: row.lsn,
            length: row.length,
            topic: row.topic,
            queue: row.queue,
            offset: queue.map_or(0, |queue| queue.end),
            tag_hash: row.tag_hash,
            group_hash: row.group_hash,
            has_ttl: row.has_ttl,
        });
        let resolution_name = resolution.as_str_name();
        let ended = TransactionEnded { lsn: row.lsn, resolution: resolution.into(), at_ms: self.now_ms, released };
        self.commit(Event::TransactionEnded(ended));
        metrics::transaction_ended(resolution_name);
    }

    /// Takes questions about undecided transactions of the named topics, those due longest first.
    ///
    /// Taking one counts: it is due again after a while. One that was asked often enough is discarded
    /// instead: an operator may decide it, or time does.
    pub fn take_checks(&mut self, request: &TakeChecksRequest) -> Taken {
        let max = request.checks_max.clamp(1, CHECKS_MAX) as usize;
        let named = request.topics.iter().filter_map(|name| self.state.topics.named(name));
        let mut topics: Vec<u32> = named.map(|topic| topic.settings.id).collect();
        topics.sort_unstable();
        topics.dedup();
        let of_topic = |topic: &u32| self.state.transactions.due(*topic, self.now_ms).take(max).copied();
        let mut due: Vec<TransactionState> = topics.iter().flat_map(of_topic).collect();
        due.sort_unstable_by_key(|row| (row.next_check_ms, row.lsn));
        let mut taken = Taken { due_topics: self.other_due_topics(&topics), ..Taken::default() };
        let mut bytes = 0;
        for row in due.into_iter().take(max) {
            if row.checks >= self.config.transaction_checks_max {
                self.discard(&row);
                continue;
            }
            bytes += u64::from(row.length);
            if bytes > CHECK_BYTES_MAX && !taken.questions.is_empty() {
                break;
            }
            taken.questions.extend(self.question(&row));
        }
        metrics::transaction_checks(taken.questions.len() as u64);
        self.report_transactions();
        taken
    }

    /// Notes that a transaction's producer is asked.
    fn question(&mut self, row: &TransactionState) -> Option<Question> {
        let topic = self.state.topics.get(row.topic)?.settings.name.clone();
        let ticket = self.ticket(row.topic, Lsn(row.lsn), Place::Half(row.next_check_ms))?;
        self.commit(Event::TransactionChecked(TransactionChecked {
            lsn: row.lsn,
            checks: row.checks + 1,
            next_check_ms: self.now_ms.saturating_add(self.config.transaction_check_interval_ms),
            discarded: false,
        }));
        Some(Question { topic, ticket, lsn: Lsn(row.lsn), length: row.length })
    }

    fn discard(&mut self, row: &TransactionState) {
        self.commit(Event::TransactionChecked(TransactionChecked {
            lsn: row.lsn,
            checks: row.checks,
            next_check_ms: self.now_ms.saturating_add(self.config.transaction_discarded_ms),
            discarded: true,
        }));
        let topic = self.state.topics.get(row.topic).map(|topic| topic.settings.name.as_str());
        tracing::warn!(
            topic,
            lsn = row.lsn,
            checks = row.checks,
            "transaction is discarded: nobody decided it; an operator still may"
        );
    }

    /// Of very many, others each time: nobody who asks is always told of the same ones.
    fn other_due_topics(&mut self, named: &[u32]) -> Vec<String> {
        let others = self.state.transactions.due_topics(self.now_ms).filter(|id| named.binary_search(id).is_err());
        let mut others: Vec<u32> = others.collect();
        if others.len() > DUE_TOPICS_MAX {
            let turn = &mut self.upkeep.checking.turn;
            *turn = turn.wrapping_add(TURN);
            let first = (u64::from(*turn) * others.len() as u64) >> u32::BITS;
            others.rotate_left(usize::try_from(first).expect("fewer than 2^32 topics"));
            others.truncate(DUE_TOPICS_MAX);
        }
        let topics = others.into_iter().filter_map(|id| self.state.topics.get(id));
        topics.map(|topic| topic.settings.name.clone()).collect()
    }

    /// Undecided transactions, the oldest first.
    pub fn list_transactions(&self, request: &ListTransactionsRequest) -> Result<Undecided, Error> {
        let topic = match request.topic.as_str() {
            "" => None,
            name => Some(self.state.topics.named(name).ok_or_else(|| topic_not_found(name))?.settings.id),
        };
        let limit = if request.limit == 0 { LIST_DEFAULT } else { (request.limit as usize).min(LIST_MAX) };
        let transactions = &self.state.transactions;
        let after = parse_after(&request.after)?;
        let mut rows = transactions.oldest(topic, request.discarded_only, after, limit + 1);
        let is_cut = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| is_cut).map(|row| row.lsn.to_string()).unwrap_or_default();
        let transaction = |row: &TransactionState| Transaction {
            topic: self.state.topics.get(row.topic).map(|topic| topic.settings.name.clone()).unwrap_or_default(),
            ticket: self.ticket(row.topic, Lsn(row.lsn), Place::Half(row.next_check_ms)).unwrap_or_default(),
            stored_ms: row.stored_ms,
            checks: row.checks,
            next_check_ms: if row.discarded { 0 } else { row.next_check_ms },
            discarded: row.discarded,
            ..Default::default()
        };
        Ok(Undecided {
            transactions: rows.into_iter().map(|row| (Lsn(row.lsn), row.length, transaction(row))).collect(),
            total: transactions.count(topic, request.discarded_only) as u64,
            next,
        })
    }

    /// Discards transactions that nobody decided for as long as the store keeps messages, whether or
    /// not somebody was there to be asked.
    pub(super) fn discard_aged(&mut self) {
        let Checking { due_ms, from, .. } = &self.upkeep.checking;
        if *due_ms > self.now_ms {
            return;
        }
        let rows = self.state.transactions.undecided_in(*from..Lsn(u64::MAX));
        let rows = rows.filter_map(|(lsn, _)| self.state.transactions.get(lsn));
        let rows: Vec<TransactionState> = rows.take(AGED_MAX).copied().collect();
        // What comes later is not older then.
        let mut due_ms = if rows.len() == AGED_MAX { self.now_ms } else { self.aged_ms(self.now_ms) };
        for row in rows {
            if self.aged_ms(row.stored_ms) > self.now_ms {
                due_ms = self.aged_ms(row.stored_ms);
                break;
            }
            if self.check_alive().is_err() {
                return;
            }
            if !row.discarded {
                self.discard(&row);
            }
            self.upkeep.checking.from = Lsn(row.lsn + 1);
        }
        self.upkeep.checking.due_ms = due_ms;
    }

    /// When a message stored at a time is older than the store keeps messages, ms, and was asked about
    /// as often as that is done if somebody is there.
    fn aged_ms(&self, stored_ms: u64) -> u64 {
        let Config { transaction_check_interval_ms, transaction_checks_max, transaction_timeout_ms, .. } = self.config;
        let asking_ms = transaction_check_interval_ms.saturating_mul(u64::from(transaction_checks_max) + 1);
        let kept_ms = self.config.retention_ms.max(transaction_timeout_ms.saturating_add(asking_ms));
        stored_ms.saturating_add(kept_ms).saturating_add(1)
    }

    /// When the next discarded transaction is rolled back, ms.
    pub(super) fn next_dropped_ms(&self) -> Option<u64> {
        self.state.transactions.next_dropped().map(|(at, _)| at)
    }

    /// Rolls back discarded transactions that no operator decided in time.
    pub(super) fn drop_discarded(&mut self) {
        for _ in 0..DROPPED_MAX {
            let next = self.state.transactions.next_dropped();
            let Some(row) = next.filter(|(at, _)| *at <= self.now_ms).map(|(_, row)| *row) else { return };
            if self.check_alive().is_err() {
                return;
            }
            self.decide(&row, Resolution::RolledBack);
            let topic = self.state.topics.get(row.topic).map(|topic| topic.settings.name.as_str());
            tracing::warn!(
                topic,
                lsn = row.lsn,
                "discarded transaction is rolled back: no operator decided it in time"
            );
        }
    }

    /// Shows how many transactions wait.
    pub(super) fn report_transactions(&self) {
        let transactions = &self.state.transactions;
        let oldest_ms = transactions.undecided().next().map_or(0, |row| self.now_ms.saturating_sub(row.stored_ms));
        metrics::transactions(transactions.count(None, false), transactions.count(None, true), oldest_ms);
    }
}

/// Where a list goes on; without a place, before the first one.
fn parse_after(text: &str) -> Result<Lsn, Error> {
    if text.is_empty() {
        return Ok(Lsn(0));
    }
    let sentence = || format!("after is {text:?}; give what the list before named as the next");
    text.parse().map(Lsn).map_err(|_| Error::new(Reason::Invalid, sentence()))
}
