//! Messages on their way in, those that wait for their time, and those that wait for their
//! transaction.

use std::collections::{BTreeSet, HashMap};

use centaur_apis::{
    log::Resolution,
    store::{
        AppendRequest, Batch, BatchResult, EndTransactionRequest, Half, ListScheduledRequest, ListTransactionsRequest,
        NewMessage, Reason, RecallRequest, Scheduled, TakeChecksRequest, Transaction,
    },
};

use super::Driver;
use crate::{
    command::{Draft, Parcel, Ticketed, Wait},
    harness::{message_id, reason},
    reference::{Ended, Limits, Recalled, check_same},
};

/// Lines of a list without a limit.
const LISTED: usize = 100;

impl Driver {
    pub(super) async fn send(&mut self, parcels: Vec<Parcel>) {
        let batch = |parcel: &Parcel| Batch {
            topic: parcel.topic.to_owned(),
            messages: parcel.drafts.iter().map(to_send).collect(),
        };
        let request = AppendRequest { batches: parcels.iter().map(batch).collect() };
        let results = self.client.append(request).await.expect("answered").into_inner().results;
        assert_eq!(results.len(), parcels.len());
        for (parcel, result) in parcels.into_iter().zip(results) {
            let queues = self.model.topics.get(parcel.topic).map(|topic| topic.queues.len());
            let refusal = match queues {
                None => Some(Reason::TopicNotFound),
                Some(queues) if parcel.drafts.iter().any(|draft| draft.queue as usize >= queues) => {
                    Some(Reason::Invalid)
                }
                Some(_) => None,
            };
            assert_eq!(result.error.as_ref().map(|error| error.reason()), refusal);
            if refusal.is_none() {
                self.take_sent(parcel, result);
            }
        }
    }

    /// Compares what became of each message of a batch.
    fn take_sent(&mut self, Parcel { topic, drafts }: Parcel, result: BatchResult) {
        let BatchResult { offsets, mut tickets, .. } = result;
        assert!(tickets.iter().any(|ticket| !ticket.is_empty()) || tickets.is_empty());
        tickets.resize(offsets.len(), String::new());
        let topic_id = self.model.topics[topic].id;
        let is_once = self.model.topics[topic].dedupe_ms > 0;
        let mut in_batch: HashMap<String, (u64, String)> = HashMap::new();
        assert_eq!(offsets.len(), drafts.len());
        for (Draft { queue, wait, message }, given) in drafts.into_iter().zip(offsets.into_iter().zip(tickets)) {
            let id = message.id.clone();
            let seen = in_batch.get(&id).cloned().or_else(|| self.model.earlier(topic, &id));
            if let Some(expected) = seen.filter(|_| is_once) {
                assert_eq!(given, expected, "what {id} got the first time");
                in_batch.insert(id, expected);
                continue;
            }
            let (offset, ticket) = given.clone();
            let mut place = None;
            match wait {
                Wait::Until(due_ms) if due_ms > self.model.now_ms => {
                    self.model.schedule(topic, queue, due_ms, ticket.clone(), message.clone());
                }
                Wait::Outcome(first_check_ms) => {
                    let first_check_ms =
                        if first_check_ms == 0 { self.config.transaction_timeout_ms } else { first_check_ms };
                    self.model.begin(topic, queue, first_check_ms, ticket.clone(), message.clone());
                }
                Wait::Until(_) | Wait::Nothing => {
                    assert_eq!(offset, self.model.append(topic, queue, vec![message.clone()]), "offset of {id}");
                    place = Some((queue, offset));
                }
            }
            assert_eq!(place.is_some(), ticket.is_empty(), "ticket of {id}");
            self.model.mark(topic, &message, place, &ticket);
            if place.is_none() {
                assert_eq!(offset, 0, "{id} has no place yet");
                assert!(self.tickets.iter().all(|other| other.text != ticket), "the ticket of {id} is its own");
                let is_half = matches!(wait, Wait::Outcome(_));
                self.tickets.push(Ticketed {
                    topic: topic.to_owned(),
                    topic_id,
                    id: id.clone(),
                    text: ticket,
                    is_half,
                });
            }
            in_batch.insert(id, given);
        }
    }

    pub(super) async fn recall(&mut self, topic: String, ticket: Ticketed) {
        let request = RecallRequest { topic: topic.clone(), ticket: ticket.text.clone() };
        let answer = self.client.recall(request).await;
        let answer = answer.map(|answer| answer.into_inner().message_id).map_err(|status| reason(&status));
        if self.may_forget() && self.model.may_be_forgotten(&ticket.text) && answer == Err(Reason::TooLate) {
            return;
        }
        let expected = if ticket.text.ends_with('!') || ticket.is_half {
            Err(Reason::Invalid)
        } else {
            match self.model.topics.get(&topic) {
                None => Err(Reason::TopicNotFound),
                Some(known) if known.id == ticket.topic_id => match self.model.recall(&topic, &ticket.text) {
                    Recalled::Done(id) => Ok(id),
                    Recalled::TooLate => Err(Reason::TooLate),
                },
                Some(_) if self.model.topics.values().any(|other| other.id == ticket.topic_id) => Err(Reason::Invalid),
                Some(_) => Err(Reason::TooLate),
            }
        };
        assert_eq!(answer, expected);
    }

    pub(super) async fn list_scheduled(&mut self, topic: Option<&str>, limit: u32) {
        let request = ListScheduledRequest { topic: topic.unwrap_or_default().to_owned(), limit, ..Default::default() };
        let answer = self.client.list_scheduled(request).await.map_err(|status| reason(&status));
        if topic.is_some_and(|topic| !self.model.topics.contains_key(topic)) {
            assert_eq!(answer.map(drop), Err(Reason::TopicNotFound));
            return;
        }
        let answer = answer.expect("answered").into_inner();
        let expected = self.model.scheduled(topic);
        assert_eq!(answer.total, expected.len() as u64);
        let limit = if limit == 0 { LISTED } else { limit as usize };
        let expected = expected.into_iter().take(limit).map(|(timer, message)| Scheduled {
            topic: timer.topic.clone(),
            message_id: message.id.clone(),
            due_ms: timer.due_ms,
            stored_ms: message.recorded_ms,
            body_bytes: u32::try_from(message.body.len()).expect("small"),
            ticket: timer.ticket.clone(),
        });
        assert_eq!(answer.messages, expected.collect::<Vec<_>>());
    }

    pub(super) async fn end_transaction(
        &mut self,
        topic: String,
        ticket: Ticketed,
        by_id: bool,
        resolution: Resolution,
    ) {
        let id_of = |topic: &String| self.model.topics.get(topic).map(|known| known.id);
        let is_named =
            !by_id && !ticket.text.ends_with('!') && ticket.is_half && id_of(&topic) == Some(ticket.topic_id);
        let may_be_forgotten = self.may_forget() && self.model.was_decided(&topic, &ticket.id);
        if may_be_forgotten && !is_named {
            return; // which of several messages with this id counts depends on what is left of them
        }
        let request = EndTransactionRequest {
            topic: topic.clone(),
            ticket: if by_id { String::new() } else { ticket.text.clone() },
            message_id: ticket.id.clone(),
            resolution: resolution.into(),
        };
        let answer = self.client.end_transaction(request).await;
        let answer = answer.map(|answer| answer.into_inner().resolution()).map_err(|status| reason(&status));
        if may_be_forgotten && answer == Err(Reason::TransactionNotFound) {
            return;
        }
        let expected = match self.model.topics.contains_key(&topic) {
            false => Err(Reason::TopicNotFound),
            true => match self.model.end(&topic, is_named.then_some(&ticket.text), &ticket.id, resolution) {
                Ended::Stands(resolution) => Ok(resolution),
                Ended::NotFound => Err(Reason::TransactionNotFound),
            },
        };
        assert_eq!(answer, expected);
    }

    pub(super) async fn take_checks(&mut self, topics: Vec<&'static str>, checks_max: u32) {
        let named = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let answer = self.client.take_checks(TakeChecksRequest { topics: named, checks_max }).await;
        let answer = answer.expect("answered").into_inner();
        let others = self.model.topics_to_ask().filter(|topic| !topics.contains(topic)).map(str::to_owned);
        let others: BTreeSet<String> = others.collect();
        assert_eq!(answer.due_topics.len(), others.len(), "each topic is named once");
        assert_eq!(answer.due_topics.into_iter().collect::<BTreeSet<_>>(), others);
        let limits = Limits {
            checks_max: self.config.transaction_checks_max,
            interval_ms: self.config.transaction_check_interval_ms,
            discarded_ms: self.config.transaction_discarded_ms,
        };
        let expected = self.model.take_checks(&topics, checks_max as usize, limits);
        let asked: Vec<_> = answer.checks.iter().map(|check| (&check.topic, &check.ticket)).collect();
        assert_eq!(asked, expected.iter().map(|half| (&half.topic, &half.ticket)).collect::<Vec<_>>());
        for (check, half) in answer.checks.iter().zip(&expected) {
            let message = check.message.as_ref().expect("a message");
            assert!(message.handle.is_empty(), "nothing is leased");
            check_same(&half.message, message);
        }
    }

    pub(super) async fn list_transactions(&mut self, topic: Option<&str>, discarded_only: bool, limit: u32) {
        let request = ListTransactionsRequest {
            topic: topic.unwrap_or_default().to_owned(),
            discarded_only,
            limit,
            ..Default::default()
        };
        let answer = self.client.list_transactions(request).await.map_err(|status| reason(&status));
        if topic.is_some_and(|topic| !self.model.topics.contains_key(topic)) {
            assert_eq!(answer.map(drop), Err(Reason::TopicNotFound));
            return;
        }
        let answer = answer.expect("answered").into_inner();
        let expected = self.model.undecided(topic, discarded_only);
        assert_eq!(answer.total, expected.len() as u64);
        let limit = if limit == 0 { LISTED } else { limit as usize };
        let expected = expected.into_iter().take(limit).map(|half| Transaction {
            topic: half.topic.clone(),
            message_id: half.message.id.clone(),
            ticket: half.ticket.clone(),
            stored_ms: half.message.recorded_ms,
            checks: half.checks,
            next_check_ms: if half.is_discarded { 0 } else { half.next_check_ms },
            discarded: half.is_discarded,
            body_bytes: u32::try_from(half.message.body.len()).expect("small"),
        });
        assert_eq!(answer.transactions, expected.collect::<Vec<_>>());
    }
}

fn to_send(draft: &Draft) -> NewMessage {
    let Draft { queue, wait, message } = draft;
    let (due_ms, half) = match *wait {
        Wait::Nothing => (0, None),
        Wait::Until(due_ms) => (due_ms, None),
        Wait::Outcome(first_check_ms) => (0, Some(Half { first_check_ms })),
    };
    debug_assert_eq!(message_id(&message.properties), message.id);
    NewMessage { queue: *queue, due_ms, half, ..message.to_send() }
}
