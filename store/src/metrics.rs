//! What the store counts. One function for each series; the name ends in its unit.

use metrics::{counter, gauge, histogram};

pub fn stored(messages: u64, bytes: u64) {
    counter!("centaur_store_messages_in_total").increment(messages);
    counter!("centaur_store_message_bytes_in_total").increment(bytes);
}

pub fn delivered(messages: u64, redelivered: u64) {
    counter!("centaur_store_messages_out_total").increment(messages);
    if redelivered > 0 {
        counter!("centaur_store_messages_redelivered_total").increment(redelivered);
    }
}

pub fn acked(messages: u64) {
    counter!("centaur_store_messages_acked_total").increment(messages);
}

pub fn dead_lettered() {
    counter!("centaur_store_messages_dead_lettered_total").increment(1);
}

/// Messages whose id the topic had seen, and that were not stored again.
pub fn duplicates(messages: u64) {
    if messages > 0 {
        counter!("centaur_store_messages_duplicate_total").increment(messages);
    }
}

/// How dead letters fared that were to be sent again.
pub fn redriven(outcome: &'static str) {
    counter!("centaur_store_dead_letters_redriven_total", "outcome" => outcome).increment(1);
}

/// Undecided transactions: how many there are, how many of them nobody is asked about any more, and
/// the age of the oldest.
pub fn transactions(undecided: usize, discarded: usize, oldest_ms: u64) {
    #[allow(clippy::cast_precision_loss)] // a gauge is an approximation
    let [undecided, discarded, oldest_ms] = [undecided as f64, discarded as f64, oldest_ms as f64];
    gauge!("centaur_store_transactions_undecided").set(undecided);
    gauge!("centaur_store_transactions_discarded").set(discarded);
    gauge!("centaur_store_transaction_oldest_seconds").set(oldest_ms / 1000.0);
}

/// Questions about transactions that were handed out.
pub fn transaction_checks(checks: u64) {
    counter!("centaur_store_transaction_checks_total").increment(checks);
}

pub fn transaction_ended(resolution: &'static str) {
    counter!("centaur_store_transactions_ended_total", "resolution" => resolution).increment(1);
}

/// Messages that a group did not finish while they were of use.
pub fn expired_by_ttl(messages: u64) {
    if messages > 0 {
        counter!("centaur_store_messages_expired_by_ttl_total").increment(messages);
    }
}

pub fn expired_unconsumed(messages: u64) {
    if messages > 0 {
        counter!("centaur_store_messages_expired_unconsumed_total").increment(messages);
    }
}

/// A handle whose seal does not fit: forged, or made with a key that is gone.
pub fn forged_handle() {
    counter!("centaur_store_receipt_handles_forged_total").increment(1);
}

pub fn refused_busy() {
    counter!("centaur_store_refused_busy_total").increment(1);
}

/// Messages that wait for their time, and how late the first of them is.
pub fn scheduled(messages: u64, late_ms: u64) {
    #[allow(clippy::cast_precision_loss)] // a gauge is an approximation
    gauge!("centaur_store_scheduled_messages").set(messages as f64);
    #[allow(clippy::cast_precision_loss)] // as above
    gauge!("centaur_store_scheduled_late_seconds").set(late_ms as f64 / 1000.0);
}

/// Scheduled messages came due and are in their queues.
pub fn fired(messages: u64) {
    counter!("centaur_store_scheduled_fired_total").increment(messages);
}

pub fn recalled() {
    counter!("centaur_store_scheduled_recalled_total").increment(1);
}

/// A segment is gone with everything in it.
pub fn segment_removed() {
    counter!("centaur_store_segments_removed_total").increment(1);
}

/// A segment was rewritten with what is still needed of it.
pub fn segment_thinned() {
    counter!("centaur_store_segments_thinned_total").increment(1);
}

pub fn damaged() {
    counter!("centaur_store_messages_unreadable_total").increment(1);
}

pub fn poisoned() {
    gauge!("centaur_store_failed").set(1.0);
}

pub fn waiting_polls(polls: usize) {
    #[allow(clippy::cast_precision_loss)] // a gauge is an approximation
    gauge!("centaur_store_waiting_polls").set(polls as f64);
}

pub fn recovery(seconds: f64) {
    histogram!("centaur_store_recovery_seconds").record(seconds);
}
