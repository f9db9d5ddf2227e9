//! Store time: the one clock that decides leases, timers and retention.
//!
//! It follows the wall clock by going a little faster or slower, never jumps and never goes back:
//! a wall clock that was set wrong, or set right again, neither ends nor stretches a lease by more
//! than a twentieth.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Where time comes from; a test brings its own.
pub trait Clock: Send {
    /// Milliseconds since 1970 by the wall clock, which may jump.
    fn wall_ms(&self) -> u64;
    /// Time since some fixed moment, which never jumps.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks. The one that never jumps also counts the time the machine sleeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> Duration {
        let since_boot = clock_gettime(ClockId::Boottime);
        Duration::new(since_boot.tv_sec.unsigned_abs(), u32::try_from(since_boot.tv_nsec).unwrap_or_default())
    }
}

/// Largest share by which store time goes faster or slower than the monotonic clock: 1 / this.
const STEER: u64 = 20;
/// A wall clock further away than this is worth an operator's look.
const ALARM_MS: u64 = 5_000;

/// Store time in milliseconds, made from a [`Clock`].
pub struct StoreTime {
    clock: Box<dyn Clock>,
    last: Duration,
    now_us: u64,
    apart: bool,
}

impl StoreTime {
    /// Starts at the later of the wall clock and the last store time in the log.
    pub fn new(clock: Box<dyn Clock>, last_stored_ms: u64) -> Self {
        let now_us = clock.wall_ms().max(last_stored_ms).saturating_mul(1000);
        Self { last: clock.monotonic(), clock, now_us, apart: false }
    }

    /// The time now; never less than what it said before.
    pub fn now_ms(&mut self) -> u64 {
        let monotonic = self.clock.monotonic();
        let passed_us = u64::try_from(monotonic.saturating_sub(self.last).as_micros()).unwrap_or(u64::MAX);
        self.last = monotonic;
        let straight_us = self.now_us.saturating_add(passed_us);
        let wall_us = self.clock.wall_ms().saturating_mul(1000);
        let away_us = wall_us.abs_diff(straight_us);
        self.report(away_us / 1000);
        let steer_us = away_us.min(passed_us / STEER);
        self.now_us = if wall_us >= straight_us { straight_us + steer_us } else { straight_us - steer_us };
        self.now_us / 1000
    }

    fn report(&mut self, away_ms: u64) {
        let apart = away_ms > ALARM_MS;
        if apart && !self.apart {
            tracing::warn!(away_ms, "wall clock jumped; store time moves towards it slowly");
        } else if self.apart && !apart {
            tracing::info!("wall clock and store time agree again");
        }
        self.apart = apart;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Hands(Arc<Mutex<(u64, Duration)>>);

    impl Hands {
        fn pass(&self, ms: u64) {
            let mut hands = self.0.lock().expect("not poisoned");
            hands.0 += ms;
            hands.1 += Duration::from_millis(ms);
        }

        fn set_wall(&self, ms: u64) {
            self.0.lock().expect("not poisoned").0 = ms;
        }
    }

    impl Clock for Hands {
        fn wall_ms(&self) -> u64 {
            self.0.lock().expect("not poisoned").0
        }

        fn monotonic(&self) -> Duration {
            self.0.lock().expect("not poisoned").1
        }
    }

    #[test]
    fn a_jump_of_the_wall_clock_bends_store_time_by_a_twentieth() {
        let hands = Hands::default();
        hands.set_wall(100_000_000);
        let mut time = StoreTime::new(Box::new(hands.clone()), 0);
        hands.set_wall(103_600_000);
        hands.pass(1_000);
        assert_eq!(time.now_ms(), 100_001_050);
        hands.set_wall(96_400_000);
        hands.pass(1_000);
        assert_eq!(time.now_ms(), 100_002_000);
    }

    #[test]
    fn a_small_difference_is_steered_away() {
        let hands = Hands::default();
        hands.set_wall(1_000_000);
        let mut time = StoreTime::new(Box::new(hands.clone()), 0);
        hands.set_wall(1_001_000);
        hands.pass(10_000);
        assert_eq!(time.now_ms(), 1_010_500);
        hands.pass(10_000);
        assert_eq!(time.now_ms(), 1_021_000);
    }

    #[test]
    fn it_starts_no_earlier_than_the_log_ends() {
        let hands = Hands::default();
        hands.set_wall(5);
        assert_eq!(StoreTime::new(Box::new(hands), 77).now_ms(), 77);
    }
}
