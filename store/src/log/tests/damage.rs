//! Damage of synced data is told from a torn tail, named, and never read as data. S4.

use super::*;

fn seg(base: Lsn) -> PathBuf {
    segment::path(Path::new(DIR), base)
}

/// Several sealed segments and an open one, every block synced, closed in order.
fn long() -> (FaultyDisk, Vec<Remembered>, Vec<SegmentInfo>) {
    let disk = FaultyDisk::default();
    let mut opened = open_on(&disk).expect("opens");
    let mut blocks = Vec::new();
    for seed in 1..130 {
        blocks.push(append(&mut opened.log, &body(39, 16), seed).expect("appends"));
        opened.log.sync().expect("syncs");
    }
    let segments = opened.log.segments();
    assert!(segments.len() >= 4);
    opened.log.close().expect("closes");
    (disk, blocks, segments)
}

fn damaged_at(outcome: Result<Opened, OpenError>) -> Lsn {
    match outcome {
        Err(OpenError::Damaged { at, .. }) => at,
        other => panic!("not refused as damaged: {other:?}"),
    }
}

/// The log is refused at `at`, byte for byte unchanged; salvage keeps what is before it.
fn check_refused(disk: &FaultyDisk, at: Lsn, blocks: &[Remembered], what: &str) {
    let before: Vec<_> = disk.paths().iter().map(|path| disk.bytes(path)).collect();
    assert_eq!(damaged_at(open_on(disk)), at, "{what}");
    let after: Vec<_> = disk.paths().iter().map(|path| disk.bytes(path)).collect();
    assert!(before == after, "{what}: a refused log is not written to");
    let kept: Vec<_> = blocks.iter().filter(|block| block.end <= at).cloned().collect();
    let opened = salvage_on(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(contents(&opened), kept, "{what}");
    drop(opened);
    assert_eq!(contents(&open_on(disk).expect("opens after salvage")), kept, "{what}");
}

#[test]
fn any_flipped_bit_of_a_synced_block_is_refused() {
    let disk = FaultyDisk::default();
    let mut opened = open_on(&disk).expect("opens");
    let mut blocks = append_all(&mut opened.log, 1..3, 5);
    opened.log.sync().expect("syncs");
    blocks.extend(append_all(&mut opened.log, 3..4, 6));
    drop(opened);
    let block = &blocks[1];
    let start = usize::try_from(block.at.0).expect("small") + page::PAGE;
    for bit in 0..usize::try_from(8 * (block.end.0 - block.at.0)).expect("small") {
        // Once by the word of the SYNC file, once by that of the next block alone.
        for has_sync in [true, false] {
            let disk = disk.copy();
            let at = start + bit / 8;
            disk.change(&seg(Lsn(0)), at..at + 1, |byte| byte ^ 1 << (bit % 8));
            if !has_sync {
                disk.change(&position::path(Path::new(DIR)), 0..8192, |_| 0);
            }
            assert_eq!(damaged_at(open_on(&disk)), block.at, "bit {bit}");
        }
    }
    disk.change(&seg(Lsn(0)), start..start + 1, |byte| !byte);
    check_refused(&disk.copy(), block.at, &blocks, "first byte of a synced block");
}

#[test]
fn missing_and_damaged_segments_are_refused() {
    let (disk, blocks, segments) = long();
    let last = segments.last().expect("some");
    let middle = segments[1];

    let lost = disk.copy();
    lost.remove(&seg(middle.base)).expect("removes");
    check_refused(&lost, middle.base, &blocks, "a segment in the middle is missing");

    let lost = disk.copy();
    lost.remove(&seg(last.base)).expect("removes");
    check_refused(&lost, last.base, &blocks, "the last segment is missing");

    let bad = disk.copy();
    bad.change(&seg(middle.base), 100..101, |byte| !byte);
    check_refused(&bad, middle.base, &blocks, "a first page is damaged");

    let bad = disk.copy();
    let end = usize::try_from(SEGMENT_BYTES).expect("small");
    let footer = end - page::PAGE..end;
    let inside = usize::try_from(blocks[1].at.0).expect("small") + page::PAGE;
    bad.change(&seg(Lsn(0)), footer.clone(), |_| 0);
    bad.change(&seg(Lsn(0)), inside..inside + 1, |byte| !byte);
    check_refused(&bad, blocks[1].at, &blocks, "a footer and a block are damaged");

    let bad = disk.copy();
    bad.change(&seg(Lsn(0)), footer, |byte| !byte);
    let opened = open_on(&bad).expect("a footer can be made again from its blocks");
    assert_eq!(opened.recovery.segments, segments);
    drop(opened);
    assert_eq!(bad.bytes(&seg(Lsn(0))), disk.bytes(&seg(Lsn(0))));
}

#[test]
fn an_interrupted_salvage_is_finished_by_any_start() {
    let (disk, blocks, segments) = long();
    let end = usize::try_from(SEGMENT_BYTES).expect("small");
    disk.change(&seg(Lsn(0)), end - page::PAGE..end, |_| 0);
    let inside = usize::try_from(blocks[1].at.0).expect("small") + page::PAGE;
    disk.change(&seg(Lsn(0)), inside..inside + 1, |byte| !byte);
    let files = |disk: &FaultyDisk| {
        let is_there = |base: &Lsn| disk.paths().contains(&seg(*base));
        let bases = segments.iter().map(|segment| segment.base).filter(is_there);
        bases.map(|base| (base, disk.bytes(&seg(base)))).collect::<Vec<_>>()
    };
    let whole = disk.copy();
    drop(salvage_on(&whole).expect("salvages"));
    for (step, seed) in (0..whole.counts().0).flat_map(|step| (0..6).map(move |seed| (step, seed))) {
        let disk = disk.copy();
        let before = files(&disk);
        disk.set(Faults { die_at_step: Some(step), ..Faults::default() });
        drop(salvage_on(&disk));
        disk.power_failure(&mut Random(seed << 8 | step));
        let is_begun = files(&disk) != before;
        match open_on(&disk) {
            Ok(opened) => assert_eq!(contents(&opened), blocks[..1], "step {step}, seed {seed}"),
            Err(error) => assert!(!is_begun, "step {step}, seed {seed}: {error}"),
        }
    }
}

#[test]
fn a_damaged_record_is_never_read_as_data() {
    let (disk, blocks, _) = long();
    let block = &blocks[1];
    let at = usize::try_from(block.at.0).expect("small") + page::PAGE + block::HEADER + 20;
    disk.change(&seg(Lsn(0)), at..at + 1, |byte| byte ^ 4);
    let opened = open_on(&disk).expect("sealed segments are not read at the start");
    let first = block.at.plus(BLOCK_HEADER_BYTES);
    let mut outcomes = records(first, &block.body).map(|record| record.expect("whole")).map(|(at, length, record)| {
        let read = opened.reader.read(at, length);
        match read {
            Ok(bytes) => record::decode(&bytes).expect("whole").0 == record,
            Err(error) => !matches!(error, ReadError::Damaged { .. }),
        }
    });
    assert_eq!(outcomes.next(), Some(false), "the damaged record");
    assert!(outcomes.all(|is_right| is_right), "the others");
    let scanned = opened.reader.scan(Lsn(0), opened.log.next(), &mut |_| Ok(()));
    assert!(matches!(scanned, Err(ReadError::Damaged { at, .. }) if at == block.at), "{scanned:?}");
}

#[test]
fn a_log_without_or_with_anothers_identity_is_refused() {
    let (disk, _, _) = long();
    let path = Path::new(DIR).join("IDENTITY");
    let other = FaultyDisk::default();
    drop(open_on(&other).expect("opens"));
    let mixed = disk.copy();
    let id = other.bytes(&path);
    mixed.change(&path, 0..id.len(), |_| 0);
    assert!(matches!(open_on(&mixed), Err(OpenError::Identity { .. })));
    mixed.remove(&path).expect("removes");
    let refused = open_on(&mixed).expect_err("no identity");
    assert!(refused.to_string().contains("missing"), "{refused}");
    let store_group = StoreGroupName::parse("payments").expect("valid");
    let refused = open(Options { store_group, ..options(Path::new(DIR)) }, Arc::new(disk));
    assert!(matches!(refused, Err(OpenError::Foreign { .. })), "{refused:?}");
}

#[test]
fn hostile_places_are_refused() {
    let (disk, blocks, _) = long();
    let opened = open_on(&disk).expect("opens");
    let end = opened.log.next();
    for at in [end, Lsn(u64::MAX), Lsn(u64::MAX - 7), Lsn(end.0 - 1)] {
        for length in [1, 16, u32::MAX] {
            assert!(opened.reader.read(at, length).is_err(), "{length} at {at}");
        }
        assert!(opened.reader.record_length(at).is_err(), "{at}");
    }
    for at in 0..blocks[1].end.0 {
        for length in [0, 1, 12, 16, 4096, u32::MAX] {
            // Wherever it is not a record, it is an error, and never a panic.
            drop(opened.reader.read(Lsn(at), length));
        }
        drop(opened.reader.record_length(Lsn(at)));
    }
    let inside = opened.reader.scan(blocks[0].at.plus(8), end, &mut |_| Ok(()));
    assert!(inside.is_err(), "no block begins there");
}
