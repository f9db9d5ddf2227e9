//! What a load showed, as a table for people and as JSON for tools.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    meter::{Latencies, Progress, Window},
    process::{Cpu, Usage},
};

/// The result of one load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
    /// Messages a second.
    pub(crate) rate: f64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) latency: BTreeMap<&'static str, Percentiles>,
    /// Absent when no server process was named.
    pub(crate) server: Option<Server>,
    /// CPU seconds the load generator used per million messages.
    pub(crate) generator_cpu_per_million: Option<f64>,
}

/// What the server process used.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Server {
    pub(crate) cpu_seconds: Cpu,
    /// CPU seconds per million messages: the figure to compare by. Absent without messages.
    pub(crate) cpu_per_million: Option<f64>,
    /// Share of one CPU, in percent.
    pub(crate) cpu_percent: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) resident_growth_bytes: i64,
    pub(crate) resident_peak_bytes: u64,
    /// Bytes for a disk; absent where the kernel does not tell.
    pub(crate) written_bytes: Option<u64>,
}

/// How times spread, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p99_9: u64,
    pub(crate) max: u64,
}

impl Report {
    pub(crate) fn new(scenario: &'static str, progress: &Progress, window: &Window, latencies: &Latencies) -> Self {
        let seconds = window.elapsed.as_secs_f64();
        let messages = window.messages;
        let own = window.own.1.since(&window.own.0);
        Self {
            scenario,
            messages,
            seconds,
            rate: messages as f64 / seconds,
            errors: progress.errors(),
            first_error: progress.first_error(),
            latency: latencies.iter().map(|(call, times)| (call, Percentiles::of(times))).collect(),
            server: window.server.as_ref().map(|(before, after)| Server::new(before, after, seconds, messages)),
            generator_cpu_per_million: per_million(own.total, messages),
        }
    }

    /// The same report where each message counts as `times` messages.
    pub(crate) fn counted(&self, times: u64) -> Self {
        let factor = times as f64;
        let divided = |cpu: Option<f64>| cpu.map(|cpu| cpu / factor);
        let server =
            self.server.clone().map(|server| Server { cpu_per_million: divided(server.cpu_per_million), ..server });
        Self {
            messages: self.messages * times,
            rate: self.rate * factor,
            server,
            generator_cpu_per_million: divided(self.generator_cpu_per_million),
            ..self.clone()
        }
    }

    /// CPU seconds of the server per million messages, where they are known.
    pub(crate) fn cpu_per_million(&self) -> Option<f64> {
        self.server.as_ref()?.cpu_per_million
    }

    /// Bytes for a disk by message, where they are known.
    pub(crate) fn written_per_message(&self) -> Option<f64> {
        let written = self.server.as_ref()?.written_bytes?;
        (self.messages > 0).then(|| written as f64 / self.messages as f64)
    }
}

impl Server {
    fn new(before: &Usage, after: &Usage, seconds: f64, messages: u64) -> Self {
        let cpu_seconds = after.since(before);
        Self {
            cpu_seconds,
            cpu_per_million: per_million(cpu_seconds.total, messages),
            cpu_percent: 100.0 * cpu_seconds.total / seconds,
            resident_bytes: after.resident_bytes,
            resident_growth_bytes: after.resident_bytes.cast_signed() - before.resident_bytes.cast_signed(),
            resident_peak_bytes: after.resident_peak_bytes,
            written_bytes: after.written_since(before),
        }
    }
}

impl Percentiles {
    pub(crate) fn of(times: &Histogram<u64>) -> Self {
        let at = |quantile| times.value_at_quantile(quantile);
        Self {
            count: times.len(),
            mean: times.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: times.max(),
        }
    }
}

fn per_million(seconds: f64, messages: u64) -> Option<f64> {
    (messages > 0).then(|| seconds * 1e6 / messages as f64)
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: String| writeln!(f, "{name:<34}{value}");
        line("scenario", self.scenario.to_owned())?;
        line("messages", self.messages.to_string())?;
        line("seconds", format!("{:.2}", self.seconds))?;
        line("rate, messages/s", format!("{:.0}", self.rate))?;
        if let Some(server) = &self.server {
            let Cpu { user, system, .. } = server.cpu_seconds;
            if let Some(cpu) = server.cpu_per_million {
                line("server CPU s per million", format!("{cpu:.2}"))?;
            }
            let cpu = format!("{:.2} ({user:.2} user, {system:.2} system)", server.cpu_seconds.total);
            line("server CPU, s", cpu)?;
            line("server CPU, % of one", format!("{:.2}", server.cpu_percent))?;
            let resident = format!("{} ({:+})", mebibytes(server.resident_bytes), server.resident_growth_bytes);
            line("server resident, MiB (growth, B)", resident)?;
            line("server resident at most, MiB", mebibytes(server.resident_peak_bytes))?;
        }
        if let Some(written) = self.written_per_message() {
            line("server disk bytes a message", format!("{written:.0}"))?;
        }
        if let Some(cpu) = self.generator_cpu_per_million {
            line("generator CPU s per million", format!("{cpu:.2}"))?;
        }
        for (call, times) in &self.latency {
            let Percentiles { p50, p90, p99, p99_9, max, .. } = times;
            let spread = format!("p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p99_9}  max {max}");
            line(&format!("{call}, us"), spread)?;
        }
        line("errors", self.errors.to_string())?;
        match &self.first_error {
            Some(error) => line("first error", error.clone()),
            None => Ok(()),
        }
    }
}

/// A size in MiB, with one decimal place.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}
