//! The machine under a measurement, for the line that every published figure carries.

use std::{
    fmt::{self, Display, Formatter},
    fs, thread,
};

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) kernel: String,
    pub(crate) memory_kib: u64,
}

/// CPU time of the whole machine up to one moment, in ticks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ticks {
    all: u64,
    stolen: u64,
}

impl Machine {
    /// Describes this machine; what cannot be read stays empty.
    pub(crate) fn describe() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str, mark| {
            let line = text.lines().find(|line| line.starts_with(key));
            line.and_then(|line| Some(line.split_once(mark)?.1.trim().to_owned())).unwrap_or_default()
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal", ':');
        Self {
            cpu: value(&read("/proc/cpuinfo"), "model name", ':'),
            cpus: thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_kib: memory.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0),
        }
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { cpu, cpus, kernel, memory_kib } = self;
        write!(f, "{cpus} x {cpu}, {} GiB, Linux {kernel}", memory_kib >> 20)
    }
}

impl Ticks {
    pub(crate) fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::parse(stat.lines().next().unwrap_or_default())
    }

    fn parse(line: &str) -> Self {
        // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user already.
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|t| t.parse().ok()).collect();
        Self { all: ticks.iter().sum(), stolen: ticks.get(7).copied().unwrap_or(0) }
    }

    /// Share of the time since `earlier` that the host gave to others, in percent.
    pub(crate) fn stolen_percent(&self, earlier: &Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all).max(1);
        100.0 * self.stolen.saturating_sub(earlier.stolen) as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_a_share_of_all_time() {
        let before = Ticks::parse("cpu  10 0 10 70 0 0 0 10 5 0");
        let after = Ticks::parse("cpu  60 0 10 119 0 0 0 11 9 0");
        assert_eq!(after.stolen_percent(&before), 1.0);
        assert_eq!(Ticks::parse("").stolen_percent(&before), 0.0);
    }

    #[test]
    fn this_machine_has_cpus() {
        assert!(Machine::describe().cpus > 0);
    }
}
