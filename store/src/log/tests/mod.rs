//! Promises of the log, kept against a failing disk.

use std::{path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use centaur_apis::{
    log::{Acked, Control, control::Event},
    names::StoreGroupName,
    units::Term,
};

use super::{record, *};

mod basics;

const SEGMENT_BYTES: u64 = 64 << 10;

fn options(dir: &Path) -> Options {
    let store_group = StoreGroupName::parse("orders").expect("valid");
    Options { dir: dir.to_owned(), store_group, segment_bytes: SEGMENT_BYTES, tail_bytes: 16 << 10, salvage: false }
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
