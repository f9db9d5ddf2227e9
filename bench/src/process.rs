//! What a process has cost so far, read from `/proc`: CPU time, resident memory and bytes for a disk.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Ticks a second in `/proc/PID/stat`; the kernel's interface fixes it at 100.
const TICKS_PER_SECOND: u64 = 100;

/// The processes that make up one server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Processes(Vec<u32>);

/// What all of a server's processes have used up to one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    user: Duration,
    system: Duration,
    /// Time on a CPU of each live thread: nanoseconds where `stat` has ticks, but threads that
    /// ended are missing.
    threads: BTreeMap<u32, u64>,
    pub(crate) resident_bytes: u64,
    pub(crate) resident_peak_bytes: u64,
    /// Bytes that a disk was or will be given; none where the kernel does not tell.
    written_bytes: Option<u64>,
}

/// CPU time used between two moments, in seconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Cpu {
    pub(crate) total: f64,
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Processes {
    pub(crate) fn new(pids: Vec<u32>) -> Self {
        Self(pids)
    }

    /// This process: the load generator itself.
    pub(crate) fn own() -> Self {
        Self(vec![std::process::id()])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the usage of all of them now.
    ///
    /// Errors: a process is gone, or belongs to somebody whose `/proc` cannot be read.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let mut usage = Usage { written_bytes: Some(0), ..Usage::default() };
        for pid in &self.0 {
            usage.add(*pid).with_context(|| format!("process {pid} cannot be measured"))?;
        }
        Ok(usage)
    }
}

impl Usage {
    fn add(&mut self, pid: u32) -> Result<()> {
        let (user, system) = ticks(&fs::read_to_string(format!("/proc/{pid}/stat"))?).context("stat is malformed")?;
        self.user += user;
        self.system += system;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = task?.path();
            // A thread may end between the listing and the read.
            let Ok(text) = fs::read_to_string(path.join("schedstat")) else { continue };
            let id = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
            let run = text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok());
            self.threads.extend(id.zip(run));
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        self.resident_bytes += kibibytes(&status, "VmRSS:") << 10;
        self.resident_peak_bytes += kibibytes(&status, "VmHWM:") << 10;
        // Only the owner of a process may read it, and not every kernel counts.
        let io = fs::read_to_string(format!("/proc/{pid}/io")).ok();
        let written =
            io.and_then(|io| io.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok()));
        self.written_bytes = self.written_bytes.zip(written).map(|(all, one): (u64, u64)| all + one);
        Ok(())
    }

    /// CPU time from `earlier` to this moment.
    pub(crate) fn since(&self, earlier: &Self) -> Cpu {
        let user = self.user.saturating_sub(earlier.user).as_secs_f64();
        let system = self.system.saturating_sub(earlier.system).as_secs_f64();
        let before = |id| earlier.threads.get(id).copied().unwrap_or(0);
        let threads: u64 = self.threads.iter().map(|(id, ns)| ns.saturating_sub(before(id))).sum();
        // The threads are precise unless some ended; two roundings down of a tick are not such a case.
        let tolerance = 2.0 / TICKS_PER_SECOND as f64;
        let precise = Duration::from_nanos(threads).as_secs_f64();
        let total = if user + system > precise + tolerance { user + system } else { precise };
        Cpu { total, user, system }
    }

    /// Bytes for a disk from `earlier` to this moment.
    pub(crate) fn written_since(&self, earlier: &Self) -> Option<u64> {
        Some(self.written_bytes?.saturating_sub(earlier.written_bytes?))
    }
}

/// User and system time out of `/proc/PID/stat`. The command name may hold spaces and brackets, so
/// counting starts after the last bracket.
fn ticks(stat: &str) -> Option<(Duration, Duration)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok().map(|t| Duration::from_millis(t * 1000 / TICKS_PER_SECOND));
    Some((next()?, next()?))
}

fn kibibytes(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_command_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 9 8 7 6 150 25 0 0 20 0 4 0 100 200 300";
        assert_eq!(ticks(stat), Some((Duration::from_millis(1500), Duration::from_millis(250))));
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn own_work_shows_as_own_cpu() {
        let own = Processes::own();
        let before = own.usage().expect("own usage");
        let started = Instant::now();
        while own.usage().expect("own usage").since(&before).total < 0.05 {
            assert!(started.elapsed() < Duration::from_secs(30), "no CPU time was counted");
        }
        assert!(own.usage().expect("own usage").resident_bytes > 1 << 20);
    }

    #[test]
    fn bytes_for_a_disk_are_counted() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory on a disk");
        let own = Processes::own();
        let before = own.usage().expect("own usage");
        fs::write(directory.path().join("file"), vec![7; 1 << 20]).expect("a file");
        let written = own.usage().expect("own usage").written_since(&before);
        assert!(written.is_none_or(|bytes| bytes >= 1 << 20), "{written:?}");
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(Processes::new(vec![u32::MAX]).usage().is_err());
    }
}
