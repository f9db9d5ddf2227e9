//! The one owner of the log's writing half and of derived state. Jobs decide on state, records go
//! into the open block and are applied at once; answers leave when the block is confirmed.

use std::{
    collections::{HashMap, HashSet},
    sync::mpsc,
};

use bytes::BytesMut;
use centaur_apis::{
    log::{Control, Released, control::Event},
    store::{Error, Reason},
    units::{Lsn, Term},
};
use prost::Message as _;
use tokio::sync::{oneshot, watch};

use super::{
    Command, Settle,
    consume::{Ask, Returned},
    housekeeper::Housekeeper,
    lives,
    offsets::Watchers,
    retention::Retention,
    schedule::Others,
    upcoming::Upcoming,
};
use crate::{
    clock::StoreTime,
    config::{Config, Flush},
    filter,
    log::{
        self, BLOCK_HEADER_BYTES, DiskStage, Log, ReadError,
        record::{self, Message, Place, Record},
    },
    metrics,
    state::{
        State,
        index::{Scheduled, Timer, TimerPlace},
        pop::Reader,
        topics::Topic,
    },
    wait::Waiters,
};

/// A block is closed when it is this large.
pub(super) const BLOCK_BYTES: usize = 1 << 20;
/// The open index is sealed when it takes this much memory, however small the segment still is.
const INDEX_BYTES_MAX: usize = 128 << 20;
/// Room a block keeps for what upkeep may add to it.
const SLACK: usize = 64 << 10;

/// An answer that has not left yet.
struct Pending {
    /// It leaves when this is confirmed; the end of the open block is not known before it is written.
    end: Lsn,
    answer: Settle,
    /// Nothing was decided for it: it may leave earlier when the block cannot be written.
    is_question: bool,
}

/// The end of a block that is still open.
const OPEN: Lsn = Lsn(u64::MAX);

pub struct Machine {
    pub(super) config: Config,
    pub(super) state: State,
    pub(super) log: Log,
    pub(super) reader: log::Reader,
    pub(super) store_group: u32,
    pub(super) now_ms: u64,
    pub(super) waiters: Waiters<Ask>,
    pub(super) watchers: Watchers,
    pub(super) filters: filter::Cache,
    /// Subscriptions that may have something for a parked poll.
    pub(super) runnable: HashSet<Reader>,
    /// When each client with leases of its own was last heard from, store time.
    pub(super) seen: HashMap<u64, u64>,
    pub(super) housekeeper: Housekeeper,
    pub(super) commands: mpsc::SyncSender<Command>,
    pub(super) returned: Returned,
    pub(super) upkeep: super::upkeep::Schedule,
    pub(super) retention: Retention,
    pub(super) upcoming: Upcoming,
    pub(super) others: Others,
    pub(super) lite: super::lite::Lite,
    pub(super) confirmed: Lsn,
    pub(super) facts: super::Facts,
    /// The open block.
    pub(super) body: BytesMut,
    time: StoreTime,
    records: u32,
    /// The log has no room for what was asked last.
    no_room: bool,
    /// The open block could not be written; it is tried again.
    stuck: bool,
    pending: Vec<Pending>,
    failure: Option<String>,
    failed: watch::Sender<Option<String>>,
}

/// What a machine is made of.
pub(super) struct Parts {
    pub config: Config,
    pub state: State,
    pub log: Log,
    pub reader: log::Reader,
    pub store_group: u32,
    pub time: StoreTime,
    pub commands: mpsc::SyncSender<Command>,
    pub failed: watch::Sender<Option<String>>,
    pub facts: super::Facts,
}

impl Machine {
    pub(super) fn new(parts: Parts) -> std::io::Result<Self> {
        let mut time = parts.time;
        let upcoming = Upcoming::new(parts.state.timers.done());
        let housekeeper = Housekeeper::start(&parts.config.data_dir, parts.commands.clone())?;
        let now_ms = time.now_ms();
        Ok(Self {
            now_ms,
            confirmed: parts.log.durable(),
            config: parts.config,
            state: parts.state,
            log: parts.log,
            reader: parts.reader,
            store_group: parts.store_group,
            waiters: Waiters::default(),
            watchers: Watchers::default(),
            filters: filter::Cache::default(),
            runnable: HashSet::new(),
            seen: HashMap::new(),
            housekeeper,
            commands: parts.commands,
            returned: Returned::default(),
            upkeep: super::upkeep::Schedule::default(),
            retention: Retention::default(),
            upcoming,
            others: Others::default(),
            lite: super::lite::Lite::new(now_ms),
            facts: parts.facts,
            time,
            body: BytesMut::new(),
            records: 0,
            no_room: false,
            stuck: false,
            pending: Vec::new(),
            failure: None,
            failed: parts.failed,
        })
    }

    pub(super) fn read_clock(&mut self) {
        self.now_ms = self.time.now_ms();
    }

    /// Whether the open block holds enough to be written.
    pub(super) fn block_is_full(&self) -> bool {
        self.body.len() >= BLOCK_BYTES
    }

    /// Makes sure the open block can take `bytes` more; writes it, and begins another segment, if
    /// not. Without space for a segment nothing that adds to the log is accepted.
    pub(super) fn reserve(&mut self, bytes: usize) {
        let index_full = self.state.index.open_bytes() >= INDEX_BYTES_MAX;
        if !self.fits(bytes) || (index_full && self.body.is_empty()) {
            self.write_block();
            self.roll(index_full || !self.fits(bytes));
        }
        self.no_room = !self.fits(bytes);
    }

    /// The same for a decision that is not made when there is no room. Nothing is applied that
    /// cannot be written: a block that does not fit would end the store.
    pub(super) fn make_room(&mut self, bytes: usize) -> Result<(), Error> {
        self.reserve(bytes);
        self.check_alive()
    }

    /// Whether `bytes` more can be written at all, the room kept for upkeep included.
    pub(super) fn has_any_room(&mut self, bytes: usize) -> bool {
        self.reserve(bytes);
        self.log.room() >= (self.body.len() + bytes) as u64
    }

    fn fits(&self, bytes: usize) -> bool {
        self.log.room() >= (self.body.len() + bytes + SLACK) as u64
    }

    /// Puts an event into the open block and applies it.
    pub(super) fn commit(&mut self, event: Event) {
        let control = Control { event: Some(event) };
        self.reserve(record::control_len(&control));
        let lsn = self.open_end();
        record::encode_control(&control, &mut self.body);
        self.records += 1;
        if let Some(event) = &control.event {
            let applied = self.state.apply_event(lsn, event, false);
            metrics::expired_unconsumed(applied.expired_unconsumed);
            for released in released_by(event) {
                self.wake_readers(released.topic, released.queue);
            }
            self.look_after(event);
        }
    }

    /// Has whoever waits for messages of a queue served.
    fn wake_readers(&mut self, topic: u32, queue: u32) {
        self.watchers.wake(topic);
        if self.state.topics.get(topic).is_some_and(Topic::is_lite) {
            return self.lite.dispatch.arrived(&self.state, &self.waiters, topic, queue);
        }
        for reader in self.waiters.readers_of(topic) {
            self.runnable.insert(reader);
        }
    }

    /// Puts a message into the open block and applies it; says where its record is. The caller has
    /// reserved room.
    pub(super) fn commit_message(&mut self, message: &Message) -> Lsn {
        let lsn = self.open_end();
        let before = self.body.len();
        message.encode(&mut self.body);
        self.records += 1;
        let length = u32::try_from(self.body.len() - before).expect("a record is shorter than 4 GiB");
        self.others.add(length);
        self.state.apply_message(lsn, length, message, false);
        match message.place {
            Place::Queued(_) => self.wake_readers(message.topic, message.queue),
            Place::Scheduled(due_ms) => {
                let place = TimerPlace { due_ms, lsn };
                self.upcoming.add(Timer { place, message: Scheduled::new(length, message) });
            }
            Place::Half(_) => {}
        }
        lsn
    }

    /// Where the next record of the open block will be.
    pub(super) fn open_end(&self) -> Lsn {
        self.log.next().plus(BLOCK_HEADER_BYTES + self.body.len() as u64)
    }

    /// Has an answer given once everything decided so far is confirmed.
    pub(super) fn answer_when_confirmed(&mut self, answer: Settle) {
        self.hold(answer, false);
    }

    fn hold(&mut self, answer: Settle, is_question: bool) {
        let end = if self.body.is_empty() { self.log.next() } else { OPEN };
        self.pending.push(Pending { end, answer, is_question });
    }

    /// Writes the open block, has it confirmed and lets the answers go.
    pub(super) fn write_block(&mut self) {
        if self.failure.is_some() {
            self.body.clear();
            self.records = 0;
        }
        if !self.body.is_empty() {
            let body = std::mem::take(&mut self.body).freeze();
            match self.append(body.clone(), self.records) {
                Ok(end) => {
                    self.records = 0;
                    self.stuck = false;
                    self.close_pending(end);
                }
                Err(failure) if !matches!(failure, log::Failure::Full) => self.fail(&failure),
                // State has these records already: the block waits, and with it who asked for it.
                Err(failure) => {
                    if !self.stuck {
                        tracing::warn!(error = %failure, "block cannot be written; nothing is accepted until it can");
                    }
                    self.stuck = true;
                    self.body = BytesMut::from(body);
                }
            }
        }
        self.settle_pending();
    }

    /// Makes everything written durable. Errors poison the machine.
    pub(super) fn sync(&mut self) {
        if self.failure.is_some() || self.log.durable() == self.log.written() {
            return;
        }
        if let Err(failure) = self.log.sync() {
            self.fail(&failure);
            self.settle_pending();
        }
    }

    /// The commit step of a group of one: what this node has at the promised level is agreed.
    fn append(&mut self, body: bytes::Bytes, records: u32) -> Result<Lsn, log::Failure> {
        let appended = self.log.append(body, records, self.now_ms, Term(1))?;
        self.confirmed = match self.config.flush {
            Flush::Sync => self.log.sync()?,
            Flush::Async => appended.end,
        };
        self.log.set_confirmed(self.confirmed);
        Ok(appended.end)
    }

    fn close_pending(&mut self, end: Lsn) {
        for pending in self.pending.iter_mut().rev().take_while(|pending| pending.end == OPEN) {
            pending.end = end;
        }
    }

    fn settle_pending(&mut self) {
        if let Some(failure) = self.failure.clone() {
            for pending in self.pending.drain(..) {
                (pending.answer)(Err(unknown(&failure)));
            }
            return;
        }
        let confirmed = self.confirmed;
        let ready = self.pending.iter().take_while(|pending| pending.end <= confirmed).count();
        for pending in self.pending.drain(..ready) {
            (pending.answer)(Ok(()));
        }
        if self.stuck {
            for question in self.pending.extract_if(.., |pending| pending.is_question) {
                (question.answer)(Ok(()));
            }
        }
    }

    /// Seals the open segment, if wanted and there is something in it; its index run and a snapshot
    /// are written in the background.
    pub(super) fn roll(&mut self, wanted: bool) {
        let is_empty = self.log.segments().last().is_none_or(|open| open.base == self.log.next());
        // A block that waits to be written belongs to the state a snapshot would hold.
        if !wanted || self.failure.is_some() || !self.body.is_empty() {
            return;
        }
        if is_empty {
            // What comes now may never fit into a small segment, and an empty one cannot be sealed.
            if !self.log.has_outlived_reserve() {
                return;
            }
            record::encode_control(&Control { event: None }, &mut self.body);
            self.records += 1;
            self.write_block();
            if !self.can_write() {
                return;
            }
        }
        match self.log.roll() {
            Ok(sealed) => {
                self.confirmed = self.log.durable();
                let at = self.log.next();
                let open = self.state.index.seal(sealed.base, sealed.end);
                let snapshot = self.state.to_snapshot(at).encode_to_vec();
                self.housekeeper.seal(open, sealed, at, snapshot);
            }
            Err(failure) if failure.is_final() => self.fail(&failure),
            Err(failure) => {
                tracing::warn!(error = %failure, "no segment to go on in; nothing is accepted until space returns")
            }
        }
    }

    /// Stops for good: nothing more is written, nothing more is answered with OK.
    fn fail(&mut self, failure: &log::Failure) {
        let text = failure.to_string();
        tracing::error!(error = %text, lsn = self.log.next().0, "log failed; no more is accepted, the process ends");
        metrics::poisoned();
        // What was confirmed and not synced may be gone, though the machine goes on.
        if self.config.flush == Flush::Async
            && let Err(error) = lives::distrust(&self.config.data_dir)
        {
            tracing::error!(%error, "it cannot be noted that a sync failed");
        }
        self.failure = Some(text.clone());
        self.failed.send_replace(Some(text));
    }

    /// Why nothing more is accepted, if so.
    pub(super) fn check_alive(&self) -> Result<(), Error> {
        match &self.failure {
            Some(failure) => Err(Error::new(Reason::Failed, format!("store stopped after a disk failure ({failure})"))),
            None if self.no_room || self.stuck => Err(full()),
            None => Ok(()),
        }
    }

    /// Refuses what would need space that is not there. Settling goes on as long as anything can.
    pub(super) fn check_space(&self) -> Result<(), Error> {
        match self.log.stage() {
            DiskStage::Ok | DiskStage::Tight => Ok(()),
            DiskStage::Refusing | DiskStage::Full => Err(full()),
        }
    }

    /// Whether what was decided can reach the disk at present.
    pub(super) fn can_write(&self) -> bool {
        self.failure.is_none() && !self.stuck
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Decodes the record that the index has at a place; none if it went with its segment. One of the
    /// open block is written first, and then read from the log like any other.
    ///
    /// Errors: the open block cannot be written; the record cannot be read.
    pub(super) fn read_record(&mut self, lsn: Lsn) -> Result<Option<Record>, Error> {
        if lsn >= self.confirmed {
            self.write_block();
            self.check_alive()?;
        }
        let read = self.reader.record_length(lsn).and_then(|length| self.reader.read(lsn, length));
        match read.map(|bytes| record::decode(&bytes)) {
            Ok(Ok((record, _))) => Ok(Some(record)),
            Ok(Err(error)) => Err(unreadable(lsn, &error)),
            Err(ReadError::Gone { .. } | ReadError::Retired { .. }) => Ok(None),
            Err(error) => Err(unreadable(lsn, &error)),
        }
    }

    /// The same, without what is damaged.
    pub(super) fn read_if_sound(&mut self, lsn: Lsn) -> Result<Option<Record>, Error> {
        match self.read_record(lsn) {
            Err(error) if error.reason() == Reason::Damaged => Ok(None),
            read => read,
        }
    }

    /// Decodes the message at a place of the log.
    pub(super) fn read_message(&self, lsn: Lsn, length: u32) -> Option<Message> {
        match self.reader.read(lsn, length).map(|bytes| record::decode(&bytes)) {
            Ok(Ok((Record::Message(message), _))) => Some(message),
            Ok(Ok(_)) => None,
            Ok(Err(error)) => {
                tracing::error!(lsn = lsn.0, %error, "message is damaged");
                metrics::damaged();
                None
            }
            Err(error) => {
                tracing::error!(lsn = lsn.0, %error, "message cannot be read");
                metrics::damaged();
                None
            }
        }
    }

    /// Runs a job and has its outcome answered; what it decided is in the open block.
    pub(super) fn run<T: Send + 'static>(
        &mut self,
        reply: oneshot::Sender<Result<T, Error>>,
        job: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) {
        if let Err(refusal) = self.check_alive() {
            let _ = reply.send(Err(refusal));
            return;
        }
        let outcome = job(self);
        self.answer_when_confirmed(Box::new(move |confirmed| {
            // A caller that went away has nobody to tell; what was decided stands.
            let _ = reply.send(confirmed.and(outcome));
        }));
    }

    /// Answers a question once what it saw is confirmed, or cannot be for now.
    pub(super) fn ask<T: Send + 'static>(
        &mut self,
        reply: oneshot::Sender<Result<T, Error>>,
        question: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) {
        let answer = question(self);
        let answer = Box::new(move |_| drop(reply.send(answer)));
        self.hold(answer, true);
    }

    /// Ends the log in order. Everything answered is on disk before the clean marker is.
    pub(super) fn close(mut self) -> Result<(), log::Failure> {
        self.write_block();
        let stopping = Error::new(Reason::Stopping, "store is stopping; try again");
        self.refuse_waiters(|_| true, &stopping);
        self.housekeeper.finish();
        if self.failure.is_some() {
            return Ok(()); // told already; no clean marker
        }
        let data_dir = self.config.data_dir.clone();
        self.log.close()?;
        if let Err(error) = lives::end(&data_dir) {
            tracing::warn!(%error, "the note that not all is synced stays; the next start is careful for nothing");
        }
        Ok(())
    }
}

/// Messages that an event gave a place in their queues.
fn released_by(event: &Event) -> &[Released] {
    match event {
        Event::TimersFired(fired) => &fired.released,
        Event::TransactionEnded(ended) => ended.released.as_slice(),
        _ => &[],
    }
}

fn full() -> Error {
    let sentence = "disk is full; messages are accepted again when space returns: free some, or shorten retention";
    Error::new(Reason::Full, sentence)
}

fn unreadable(lsn: Lsn, error: &dyn std::error::Error) -> Error {
    tracing::error!(lsn = lsn.0, %error, "record cannot be read");
    metrics::damaged();
    Error::new(Reason::Damaged, format!("record at LSN {lsn} cannot be read: {error}"))
}

fn unknown(failure: &str) -> Error {
    let sentence = format!("store stopped after a disk failure ({failure}); whether this was done is unknown");
    Error::new(Reason::UnknownOutcome, sentence)
}
