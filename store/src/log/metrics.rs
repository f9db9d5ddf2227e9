//! What the log counts. One function for each series; the name ends in its unit.

use metrics::{counter, histogram};

pub(super) fn appended(seconds: f64, bytes: u64) {
    histogram!("centaur_store_log_append_seconds").record(seconds);
    counter!("centaur_store_log_blocks_total").increment(1);
    counter!("centaur_store_log_bytes_total").increment(bytes);
}

pub(super) fn synced(seconds: f64) {
    histogram!("centaur_store_log_sync_seconds").record(seconds);
}

pub(super) fn failed(what: &'static str) {
    counter!("centaur_store_log_failures_total", "what" => what).increment(1);
}

/// A place of the log that should hold data and does not.
pub(super) fn damaged() {
    counter!("centaur_store_log_damaged_reads_total").increment(1);
}

#[allow(clippy::cast_precision_loss)] // a gauge is an approximation
pub(super) fn space(free_bytes: u64, stage: u8) {
    metrics::gauge!("centaur_store_log_free_bytes").set(free_bytes as f64);
    metrics::gauge!("centaur_store_log_disk_stage").set(f64::from(stage));
}
