//! Promises of the log, kept against a failing disk.

use std::{path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use centaur_apis::{
    log::{Acked, Control, control::Event},
    names::StoreGroupName,
    units::{Lsn, Term},
};

use super::{
    faulty::{Faults, FaultyDisk, Random},
    record, *,
};

mod basics;
mod crash;
mod damage;
mod disk;
mod failures;
mod full;
mod random;
mod thinned;
mod thinned_lives;

const SEGMENT_BYTES: u64 = 64 << 10;
const DIR: &str = "/data";

fn options(dir: &Path) -> Options {
    let store_group = StoreGroupName::parse("orders").expect("valid");
    Options { dir: dir.to_owned(), store_group, segment_bytes: SEGMENT_BYTES, tail_bytes: 16 << 10, salvage: false }
}

fn open_on(disk: &FaultyDisk) -> Result<Opened, OpenError> {
    open(options(Path::new(DIR)), Arc::new(disk.clone()))
}

fn salvage_on(disk: &FaultyDisk) -> Result<Opened, OpenError> {
    open(Options { salvage: true, ..options(Path::new(DIR)) }, Arc::new(disk.clone()))
}

/// A block body of `count` records, each different.
fn body(seed: u64, count: u32) -> Bytes {
    let mut out = BytesMut::new();
    for i in 0..count {
        let offsets = (0..=seed % 40).map(|n| n * seed + u64::from(i)).collect();
        let acked = Acked { group: 1, topic: 2, queue: i, offsets };
        record::encode_control(&Control { event: Some(Event::Acked(acked)) }, &mut out);
    }
    out.freeze()
}

/// One block as the test remembers it.
#[derive(Clone, Debug, PartialEq)]
struct Remembered {
    at: Lsn,
    end: Lsn,
    store_ms: u64,
    body: Bytes,
}

/// Appends a block, rolling first if it does not fit.
fn append(log: &mut Log, body: &Bytes, store_ms: u64) -> Result<Remembered, Failure> {
    if log.room() < body.len() as u64 {
        log.roll()?;
    }
    let appended = log.append(body.clone(), 1, store_ms, Term(1))?;
    Ok(Remembered { at: appended.block, end: appended.end, store_ms, body: body.clone() })
}

/// Appends blocks of these seeds, all at store time `store_ms`.
fn append_all(log: &mut Log, seeds: std::ops::Range<u64>, store_ms: u64) -> Vec<Remembered> {
    seeds.map(|seed| append(log, &body(seed, 3), store_ms).expect("appends")).collect()
}

/// All blocks of a log from its first on.
fn contents(opened: &Opened) -> Vec<Remembered> {
    let mut found = Vec::new();
    let first = opened.recovery.segments.first().expect("one is open").base;
    let scanned = opened.reader.scan(first, opened.log.written(), &mut |block| {
        let end = block.first_record.plus(block.body.len() as u64);
        found.push(Remembered { at: block.lsn, end, store_ms: block.store_ms, body: block.body });
        Ok(())
    });
    assert_eq!(scanned.expect("scans"), opened.log.written());
    found
}
