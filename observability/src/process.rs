//! What the operating system says about this process, read when asked for.

use std::{
    fmt::Write as _,
    fs, io,
    time::{SystemTime, UNIX_EPOCH},
};

/// Constants of the process, read once.
#[derive(Clone, Copy)]
pub(crate) struct Process {
    start_seconds: f64,
    page_bytes: u64,
    ticks_per_second: u64,
}

impl Process {
    pub(crate) fn open() -> io::Result<Self> {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        Ok(Self {
            start_seconds: start.as_secs_f64(),
            page_bytes: rustix::param::page_size() as u64,
            ticks_per_second: rustix::param::clock_ticks_per_second(),
        })
    }

    /// Adds the process series to a Prometheus text; what cannot be read is left out.
    pub(crate) fn render(&self, text: &mut String) {
        gauge(text, "process_start_time_seconds", Some(self.start_seconds));
        gauge(text, "process_resident_memory_bytes", self.resident_bytes());
        gauge(text, "process_open_fds", open_fds());
        gauge(text, "process_max_fds", rustix::process::getrlimit(rustix::process::Resource::Nofile).current);
        series(text, "process_cpu_seconds_total", "counter", self.cpu_seconds());
        series(text, "process_threads", "gauge", stat_field(19));
    }

    fn resident_bytes(&self) -> Option<u64> {
        let statm = fs::read_to_string("/proc/self/statm").ok()?;
        let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        Some(pages * self.page_bytes)
    }

    fn cpu_seconds(&self) -> Option<f64> {
        let ticks = stat_field(13)? + stat_field(14)?;
        Some(ticks as f64 / self.ticks_per_second as f64)
    }
}

/// A field of `/proc/self/stat`, counted from 0; the second one, a name in brackets, may hold spaces.
fn stat_field(index: usize) -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_ascii_whitespace().nth(index.checked_sub(2)?)?.parse().ok()
}

fn open_fds() -> Option<usize> {
    fs::read_dir("/proc/self/fd").ok().map(Iterator::count)
}

fn gauge(text: &mut String, name: &str, value: Option<impl std::fmt::Display>) {
    series(text, name, "gauge", value);
}

fn series(text: &mut String, name: &str, kind: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        // Writing to a String cannot fail.
        let _ = write!(text, "# TYPE {name} {kind}\n{name} {value}\n\n");
    }
}
