//! The open loop: work begins at a fixed rate, whether or not earlier work is done, and its
//! latency counts from the moment it should have begun.

use std::{
    fs,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::runtime::Handle;

use crate::meter::Progress;

/// The moments at which the messages of a load are due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    start: Instant,
    interval: Duration,
}

impl Pace {
    /// `rate` messages a second, beginning now.
    pub(crate) fn begin(rate: f64) -> Self {
        Self { start: Instant::now(), interval: Duration::from_secs_f64(1.0 / rate.max(1e-3)) }
    }

    /// When message `number` should be sent.
    pub(crate) fn due(&self, number: u64) -> Instant {
        self.start + self.interval.mul_f64(number as f64)
    }

    /// Calls `begin` for each message when it is due, until the load stops. It has a thread of its
    /// own, since the timers of the runtime are a millisecond coarse.
    ///
    /// Errors: the thread cannot be started.
    pub(crate) fn drive(self, progress: Arc<Progress>, mut begin: impl FnMut(u64) + Send + 'static) -> Result<()> {
        let runtime = Handle::current();
        let drive = move || {
            let _entered = runtime.enter();
            sharpen_timer();
            for number in 0.. {
                thread::sleep(self.due(number).saturating_duration_since(Instant::now()));
                if progress.is_stopped() {
                    return;
                }
                begin(number);
            }
        };
        thread::Builder::new().name("pace".into()).spawn(drive)?;
        Ok(())
    }
}

/// Asks the kernel not to delay this thread's sleeps, by 50 us unless asked. Where that fails the
/// reported lateness shows it.
fn sharpen_timer() {
    let thread = fs::read_link("/proc/thread-self").ok();
    if let Some(id) = thread.as_ref().and_then(|path| path.file_name()?.to_str()) {
        let _ = fs::write(format!("/proc/{id}/timerslack_ns"), "1");
    }
}
