//! Messages on their way out: leases, acks, visibility, clients that come and go.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError, mpsc::SyncSender},
};

use centaur_apis::{
    hash64,
    log::{Acked, CursorsSet, Leased, Position, SessionEnded, TopicType, VisibilityChanged, control::Event},
    names::{GroupName, TopicName},
    receipt_handle::ReceiptHandle,
    store::{ChangeVisibilityRequest, EndSessionRequest, Error, PopRequest, Reason},
    units::Lsn,
};
use tokio::sync::oneshot;

use super::{Command, Machine, catalog, contents::Contents, produce::topic_not_found};
use crate::{
    filter::Filter,
    log::BLOCK_HEADER_BYTES,
    metrics,
    state::{
        index::{Entry, QueueKey},
        offsets,
        pop::{Hold, Reader, Row, Subscription},
        select::{self, Candidates, HighestFirst, InTurn, Pick, Selection, Want},
    },
    wait::{Line, WaiterId},
};

/// Messages of one answer.
const MESSAGES_MAX: u32 = 256;
/// Bytes of one queue's position in the log, at most.
pub(super) const POSITION_BYTES: usize = 20;
/// Bytes of another end of a lease in the log, at most.
const VISIBILITY_BYTES: usize = 96;
/// Longest invisible time of a lease, with some grace over the public limit.
const INVISIBLE_MS_MAX: u64 = 24 * 3_600_000;
/// Longest time that messages stay with a client that has ended.
const LINGER_MS_MAX: u64 = 60_000;

/// A poll: what is wanted, and who to tell.
pub struct Ask {
    pub reader: Reader,
    /// The line of its client when the group consumes lite topics.
    pub lite: Option<Line>,
    pub filter: Filter,
    pub messages: usize,
    pub bytes: u64,
    pub invisible_ms: u64,
    pub session_bound: bool,
    pub client: u64,
    pub attempt: u64,
    pub reply: oneshot::Sender<Result<Granted, Error>>,
}

/// Leased messages on their way to the caller. Dropped on that way, the leases are given back.
#[derive(Default)]
pub struct Granted {
    pub grants: Vec<Grant>,
    key: Option<[u8; 32]>,
    giver: Option<Giver>,
}

/// One leased message: where it is, and its handle before it is sealed.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    pub lsn: Lsn,
    pub length: u32,
    /// Store time, ms: when the message came into its queue.
    pub stored_ms: u64,
    pub handle: ReceiptHandle,
    pub attempt: u32,
    pub visible_at_ms: u64,
}

/// Leases that nobody received, on their way back.
pub(super) type Returned = Arc<Mutex<Vec<(Reader, Vec<Grant>)>>>;

struct Giver {
    reader: Reader,
    returned: Returned,
    commands: SyncSender<Command>,
}

impl Granted {
    /// The key to seal the handles with.
    pub fn key(&self) -> Option<[u8; 32]> {
        self.key
    }

    /// The caller has them now.
    pub fn keep(mut self) -> Vec<Grant> {
        self.giver = None;
        mem::take(&mut self.grants)
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        let Some(giver) = self.giver.take() else { return };
        let grants = mem::take(&mut self.grants);
        giver.returned.lock().unwrap_or_else(PoisonError::into_inner).push((giver.reader, grants));
        // Only a reason to look up: with a full queue the thread does so anyway.
        let _ = giver.commands.try_send(Command::Job { bytes: 0, job: Box::new(|_| ()), permit: None });
    }
}

impl Ask {
    /// Where it stands while it waits.
    fn line(&self) -> Line {
        self.lite.unwrap_or_else(|| self.reader.into())
    }

    /// Answers with a refusal.
    pub fn refuse(self, error: Error) {
        let _ = self.reply.send(Err(error));
    }
}

impl Machine {
    /// Answers a poll now, or parks it until there is something for it.
    ///
    /// `id` names the poll, should its caller take it back.
    pub fn pop(&mut self, id: WaiterId, request: &PopRequest, reply: oneshot::Sender<Result<Granted, Error>>) {
        let wait_ms = request.wait_ms;
        let client = hash64(request.client.as_bytes());
        let ask = match self.check_alive().and_then(|()| self.parse_ask(request, client)) {
            Ok((reader, lite, filter)) => Ask {
                reader,
                lite,
                filter,
                messages: request.messages_max.clamp(1, MESSAGES_MAX) as usize,
                bytes: request.bytes_max,
                invisible_ms: request.invisible_ms.min(INVISIBLE_MS_MAX),
                session_bound: request.session_bound,
                client,
                attempt: attempt_hash(&request.client, &request.attempt),
                reply,
            },
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        if let Some(ask) = self.try_pop(ask) {
            self.park(id, ask, wait_ms);
        }
    }

    /// Takes back a parked poll whose caller went away.
    pub fn cancel(&mut self, id: WaiterId) {
        self.waiters.remove(id);
    }

    fn park(&mut self, id: WaiterId, ask: Ask, wait_ms: u64) {
        if wait_ms == 0 {
            self.answer_when_confirmed(Box::new(move |confirmed| {
                drop(ask.reply.send(confirmed.map(|()| Granted::default())))
            }));
        } else if !self.waiters.has_room(ask.reader) {
            metrics::refused_busy();
            ask.refuse(Error::new(
                Reason::Busy,
                "too many polls are waiting for this group and topic; poll again later",
            ));
        } else {
            let deadline = self.now_ms.saturating_add(wait_ms);
            self.waiters.park(id, ask.line(), deadline, ask);
        }
    }

    /// Serves parked polls of a subscription until nothing is left for them.
    pub(super) fn serve_waiters(&mut self, reader: Reader) {
        self.bury_dead(reader);
        self.serve_line(reader.into());
    }

    /// Serves parked polls of one line until nothing is left for them.
    pub(super) fn serve_line(&mut self, line: Line) {
        while let Some((id, ask)) = self.waiters.take_first(line) {
            if ask.reply.is_closed() {
                self.waiters.remove(id);
                continue;
            }
            match self.try_pop(ask) {
                None => self.waiters.remove(id),
                Some(ask) => {
                    self.waiters.put_back(id, ask);
                    break;
                }
            };
        }
    }

    /// Leases messages for a poll and has it answered; gives the poll back when there are none.
    fn try_pop(&mut self, ask: Ask) -> Option<Ask> {
        let granted = match self.lease(&ask) {
            Ok(grants) if grants.is_empty() => return Some(ask),
            Ok(grants) => {
                let (returned, commands) = (Arc::clone(&self.returned), self.commands.clone());
                let giver = Giver { reader: ask.reader, returned, commands };
                let key = self.state.newest_handle_key().map(|(_, key)| *key);
                Ok(Granted { grants, key, giver: Some(giver) })
            }
            Err(error) => Err(error),
        };
        let reply = ask.reply;
        // A caller that went away drops what it was sent, and with it the leases.
        self.answer_when_confirmed(Box::new(move |confirmed| match confirmed {
            Ok(()) => drop(reply.send(granted)),
            Err(error) => {
                if let Ok(granted) = granted {
                    granted.keep();
                }
                drop(reply.send(Err(error)));
            }
        }));
        None
    }

    fn lease(&mut self, ask: &Ask) -> Result<Vec<Grant>, Error> {
        let reader = ask.reader;
        match ask.lite {
            Some(line) => {
                self.open_ring(line)?;
                self.lite.dispatch.look_at_due(&self.state, &self.waiters, reader, self.now_ms);
            }
            None => self.start_reading(reader)?,
        }
        if ask.attempt != 0
            && let Some(grants) = self.repeat(ask)
        {
            return Ok(grants);
        }
        self.bury_dead(reader);
        // Before choosing, not after: what was chosen has left its place in the order of turns. The
        // records of one answer find room in the slack.
        self.make_room(0)?;
        let selection = self.select(ask)?;
        match ask.lite {
            _ if !selection.more => {}
            Some(line) => self.lite.dispatch.run_again(line),
            None => drop(self.runnable.insert(reader)),
        }
        if selection.is_empty() {
            return Ok(Vec::new());
        }
        let redelivered = selection.redeliveries.len() as u64;
        metrics::expired_by_ttl(selection.expired.len() as u64 + selection.expired_fresh);
        let until = self.now_ms + if ask.session_bound { self.config.session_lease_ms } else { ask.invisible_ms };
        let picks = self.commit_leases(ask, until, selection);
        if ask.session_bound && !picks.is_empty() {
            self.seen.insert(ask.client, self.now_ms);
        }
        metrics::delivered(picks.len() as u64, redelivered);
        Ok(picks.into_iter().map(|pick| self.grant(reader, pick, until)).collect())
    }

    fn select(&mut self, ask: &Ask) -> Result<Selection, Error> {
        let reader = ask.reader;
        let want = Want { filter: &ask.filter, messages: ask.messages, bytes: ask.bytes, now_ms: self.now_ms };
        let Some(topic) = self.state.topics.get(reader.topic) else { return Ok(Selection::default()) };
        let Some(subscription) = self.state.pop.get_mut(reader) else { return Ok(Selection::default()) };
        let (mut in_turn, mut highest_first) = (InTurn::default(), HighestFirst::default());
        let shared_percent = self.state.groups.get(reader.group).map_or(0, |group| group.shared_percent);
        let has_priorities = topic.settings.r#type() == TopicType::Priority && !subscription.is_ordered();
        let is_shared = subscription.turn.shared + shared_percent >= 100;
        let candidates: &mut dyn Candidates =
            if has_priorities && !is_shared { &mut highest_first } else { &mut in_turn };
        let open_at = self.log.next().plus(BLOCK_HEADER_BYTES);
        let mut contents = Contents { filter: want.filter, log: &self.reader, open: &self.body, open_at };
        let index = &mut self.state.index;
        let selected = match ask.lite {
            None => select::select(reader, subscription, topic, index, &want, candidates, &mut contents),
            Some(line) => match self.lite.dispatch.offers(line, &self.state.lite) {
                None => Ok(Selection::default()),
                Some(mut offers) => {
                    select::select_lite(reader, subscription, topic, index, &want, &mut offers, &mut contents)
                }
            },
        };
        let selection = selected.map_err(|error| damaged(&error))?;
        if has_priorities && !selection.fresh.is_empty() {
            subscription.turn.shared = (subscription.turn.shared + shared_percent) % 100;
        }
        Ok(selection)
    }

    fn commit_leases(&mut self, ask: &Ask, until: u64, selection: Selection) -> Vec<Pick> {
        let now_ms = self.now_ms;
        self.commit_acks(selection.expired.iter().map(|pick| (ask.reader, pick.queue, pick.offset)).collect());
        let lease = |queue: u32, picks: &[Pick]| Leased {
            group: ask.reader.group,
            topic: ask.reader.topic,
            queue,
            offsets: offsets::pack(picks.iter().map(|pick| pick.offset)),
            visible_at_ms: until,
            session: if ask.session_bound { ask.client } else { 0 },
            attempt: ask.attempt,
            leased_at_ms: now_ms,
            client: ask.client,
            ..Default::default()
        };
        let mut redeliveries = selection.redeliveries;
        redeliveries.sort_unstable_by_key(|pick| (pick.queue, pick.offset));
        for run in redeliveries.chunk_by(|a, b| a.queue == b.queue) {
            self.commit(Event::Leased(lease(run[0].queue, run)));
        }
        let is_ordered = self.state.pop.get(ask.reader).is_some_and(Subscription::is_ordered);
        let mut picks = redeliveries;
        for run in selection.fresh {
            let entries = run.picks.iter().map(|pick| &pick.entry).chain(run.passed.iter().map(|(_, entry)| entry));
            let keys = if is_ordered { entries.map(|entry| entry.group_hash).collect() } else { Vec::new() };
            let passed = offsets::pack(run.passed.iter().map(|(offset, _)| *offset));
            let fresh = Leased { fetch_end: run.fetch_end, passed, keys, ..lease(run.queue, &run.picks) };
            self.commit(Event::Leased(fresh));
            picks.extend(run.picks);
        }
        picks
    }

    /// The answer this attempt got before, if its leases still run.
    fn repeat(&mut self, ask: &Ask) -> Option<Vec<Grant>> {
        let reader = ask.reader;
        let again = self.state.pop.get(reader)?.repeat(ask.attempt, self.now_ms)?;
        let mut grants = Vec::with_capacity(again.len());
        for granted in again {
            let row = *self.state.pop.get(reader)?.row(granted.queue, granted.offset)?;
            let key = QueueKey { topic: reader.topic, queue: granted.queue };
            let entry = self.state.index.get(key, granted.offset).ok().flatten()?;
            let Row { generation, deliveries, visible_at_ms, .. } = row;
            let pick = Pick {
                queue: granted.queue,
                offset: granted.offset,
                entry,
                generation,
                attempt: u32::from(deliveries),
            };
            grants.push(self.grant(reader, pick, visible_at_ms));
        }
        Some(grants)
    }

    fn grant(&self, reader: Reader, pick: Pick, visible_at_ms: u64) -> Grant {
        let handle = self.handle(reader, pick.queue, pick.offset, pick.generation);
        let Pick { entry, attempt, .. } = pick;
        let Entry { lsn, length, stored_ms, .. } = entry;
        Grant { lsn, length, stored_ms, handle, attempt, visible_at_ms }
    }

    fn handle(&self, reader: Reader, queue: u32, offset: u64, generation: u32) -> ReceiptHandle {
        let cursor = self.state.pop.get(reader).and_then(|s| s.cursors.get(queue));
        ReceiptHandle {
            key_id: self.state.newest_handle_key().map_or(0, |(id, _)| id),
            store_group: self.store_group,
            group: reader.group,
            topic: reader.topic,
            queue,
            epoch: cursor.map_or(0, |cursor| cursor.epoch),
            offset,
            generation,
        }
    }

    fn parse_ask(&mut self, request: &PopRequest, client: u64) -> Result<(Reader, Option<Line>, Filter), Error> {
        let filter = self.filters.parse(request.filter.as_ref())?;
        let topic = self.state.topics.named(&request.topic).ok_or_else(|| topic_not_found(&request.topic))?;
        if !topic.is_readable() {
            return Err(catalog::gives_no_messages(&topic.settings));
        }
        let topic = topic.settings.id;
        let group = self.find_or_create_reader(&request.group, topic, request.create_group)?;
        let reader = Reader { group, topic };
        Ok((reader, self.lite_line(reader, client)?, filter))
    }

    pub(super) fn find_or_create_group(&mut self, name: &str, create: bool) -> Result<u32, Error> {
        if let Some(group) = self.state.groups.named(name) {
            if group.consume_disabled {
                return Err(catalog::may_not_consume(name));
            }
            return Ok(group.id);
        }
        if !create || !self.config.create_groups {
            return Err(catalog::group_not_found(name));
        }
        let parsed = GroupName::parse(name).map_err(|invalid| Error::new(Reason::Invalid, invalid.to_string()))?;
        let group = catalog::new_group(self.state.groups.next_id(), parsed.as_str(), self.now_ms);
        let id = group.id;
        self.commit(Event::GroupSet(group));
        Ok(id)
    }

    /// Gives a group its first position in every queue of a topic at once: the beginning of a young
    /// queue, else the last message that is there.
    pub(super) fn start_reading(&mut self, reader: Reader) -> Result<(), Error> {
        if self.state.pop.get(reader).is_some_and(|subscription| subscription.started) {
            return Ok(());
        }
        // In a LITE topic a group begins with each subscription.
        let Some(topic) = self.state.topics.get(reader.topic).filter(|topic| !topic.is_lite()) else { return Ok(()) };
        let queues = u32::try_from(topic.queues.len()).unwrap_or(u32::MAX);
        let mut positions = Vec::with_capacity(queues as usize);
        for queue in 0..queues {
            positions.push(Position { queue, offset: self.first_offset(reader.topic, queue)? });
        }
        self.make_room(positions.len() * POSITION_BYTES)?;
        self.commit(Event::CursorsSet(CursorsSet { group: reader.group, topic: reader.topic, positions }));
        Ok(())
    }

    /// Where a group begins in a queue that it has no place in.
    pub(super) fn first_offset(&self, topic: u32, queue: u32) -> Result<u64, Error> {
        let Some(known) = self.state.topics.get(topic) else { return Ok(0) };
        let Some(ends) = known.queues.get(queue as usize) else { return Ok(0) };
        // What the queue of a lite topic held before belonged to another one.
        let names = self.state.lite.names(topic);
        let base = names.and_then(|names| names.get(queue)).map_or(0, |lite| lite.base);
        let first = self.state.index.get(QueueKey { topic, queue }, base).map_err(|error| damaged(&error))?;
        let end = self.log.next();
        let is_near = first.is_none_or(|entry| end.0 - entry.lsn.0.min(end.0) <= self.config.young_log_bytes);
        let is_young = ends.start == base && is_near;
        Ok(if is_young { base } else { ends.end.saturating_sub(1).max(ends.start) })
    }

    /// Settles leases for good; each entry has its own outcome.
    pub fn ack(&mut self, entries: &[centaur_apis::store::AckEntry]) -> Vec<Option<Error>> {
        let mut settled: Vec<(Reader, u32, u64)> = Vec::with_capacity(entries.len());
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            match self.find_lease(&entry.group, &entry.topic, &entry.handle) {
                Ok(Found::Held(lease, _)) => {
                    settled.push((lease.reader, lease.queue, lease.offset));
                    outcomes.push(None);
                }
                Ok(Found::Finished) => outcomes.push(None),
                Err(error) => outcomes.push(Some(error)),
            }
        }
        metrics::acked(self.commit_acks(settled));
        outcomes
    }

    /// Settles messages of readers, by queue and offset; says how many.
    fn commit_acks(&mut self, mut settled: Vec<(Reader, u32, u64)>) -> u64 {
        settled.sort_unstable();
        settled.dedup();
        for run in settled.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (reader, queue, _) = run[0];
            if self.waiters.of(reader) > 0 {
                self.runnable.insert(reader); // a limit on unfinished messages may have held it up
            }
            let offsets = offsets::pack(run.iter().map(|(_, _, offset)| *offset));
            self.commit(Event::Acked(Acked { group: reader.group, topic: reader.topic, queue, offsets }));
        }
        settled.len() as u64
    }

    /// Gives a lease another end; the message gets another handle.
    pub fn change_visibility(&mut self, request: &ChangeVisibilityRequest) -> Result<ReceiptHandle, Error> {
        let (lease, row) = match self.find_lease(&request.group, &request.topic, &request.handle)? {
            Found::Held(lease, row) => (lease, row),
            Found::Finished => return Err(invalid_handle("the message is settled already")),
        };
        self.commit(Event::VisibilityChanged(VisibilityChanged {
            group: lease.reader.group,
            topic: lease.reader.topic,
            queue: lease.queue,
            offset: lease.offset,
            visible_at_ms: self.now_ms + request.invisible_ms.min(INVISIBLE_MS_MAX),
            uncounted: request.uncounted,
            keeps_handle: false,
        }));
        Ok(self.handle(lease.reader, lease.queue, lease.offset, row.generation + 1))
    }

    /// Ends a client: what is leased for as long as it lives is visible again after `linger_ms`, and
    /// until then its handles are good. Says how much that is.
    pub fn end_session(&mut self, request: &EndSessionRequest) -> u64 {
        let EndSessionRequest { client, group, linger_ms } = request;
        let linger_ms = (*linger_ms).min(LINGER_MS_MAX);
        let session = hash64(client.as_bytes());
        let held = self.state.pop.rows_held(session);
        if held == 0 {
            return self.end_lite_client(request, linger_ms);
        }
        let group =
            if group.is_empty() { 0 } else { self.state.groups.named(group).map_or(u32::MAX, |group| group.id) };
        let visible_at_ms = self.now_ms + linger_ms;
        self.commit(Event::SessionEnded(SessionEnded { session, visible_at_ms, group }));
        let ended = held - self.state.pop.rows_held(session);
        ended + self.end_lite_client(request, linger_ms)
    }

    /// Notes that clients were heard from.
    pub fn touch(&mut self, clients: &[String]) {
        for client in clients {
            let session = hash64(client.as_bytes());
            if self.state.pop.rows_held(session) > 0 {
                self.seen.insert(session, self.now_ms);
            }
        }
    }

    /// Ends leases whose receiver went away before it got them.
    pub(super) fn take_returned(&mut self) {
        let returned = mem::take(&mut *self.returned.lock().unwrap_or_else(PoisonError::into_inner));
        for (reader, grants) in returned {
            self.give_back(reader, &grants);
        }
    }

    /// Makes messages visible that were leased and not received; the delivery does not count. Without
    /// room on the disk their leases run out by themselves.
    fn give_back(&mut self, reader: Reader, grants: &[Grant]) {
        for grant in grants {
            let ReceiptHandle { queue, offset, generation, epoch, .. } = grant.handle;
            let cursor = self.state.pop.get(reader).and_then(|s| s.cursors.get(queue));
            // Since a reset, another one may hold it by a lease that counts from the beginning.
            let row = cursor.filter(|cursor| cursor.epoch == epoch).and_then(|cursor| cursor.rows.get(&offset));
            let is_held = row.is_some_and(|row| row.generation == generation && row.hold == Hold::Leased);
            if is_held && self.make_room(VISIBILITY_BYTES).is_ok() {
                self.commit(Event::VisibilityChanged(VisibilityChanged {
                    group: reader.group,
                    topic: reader.topic,
                    queue,
                    offset,
                    visible_at_ms: self.now_ms,
                    uncounted: true,
                    keeps_handle: false,
                }));
            }
        }
    }

    /// A handle as clients carry it.
    pub fn seal(&self, handle: &ReceiptHandle) -> String {
        self.state.newest_handle_key().map(|(_, key)| handle.seal(key)).unwrap_or_default()
    }

    pub(super) fn find_lease(&self, group: &str, topic: &str, handle: &str) -> Result<Found, Error> {
        let Some(handle) = ReceiptHandle::open(handle, |id| self.state.handle_key(id)) else {
            metrics::forged_handle();
            return Err(invalid_handle("it was not made by this store"));
        };
        if self.state.newest_handle_key().is_none_or(|(id, _)| id != handle.key_id) {
            return Err(invalid_handle("a power failure came after it was given out; the message comes again"));
        }
        let reader = Reader { group: handle.group, topic: handle.topic };
        let same = handle.store_group == self.store_group
            && self.state.topics.get(handle.topic).is_some_and(|t| t.settings.name == topic)
            && self.state.groups.get(handle.group).is_some_and(|g| g.name == group);
        if !same {
            return Err(invalid_handle("it belongs to another group or topic"));
        }
        let cursor = self.state.pop.get(reader).and_then(|s| s.cursors.get(handle.queue));
        let Some(cursor) = cursor.filter(|cursor| cursor.epoch == handle.epoch) else {
            return Err(invalid_handle("the group's position was changed since"));
        };
        let lease = Lease { reader, queue: handle.queue, offset: handle.offset };
        match cursor.rows.get(&handle.offset) {
            None if handle.offset < cursor.fetch => Ok(Found::Finished),
            None => Err(invalid_handle("it names a message that was not delivered")),
            Some(row) if row.generation != handle.generation => {
                Err(invalid_handle("the message was delivered again or has another handle"))
            }
            Some(row) if row.visible_at_ms <= self.now_ms => Err(invalid_handle("its invisible time is over")),
            Some(row) => Ok(Found::Held(lease, *row)),
        }
    }
}

/// A place that someone holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub reader: Reader,
    pub queue: u32,
    pub offset: u64,
}

pub(super) enum Found {
    Held(Lease, Row),
    /// Settled already: asking again is no error.
    Finished,
}

fn attempt_hash(client: &str, attempt: &str) -> u64 {
    if attempt.is_empty() { 0 } else { hash64(format!("{client}\0{attempt}").as_bytes()) }
}

fn invalid_handle(why: &str) -> Error {
    Error::new(Reason::InvalidHandle, format!("receipt handle is not valid: {why}"))
}

pub(super) fn damaged(error: &dyn std::fmt::Display) -> Error {
    tracing::error!(%error, "index cannot be read");
    metrics::damaged();
    Error::new(Reason::Damaged, format!("index cannot be read: {error}"))
}

/// Whether a topic is one that the system makes.
pub(super) fn is_system(name: &str) -> bool {
    TopicName::parse(name).is_ok_and(|name| name.is_derived())
}
