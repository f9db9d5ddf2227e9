//! What the stores want clients to be told: questions about transactions, lite topics that were
//! lost. Nothing calls a proxy, so it asks, once a second, as long as there is somebody to tell.

use std::{collections::HashMap, sync::Arc, time::Duration};

use centaur_apis::{
    store::{Check, Error, ListNoticesRequest, ListNoticesResponse, Notice, TakeChecksRequest, TakeChecksResponse},
    v2::{
        NotifyUnsubscribeLiteCommand, RecoverOrphanedTransactionCommand, TelemetryCommand, telemetry_command::Command,
    },
};

use crate::{
    Inner, convert,
    sessions::{Role, Session, Unheard},
    stores::Client,
};

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(1);
/// Questions taken in one round.
const CHECKS_MAX: u32 = 256;
/// Producers tried for one question; source: public contract, transaction checks.
const TRIES: usize = 3;
/// Pause before clients that do not read fast enough are tried once more.
const FULL_PAUSE: Duration = Duration::from_millis(50);
/// Topics whose turn is remembered.
const TURNS_MAX: usize = 10_000;

/// One proxy's errands.
pub(crate) struct Errands<'a> {
    proxy: &'a Inner,
    /// Whose turn it is, by topic: a producer that cannot tell does not stand in the way of others.
    turns: HashMap<String, usize>,
    /// The last notice seen.
    noticed: u64,
}

impl<'a> Errands<'a> {
    pub(crate) fn new(proxy: &'a Inner) -> Self {
        Self { proxy, turns: HashMap::new(), noticed: 0 }
    }

    /// Goes on until it is dropped. What was taken from a store and not told yet is asked again by
    /// the store's own intervals.
    pub(crate) async fn run(mut self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.proxy.sessions.has(Role::Producer)
                && let Err(error) = self.ask_about_transactions().await
            {
                tracing::debug!(error = error.message, "no questions about transactions could be taken");
            }
            if self.proxy.sessions.has(Role::Lite)
                && let Err(error) = self.tell_of_lite_topics().await
            {
                tracing::debug!(error = error.message, "no notices about lite topics could be read");
            }
        }
    }

    /// Takes the questions that a client of this proxy can be asked, and asks.
    async fn ask_about_transactions(&mut self) -> Result<(), Error> {
        let due = self.take_checks(Vec::new()).await?.due_topics;
        if due.is_empty() {
            return Ok(());
        }
        let producers = self.proxy.sessions.producers(&due);
        if producers.is_empty() {
            return Ok(());
        }
        let taken = self.take_checks(producers.keys().cloned().collect()).await?;
        for check in taken.checks {
            let Some(producers) = producers.get(&check.topic) else { continue };
            self.ask(check, producers).await;
        }
        Ok(())
    }

    async fn ask(&mut self, check: Check, producers: &[Arc<Session>]) {
        let Some(delivery) = check.message else { return };
        let topic = check.topic;
        let host = self.proxy.config.store_group.as_str();
        let message = match convert::to_public(vec![delivery], host) {
            Ok(mut messages) => messages.pop(),
            Err(error) => {
                tracing::error!(topic, %error, "a half message cannot be read");
                return;
            }
        };
        let command = RecoverOrphanedTransactionCommand { message, transaction_id: check.ticket };
        let turn = self.next_turn(&topic);
        if !tell_one_of(producers, turn, Command::RecoverOrphanedTransactionCommand(command)).await {
            tracing::debug!(topic, "no producer takes a question about a transaction now");
        }
    }

    fn next_turn(&mut self, topic: &str) -> usize {
        if self.turns.len() >= TURNS_MAX {
            self.turns.clear();
        }
        let turn = self.turns.entry(topic.to_owned()).or_default();
        *turn = turn.wrapping_add(1);
        *turn
    }

    async fn take_checks(&self, topics: Vec<String>) -> Result<TakeChecksResponse, Error> {
        let request = TakeChecksRequest { topics, checks_max: CHECKS_MAX };
        let call = |mut store: Client| {
            let request = request.clone();
            async move { store.take_checks(request).await }
        };
        self.proxy.stores.call(call).await
    }

    /// Tells the clients of this proxy what happened since the last round.
    async fn tell_of_lite_topics(&mut self) -> Result<(), Error> {
        let request = ListNoticesRequest { after: self.noticed };
        let call = |mut store: Client| async move { store.list_notices(request).await };
        let ListNoticesResponse { notices, last } = self.proxy.stores.call(call).await?;
        // A store that counts from the beginning has started again: so does this.
        self.noticed = if last < self.noticed { 0 } else { last };
        for notice in notices {
            self.tell_of_one(notice);
        }
        Ok(())
    }

    fn tell_of_one(&self, notice: Notice) {
        let Notice { client, lite_topic, .. } = notice;
        let session = self.proxy.sessions.find(&client).filter(|session| session.has(Role::Lite));
        let Some(session) = session else { return };
        let command = Command::NotifyUnsubscribeLiteCommand(NotifyUnsubscribeLiteCommand { lite_topic });
        if session.command(unasked(command)).is_err() {
            tracing::debug!(client, "a client does not take a notice about a lite topic");
        }
    }
}

/// Tells one of these producers, from that turn on; whether one took it.
async fn tell_one_of(producers: &[Arc<Session>], turn: usize, command: Command) -> bool {
    for round in 0..2 {
        let mut is_full = false;
        for at in 0..TRIES.min(producers.len()) {
            match producers[(turn.wrapping_add(at)) % producers.len()].command(unasked(command.clone())) {
                Ok(()) => return true,
                Err(Unheard::Full | Unheard::AllFull) => is_full = true,
                Err(Unheard::NoStream) => {}
            }
        }
        if !is_full || round > 0 {
            return false;
        }
        tokio::time::sleep(FULL_PAUSE).await;
    }
    false
}

fn unasked(command: Command) -> TelemetryCommand {
    TelemetryCommand { status: None, command: Some(command) }
}
