//! What has to happen without anybody asking: polls give up, rows and messages become due, clients are missed,
//! segments grow old.

use std::mem;

use centaur_apis::{
    log::{SessionEnded, control::Event},
    store::Error,
};

use super::{Granted, Machine, transact::Checking};
use crate::{config::Flush, metrics, state::pop::Reader};

/// A client not heard from for this long is gone: six heartbeats of most clients.
const SESSION_MS: u64 = 60_000;
/// How often clients are looked through.
const SESSION_CHECK_MS: u64 = 1_000;
/// Messages that missed clients let go of in one turn, those of the last client aside.
const MISSED_ROWS_MAX: u64 = 20_000;
/// How long written data may stay without a sync when `flush` is `async`.
const SYNC_MS: u64 = 500;
/// How much of it there may be.
const SYNC_BYTES: u64 = 16 << 20;
/// How often space is looked for when there is none.
const NO_ROOM_MS: u64 = 100;
/// The thread looks up at least this often.
const IDLE_MS: u64 = 10_000;

/// When each kind of upkeep is due next, store time.
#[derive(Debug, Default)]
pub struct Schedule {
    sessions_ms: u64,
    sync_ms: u64,
    pub(super) checking: Checking,
}

impl Machine {
    /// How long the thread may sleep.
    pub(super) fn upkeep_due_in_ms(&self) -> u64 {
        if self.check_alive().is_err() {
            return NO_ROOM_MS;
        }
        if !self.runnable.is_empty() {
            return 0;
        }
        let unsynced = self.log.written() > self.log.durable();
        let times = [
            self.waiters.next_deadline(),
            self.state.pop.next_wake().map(|(at, _)| at),
            (self.state.pop.sessions().next().is_some()).then_some(self.upkeep.sessions_ms),
            unsynced.then_some(self.upkeep.sync_ms),
            self.next_dropped_ms(),
            Some(self.upkeep.checking.due_ms),
            self.upcoming.next_ms(),
            Some(self.retention.due_ms),
            self.lite_due_ms(),
        ];
        let earliest = times.into_iter().flatten().min().unwrap_or(u64::MAX);
        earliest.saturating_sub(self.now_ms).min(IDLE_MS)
    }

    /// Does what is due.
    pub(super) fn keep_up(&mut self) {
        if self.failure().is_some() {
            self.refuse_waiters(
                |_| true,
                &Error::new(centaur_apis::store::Reason::Failed, "store stopped after a disk failure"),
            );
            return;
        }
        self.reserve(0);
        if self.check_alive().is_err() {
            self.expire_polls();
            self.keep_retention(); // its small records fit where nothing else does
            return;
        }
        self.take_returned();
        self.fire_due();
        self.wake_due();
        for reader in mem::take(&mut self.runnable) {
            self.serve_waiters(reader);
        }
        if self.now_ms >= self.upkeep.sessions_ms {
            self.upkeep.sessions_ms = self.now_ms + SESSION_CHECK_MS;
            self.end_missed_sessions();
            metrics::waiting_polls(self.waiters.len());
            self.report_transactions();
            self.report_scheduled();
        }
        self.keep_lite();
        self.expire_polls();
        self.discard_aged();
        self.drop_discarded();
        if self.now_ms >= self.retention.due_ms {
            self.keep_retention();
        }
        if self.config.flush == Flush::Async {
            self.sync_in_time();
        }
    }

    /// Answers parked polls with a refusal.
    pub(super) fn refuse_waiters(&mut self, which: impl Fn(Reader) -> bool, error: &Error) {
        for ask in self.waiters.take_where(which) {
            ask.refuse(error.clone());
        }
    }

    /// Subscriptions with a row that became visible get their turn.
    fn wake_due(&mut self) {
        while let Some(reader) = self.state.pop.take_wake(self.now_ms) {
            self.lite.dispatch.look_at_due(&self.state, &self.waiters, reader, self.now_ms);
            self.serve_waiters(reader);
            self.state.pop.arm(reader, self.now_ms);
        }
    }

    fn expire_polls(&mut self) {
        while let Some(ask) = self.waiters.take_expired(self.now_ms) {
            let _ = ask.reply.send(Ok(Granted::default()));
        }
    }

    fn end_missed_sessions(&mut self) {
        let (now_ms, seen) = (self.now_ms, &mut self.seen);
        // One that was never heard from since the start gets its full time first.
        let missed: Vec<u64> = self
            .state
            .pop
            .sessions()
            .filter(|session| now_ms - *seen.entry(*session).or_insert(now_ms) > SESSION_MS)
            .collect();
        let mut rows = 0;
        for session in missed {
            if self.check_alive().is_err() {
                return;
            }
            if rows >= MISSED_ROWS_MAX {
                self.upkeep.sessions_ms = now_ms; // the others have the next turn
                break;
            }
            rows += self.state.pop.rows_held(session);
            self.seen.remove(&session);
            self.commit(Event::SessionEnded(SessionEnded { session, visible_at_ms: self.now_ms, group: 0 }));
            tracing::info!(session, "client was not heard from; its messages are visible again");
        }
        let pop = &self.state.pop;
        self.seen.retain(|session, _| pop.rows_held(*session) > 0);
    }

    fn sync_in_time(&mut self) {
        let unsynced = self.log.written().0 - self.log.durable().0;
        if unsynced == 0 {
            self.upkeep.sync_ms = self.now_ms + SYNC_MS;
        } else if self.now_ms >= self.upkeep.sync_ms || unsynced >= SYNC_BYTES {
            self.sync();
            self.upkeep.sync_ms = self.now_ms + SYNC_MS;
        }
    }
}
