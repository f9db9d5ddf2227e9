//! Measures a load from outside: how many messages between two moments, what they cost, and how
//! long each call took. Workers count; one task watches the clock.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use anyhow::{Error, Result, anyhow};
use hdrhistogram::Histogram;
use tokio::{
    sync::{Notify, watch},
    time,
};

use crate::process::{Processes, Usage};

/// A load that fails so often has nothing to say.
const ERRORS_MAX: u64 = 100;
/// A load counted in messages gives up when none comes for so long.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Longest time a histogram tells apart, in microseconds.
const LATENCY_US_MAX: u64 = 120_000_000;

/// How long a load lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent {
    /// A warm-up that is not measured, then a time that is.
    Time { warm_up: Duration, measured: Duration },
    /// So many messages, of which the first tenth is warm-up.
    Messages(u64),
    /// So many messages, all of them measured.
    Every(u64),
}

/// What workers and the watching task share.
#[derive(Debug)]
pub(crate) struct Progress {
    messages: AtomicU64,
    errors: AtomicU64,
    first_error: OnceLock<String>,
    measuring: AtomicBool,
    /// A number of messages that the watching task waits for.
    goal: AtomicU64,
    reached: Notify,
    stop: watch::Sender<bool>,
}

/// What lies between two moments.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) elapsed: Duration,
    pub(crate) messages: u64,
    pub(crate) server: Option<(Usage, Usage)>,
    pub(crate) own: (Usage, Usage),
}

/// Times of one worker by the name of the call, in microseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(BTreeMap<&'static str, Histogram<u64>>);

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            messages: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            first_error: OnceLock::new(),
            measuring: AtomicBool::new(false),
            goal: AtomicU64::new(u64::MAX),
            reached: Notify::new(),
            stop: watch::Sender::new(false),
        }
    }

    pub(crate) fn did(&self, messages: u64) {
        // In one order with the watching task's goal and count, so that one of both sees the other.
        let before = self.messages.fetch_add(messages, SeqCst);
        let goal = self.goal.load(SeqCst);
        if before < goal && before + messages >= goal {
            self.reached.notify_one();
        }
    }

    /// Counts a failure; too many of them stop the load.
    pub(crate) fn failed(&self, error: &Error) {
        let _ = self.first_error.set(format!("{error:#}"));
        if self.errors.fetch_add(1, Relaxed) + 1 >= ERRORS_MAX {
            self.stop();
        }
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages.load(SeqCst)
    }

    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    pub(crate) fn first_error(&self) -> Option<String> {
        self.first_error.get().cloned()
    }

    pub(crate) fn is_measuring(&self) -> bool {
        self.measuring.load(Relaxed)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Resolves when the load is over.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // It can only fail when the sender is gone, and that is the load's end too.
        let _ = stop.wait_for(|stopped| *stopped).await;
    }

    /// Watches a load to its end, and stops it.
    ///
    /// Errors: a process to be measured is gone.
    pub(crate) async fn watch(&self, extent: Extent, server: &Processes) -> Result<Window> {
        let window = self.window(extent, server).await;
        self.measuring.store(false, Relaxed);
        self.stop();
        window
    }

    async fn window(&self, extent: Extent, server: &Processes) -> Result<Window> {
        self.reach(extent.warm_up()).await;
        let before = self.moment(server)?;
        self.measuring.store(true, Relaxed);
        self.reach(extent.measured()).await;
        let after = self.moment(server)?;
        Ok(Window {
            elapsed: after.at - before.at,
            messages: after.messages - before.messages,
            server: before.server.zip(after.server),
            own: (before.own, after.own),
        })
    }

    async fn reach(&self, goal: Goal) {
        match goal {
            Goal::Time(duration) => {
                let _ = time::timeout(duration, self.stopped()).await;
            }
            Goal::Messages(messages) => self.count_to(messages).await,
        }
    }

    async fn count_to(&self, goal: u64) {
        self.goal.store(goal, SeqCst);
        let mut seen = self.messages();
        while seen < goal && !self.is_stopped() {
            let waited = time::timeout(STALL_MAX, async {
                tokio::select! {
                    () = self.reached.notified() => {}
                    () = self.stopped() => {}
                }
            });
            let stalled = waited.await.is_err() && self.messages() == seen;
            if stalled {
                self.failed(&anyhow!("{seen} of {goal} messages, and no more in {} s", STALL_MAX.as_secs()));
                self.stop();
            }
            seen = self.messages();
        }
    }

    fn moment(&self, server: &Processes) -> Result<Moment> {
        let measured = if server.is_empty() { None } else { Some(server.usage()?) };
        Ok(Moment { at: Instant::now(), messages: self.messages(), server: measured, own: Processes::own().usage()? })
    }
}

#[derive(Clone, Copy, Debug)]
enum Goal {
    Time(Duration),
    Messages(u64),
}

struct Moment {
    at: Instant,
    messages: u64,
    server: Option<Usage>,
    own: Usage,
}

impl Extent {
    fn warm_up(self) -> Goal {
        match self {
            Self::Time { warm_up, .. } => Goal::Time(warm_up),
            Self::Messages(messages) => Goal::Messages(messages / 10),
            Self::Every(_) => Goal::Messages(0),
        }
    }

    fn measured(self) -> Goal {
        match self {
            Self::Time { measured, .. } => Goal::Time(measured),
            Self::Messages(messages) | Self::Every(messages) => Goal::Messages(messages),
        }
    }
}

impl Latencies {
    /// Records one call; times beyond two minutes count as two minutes.
    pub(crate) fn record(&mut self, call: &'static str, time: Duration) {
        let histogram = self.0.entry(call).or_insert_with(histogram);
        histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds what another worker recorded.
    pub(crate) fn add(&mut self, other: &Self) {
        for (call, times) in &other.0 {
            let histogram = self.0.entry(call).or_insert_with(histogram);
            histogram.add(times).expect("all histograms have the same bounds");
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        self.0.iter().map(|(call, histogram)| (*call, histogram))
    }
}

/// An empty histogram of times in microseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the bounds are right")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_add_up() {
        let (mut one, mut other) = (Latencies::default(), Latencies::default());
        one.record("send", Duration::from_micros(10));
        other.record("send", Duration::from_micros(30));
        other.record("ack", Duration::from_secs(1000));
        one.add(&other);
        let all: Vec<_> = one.iter().map(|(call, times)| (call, times.len(), times.max())).collect();
        assert_eq!(all[0].0, "ack");
        assert!(all[0].2.abs_diff(LATENCY_US_MAX) < LATENCY_US_MAX / 100);
        assert_eq!(all[1], ("send", 2, 30));
    }

    #[tokio::test]
    async fn a_load_that_only_fails_ends() {
        let progress = Progress::new();
        for i in 0..ERRORS_MAX {
            progress.failed(&anyhow!("refused {i}"));
        }
        let extent = Extent::Time { warm_up: Duration::from_secs(3600), measured: Duration::from_secs(3600) };
        let window = progress.watch(extent, &Processes::default()).await.expect("a window");
        assert_eq!(window.messages, 0);
        assert_eq!(progress.first_error().as_deref(), Some("refused 0"));
    }

    #[tokio::test]
    async fn the_first_tenth_is_not_measured() {
        let progress = Progress::new();
        progress.did(100);
        let own = Processes::own();
        let window = progress.watch(Extent::Messages(1000), &own);
        let work = async {
            while !progress.is_measuring() {
                time::sleep(Duration::from_millis(1)).await;
            }
            progress.did(900);
        };
        let (window, ()) = tokio::join!(window, work);
        assert_eq!(window.expect("a window").messages, 900);
        progress.stopped().await;
    }
}
