//! How far a command is: a bar while it runs, counts and latencies when it is over.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

/// Longest latency that is told apart from longer ones, in µs: an hour.
const LATENCY_MAX_US: u64 = 3_600_000_000;
const REDRAWS_PER_SECOND: u8 = 10;

/// Counts what is done.
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
    bytes: u64,
    /// In µs.
    latencies: Histogram<u64>,
    failed: u64,
}

impl Progress {
    /// Begins; the bar shows on a terminal, and only when there is more than one thing to do.
    pub(crate) fn begin(total: Option<u64>) -> Self {
        let is_shown = io::stderr().is_terminal() && total != Some(1);
        let target = if is_shown {
            ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = match total {
            Some(total) => {
                ProgressBar::with_draw_target(Some(total), target).with_style(style("{wide_bar} {pos}/{len}"))
            }
            None => ProgressBar::with_draw_target(None, target).with_style(style("{spinner} {pos}")),
        };
        let latencies = Histogram::new_with_max(LATENCY_MAX_US, 3).expect("bounds that fit each other");
        Self { bar, began: Instant::now(), bytes: 0, latencies, failed: 0 }
    }

    /// One more is done, `bytes` large, after `latency`.
    pub(crate) fn done(&mut self, bytes: usize, latency: Duration) {
        self.bytes += bytes as u64;
        self.latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        self.bar.inc(1);
    }

    /// One more could not be done.
    pub(crate) fn failed(&mut self) {
        self.failed += 1;
    }

    /// How many could not be done.
    pub(crate) fn failures(&self) -> u64 {
        self.failed
    }

    /// How many are done.
    pub(crate) fn count(&self) -> u64 {
        self.latencies.len()
    }

    /// Ends the bar; gives one line, and the same as JSON.
    pub(crate) fn finish(&self, verb: &str) -> (String, Value) {
        self.bar.finish_and_clear();
        let seconds = self.began.elapsed().as_secs_f64().max(1e-6);
        let count = self.count();
        let rate = count as f64 / seconds;
        let mib_rate = self.bytes as f64 / seconds / f64::from(1 << 20);
        let at = |quantile: f64| self.latencies.value_at_quantile(quantile) as f64 / 1000.0;
        let (p50, p99, max) = (at(0.5), at(0.99), self.latencies.max() as f64 / 1000.0);
        let failed = if self.failed == 0 { String::new() } else { format!(", {} failed", self.failed) };
        let line = format!(
            "{verb} {count} messages{failed} in {seconds:.2} s: {rate:.0}/s, {mib_rate:.1} MiB/s; \
             latency p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms"
        );
        let json = json!({
            "messages": count,
            "failed": self.failed,
            "bytes": self.bytes,
            "seconds": seconds,
            "messages_per_second": rate,
            "latency_ms": { "p50": p50, "p99": p99, "max": max },
        });
        (line, json)
    }
}

fn style(template: &str) -> ProgressStyle {
    let template = format!("{template}  {{per_sec}}  {{elapsed}}");
    ProgressStyle::with_template(&template).expect("a template written above")
}
