//! What the disk gives by itself: groups of records written with one `pwrite` and synced with one
//! `fdatasync`, as a store does, without the store.

use std::{
    fmt::{self, Display, Formatter},
    fs::File,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;

use crate::{meter::histogram, report::Percentiles, target::seconds};

/// The file is written over from its beginning when its end is reached.
const FILE_BYTES: u64 = 64 << 20;
const PREWRITE_BYTES: usize = 1 << 20;

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Directory on the disk to probe
    #[arg(long, default_value = ".")]
    pub(crate) directory: PathBuf,
    /// Bytes of a record
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=4 << 20))]
    pub(crate) size: u32,
    /// Records between two syncs; several, separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16, 64, 256], value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) batch: Vec<u32>,
    /// Time for each, in seconds
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub(crate) duration: f64,
}

/// What the disk gave, one row for each group size.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Probe {
    pub(crate) record_bytes: u32,
    pub(crate) rows: Vec<Row>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) records_per_sync: u32,
    pub(crate) records_per_second: f64,
    pub(crate) mebibytes_per_second: f64,
    /// Write and sync of one group.
    pub(crate) latency: Percentiles,
}

/// Probes with a file that is gone afterwards; it blocks.
///
/// Errors: the directory cannot be written or synced.
pub(crate) fn run(options: &Options) -> Result<Probe> {
    let directory = &options.directory;
    let file = tempfile::tempfile_in(directory).with_context(|| format!("cannot write in {}", directory.display()))?;
    prewrite(&file)?;
    let duration = Duration::from_secs_f64(options.duration);
    let rows = options.batch.iter().map(|batch| row(&file, options.size, *batch, duration)).collect::<Result<_>>()?;
    Ok(Probe { record_bytes: options.size, rows })
}

/// Writes every block once, so that no sync has to record a new one.
fn prewrite(file: &File) -> Result<()> {
    let block = vec![0x5a; PREWRITE_BYTES];
    for at in (0..FILE_BYTES).step_by(PREWRITE_BYTES) {
        file.write_all_at(&block, at)?;
    }
    Ok(file.sync_all()?)
}

fn row(file: &File, size: u32, batch: u32, duration: Duration) -> Result<Row> {
    let group = vec![0xa5; size as usize * batch as usize];
    let length = group.len() as u64;
    let (mut times, mut groups, mut at) = (histogram(), 0u32, 0);
    let started = Instant::now();
    while groups == 0 || started.elapsed() < duration {
        let began = Instant::now();
        file.write_all_at(&group, at)?;
        file.sync_data()?;
        times.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        groups += 1;
        at = if at + 2 * length > FILE_BYTES { 0 } else { at + length };
    }
    let records_per_second = f64::from(groups) * f64::from(batch) / started.elapsed().as_secs_f64();
    let mebibytes_per_second = records_per_second * f64::from(size) / f64::from(1 << 20);
    Ok(Row { records_per_sync: batch, records_per_second, mebibytes_per_second, latency: Percentiles::of(&times) })
}

impl Display for Probe {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "records of {} bytes, pwrite + fdatasync", self.record_bytes)?;
        writeln!(f, "{:>14} {:>12} {:>8} {:>8} {:>8}", "records/sync", "records/s", "MiB/s", "p50 us", "p99 us")?;
        for Row { records_per_sync, records_per_second, mebibytes_per_second, latency } in &self.rows {
            let (p50, p99) = (latency.p50, latency.p99);
            writeln!(
                f,
                "{records_per_sync:>14} {records_per_second:>12.0} {mebibytes_per_second:>8.1} {p50:>8} {p99:>8}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_has_a_row_for_each_group_size() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = Options { directory: directory.path().into(), size: 512, batch: vec![1, 8], duration: 0.0 };
        let probe = run(&options).expect("a probe");
        let sizes: Vec<_> = probe.rows.iter().map(|row| (row.records_per_sync, row.latency.count)).collect();
        assert_eq!(sizes, [(1, 1), (8, 1)]);
        assert_eq!(directory.path().read_dir().expect("a listing").count(), 0, "the file stayed");
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let options = Options { directory: "/nowhere/at/all".into(), size: 1, batch: vec![1], duration: 0.0 };
        assert!(run(&options).expect_err("no directory").to_string().contains("/nowhere/at/all"));
    }
}
