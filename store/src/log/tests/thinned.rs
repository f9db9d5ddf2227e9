//! R1 and T4: a thinned segment gives its live records as they were, nothing else, and a crash or a
//! failing disk leaves either form.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::IoSlice,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;

/// Where records begin, and their bytes with padding.
pub(super) type Records = BTreeMap<Lsn, Bytes>;

/// A log of several sealed segments on a disk, and the records of each.
struct Fixture {
    disk: FaultyDisk,
    opened: Opened,
    segments: Vec<(SegmentInfo, Records)>,
}

/// Reads nothing from memory, so that files are what is read.
pub(super) fn open_cold(disk: &FaultyDisk) -> Result<Opened, OpenError> {
    let opened = open(Options { tail_bytes: 0, ..options(Path::new(DIR)) }, Arc::new(disk.clone()));
    opened.inspect(|opened| opened.reader.0.confirmed.store(opened.log.written().0, Ordering::Release))
}

fn fixture(sealed: usize, records_max: u64) -> Fixture {
    let disk = FaultyDisk::default();
    let mut opened = open_cold(&disk).expect("opens");
    let mut random = Random(records_max);
    let mut records_of: BTreeMap<Lsn, Records> = BTreeMap::new();
    while opened.log.segments().len() <= sealed {
        let body = body(random.below(40), 1 + u32::try_from(random.below(records_max)).expect("small"));
        let store_ms = opened.log.next().0;
        let block = append(&mut opened.log, &body, store_ms).expect("appends");
        let base = opened.log.segments().last().expect("one is open").base;
        records_of.entry(base).or_default().extend(split(&block));
    }
    opened.log.sync().expect("syncs");
    opened.log.set_confirmed(opened.log.durable());
    let segments = opened.log.segments();
    let segments =
        segments.into_iter().filter(|one| one.sealed).map(|one| (one, records_of[&one.base].clone())).collect();
    Fixture { disk, opened, segments }
}

pub(super) fn split(block: &Remembered) -> Records {
    let first = block.at.plus(BLOCK_HEADER_BYTES);
    let records = records(first, &block.body).map(|record| record.expect("whole"));
    let start = |at: Lsn| usize::try_from(at.0 - first.0).expect("small");
    records.map(|(at, length, _)| (at, block.body.slice(start(at)..start(at) + length as usize))).collect()
}

fn length(bytes: &Bytes) -> u32 {
    u32::try_from(bytes.len()).expect("small")
}

/// About one record in `out_of`.
pub(super) fn some_of(records: &Records, out_of: u64, random: &mut Random) -> Records {
    records.iter().filter(|_| random.below(out_of) == 0).map(|(at, bytes)| (*at, bytes.clone())).collect()
}

pub(super) fn thinning(base: Lsn, live: &Records) -> Thinning {
    Thinning { base, live: live.iter().map(|(at, bytes)| (*at, length(bytes))).collect() }
}

fn thin(opened: &mut Opened, base: Lsn, live: &Records) -> Result<(), String> {
    let thinned = opened.reader.thin(&thinning(base, live)).map_err(|error| error.to_string())?;
    assert_eq!(thinned.base(), base);
    opened.log.adopt_thinned(&thinned).map_err(|error| error.to_string())
}

/// Everything live is read as it was written; of the others nothing is.
pub(super) fn check(opened: &Opened, base: Lsn, all: &Records, live: &Records, what: &str) {
    let reader = &opened.reader;
    for (at, bytes) in all {
        let read = reader.read(*at, length(bytes));
        match live.get(at) {
            Some(_) => {
                assert_eq!(read.as_ref().expect(what), bytes, "{what}, {at}");
                assert_eq!(reader.record_length(*at).expect(what), length(bytes), "{what}, {at}");
                assert!(reader.read(*at, length(bytes) + 8).is_err() && reader.read(*at, 8).is_err(), "{what}, {at}");
            }
            None => {
                assert!(matches!(read, Err(ReadError::Retired { .. })), "{what}, {at}: {read:?}");
                let length = reader.record_length(*at);
                assert!(matches!(length, Err(ReadError::Retired { .. })), "{what}, {at}: {length:?}");
            }
        }
        assert!(reader.read(at.plus(8), 16).is_err(), "{what}: no record begins behind {at}");
    }
    let mut found = Records::new();
    let given = reader.live_records(base, &mut |at, bytes| {
        found.insert(at, bytes);
        Ok(())
    });
    given.expect(what);
    assert!(found == *live, "{what}: live records");
    let scanned = reader.scan(base, base.plus(1), &mut |_| Ok(()));
    assert!(matches!(scanned, Err(ReadError::Thinned { .. })), "{what}: {scanned:?}");
}

/// The same of a segment that may be in either form.
fn check_either(opened: &Opened, base: Lsn, all: &Records, live: &Records, what: &str) -> bool {
    let info = opened.log.segments().into_iter().find(|segment| segment.base == base).expect(what);
    if info.thinned {
        check(opened, base, all, live, what);
    } else {
        for (at, bytes) in all {
            assert_eq!(opened.reader.read(*at, length(bytes)).expect(what), bytes, "{what}, {at}");
        }
    }
    info.thinned
}

fn names(disk: &FaultyDisk, ending: &str) -> usize {
    disk.paths().iter().filter(|path| path.to_string_lossy().ends_with(ending)).count()
}

#[test]
fn live_records_are_read_as_they_were_and_others_are_gone() {
    for (seed, out_of) in [(1, 1), (2, 2), (3, 9), (4, 60), (5, 1 << 40)] {
        let Fixture { disk, mut opened, segments } = fixture(4, 40);
        let mut random = Random(seed);
        let lives: Vec<Records> = segments.iter().map(|(_, all)| some_of(all, out_of, &mut random)).collect();
        // Not in their order, and not all of them.
        for i in [2, 0, 1] {
            thin(&mut opened, segments[i].0.base, &lives[i]).expect("thins");
        }
        let infos = opened.log.segments();
        let what = format!("one in {out_of}");
        let check_all = |opened: &Opened| {
            for i in 0..3 {
                check(opened, segments[i].0.base, &segments[i].1, &lives[i], &what);
            }
            check_either(opened, segments[3].0.base, &segments[3].1, &segments[3].1, &what);
        };
        check_all(&opened);
        for (info, (before, _)) in infos.iter().zip(&segments).take(3) {
            let SegmentInfo { thinned, bytes_on_disk, .. } = *info;
            assert_eq!(*info, SegmentInfo { thinned, bytes_on_disk, ..*before }, "nothing else changes");
            let file = disk.bytes(&thin::path(Path::new(DIR), info.base));
            assert!(thinned && bytes_on_disk == file.len() as u64);
        }
        assert_eq!((names(&disk, ".seg"), names(&disk, ".thin"), names(&disk, ".tmp")), (2, 3, 0));

        append_all(&mut opened.log, 1..9, 1 << 40);
        opened.log.close().expect("closes");
        let opened = open_cold(&disk).expect("opens again");
        assert_eq!(opened.recovery.segments[..4], infos[..4]);
        check_all(&opened);
    }
}

#[test]
fn a_segment_is_thinned_again_while_it_is_read() {
    let Fixture { disk, mut opened, segments } = fixture(2, 60);
    let (info, all) = &segments[0];
    let mut live = all.clone();
    let mut random = Random(3);
    let mut bytes_before = u64::MAX;
    for round in 0..6 {
        live = some_of(&live, 1 + round % 3, &mut random);
        let thinned = opened.reader.thin(&thinning(info.base, &live)).expect("thins");
        if round > 0 {
            // It has its name already, and who has the old one in hand finds his way.
            check(&opened, info.base, all, &live, &format!("round {round}, not adopted"));
        }
        opened.log.adopt_thinned(&thinned).expect("adopts");
        opened.log.adopt_thinned(&thinned).expect("once more does nothing");
        check(&opened, info.base, all, &live, &format!("round {round}"));
        assert!(thinned.bytes_on_disk() <= bytes_before);
        bytes_before = thinned.bytes_on_disk();
    }
    let lost = all.iter().find(|(at, _)| !live.contains_key(at)).map(|(at, bytes)| (*at, bytes.clone()));
    let refused = opened.reader.thin(&thinning(info.base, &lost.into_iter().collect()));
    assert!(
        matches!(refused, Err(ThinError::Read(ReadError::Retired { .. }))),
        "what is gone does not come back: {refused:?}"
    );
    thin(&mut opened, info.base, &Records::new()).expect("thins to nothing");
    drop(opened);
    let opened = open_cold(&disk).expect("opens again");
    check(&opened, info.base, all, &Records::new(), "empty");
    assert_eq!(names(&disk, ".thin.tmp"), 0);
}

#[test]
fn a_table_of_many_pages_is_searched() {
    let Fixture { mut opened, segments, .. } = fixture(1, 600);
    let (info, all) = &segments[0];
    assert!(all.len() > 700, "{}", all.len());
    let live: Records = all.iter().skip(3).map(|(at, bytes)| (*at, bytes.clone())).collect();
    thin(&mut opened, info.base, &live).expect("thins");
    check(&opened, info.base, all, &live, "many pages");
    let reader = &opened.reader;
    let mut at = info.base;
    let mut warmed = 0;
    while at < info.end {
        reader.warm(at);
        let next = reader.0.warm.read().expect("not poisoned").back().expect("one").end;
        assert!(next > at && reader.is_hot(at), "{next} after {at}");
        at = next;
        warmed += 1;
    }
    assert_eq!(at, info.end);
    assert!(warmed > 2, "a page of the table at a time: {warmed}");
}

#[test]
fn what_cannot_be_thinned_is_refused_and_stays() {
    let Fixture { disk, mut opened, segments } = fixture(2, 20);
    let (info, all) = &segments[0];
    let open = opened.log.segments().last().expect("one is open").base;
    for base in [open, info.base.plus(8), Lsn(u64::MAX), opened.log.next()] {
        let refused = opened.reader.thin(&thinning(base, &Records::new()));
        assert!(matches!(refused, Err(ThinError::Unfit { .. })), "{base}: {refused:?}");
    }
    let (at, bytes) = all.first_key_value().expect("some");
    let hostile = [(at.plus(8), 16), (*at, length(bytes) + 8), (*at, 0), (info.end, 16), (Lsn(info.end.0 - 8), 16)];
    for record in hostile {
        let refused = opened.reader.thin(&Thinning { base: info.base, live: vec![record] });
        assert!(matches!(refused, Err(ThinError::Read(ReadError::Damaged { .. }))), "{record:?}: {refused:?}");
    }
    disk.set_capacity(Some(0));
    let refused = opened.reader.thin(&thinning(info.base, all));
    assert!(matches!(refused, Err(ThinError::Full)), "{refused:?}");
    disk.set_capacity(None);
    assert_eq!((names(&disk, ".thin"), names(&disk, ".thin.tmp")), (0, 0));
    let not_thinned = opened.reader.live_records(info.base, &mut |_, _| Ok(()));
    assert!(matches!(not_thinned, Err(ReadError::NotThinned { .. })));
    check_either(&opened, info.base, all, all, "refused");
    thin(&mut opened, info.base, all).expect("thins after all");
    check(&opened, info.base, all, all, "all of it");
}

#[test]
fn thinned_segments_leave_like_others() {
    let Fixture { disk, mut opened, segments } = fixture(3, 20);
    for (info, _) in &segments {
        let thinned = opened.reader.thin(&thinning(info.base, &Records::new())).expect("thins");
        if info.base > Lsn(0) {
            opened.log.adopt_thinned(&thinned).expect("adopts");
        }
    }
    let late = opened.reader.thin(&thinning(segments[2].0.base, &Records::new())).expect("thins again");
    disk.create(&segment::run_path(Path::new(DIR), segments[1].0.base), 8).expect("makes");
    for (info, _) in &segments {
        opened.log.remove_oldest(info.base).expect("removes");
        let gone = opened.reader.read(info.base.plus(BLOCK_HEADER_BYTES), 16);
        assert!(matches!(gone, Err(ReadError::Gone { .. })), "{gone:?}");
        let refused = opened.reader.thin(&thinning(info.base, &Records::new()));
        assert!(matches!(refused, Err(ThinError::Unfit { .. })), "{refused:?}");
    }
    opened.log.adopt_thinned(&late).expect("does nothing");
    assert_eq!((names(&disk, ".seg"), names(&disk, ".thin"), names(&disk, ".idx")), (1, 0, 0));
    let start = opened.log.segments()[0].base;
    drop(opened);
    assert_eq!(open_cold(&disk).expect("opens again").recovery.segments[0].base, start);
}

/// A disk whose first segment was thinned once and whose second never was, and what is to be left of
/// them when it is done again.
fn twice() -> (Fixture, [Records; 2], [Records; 2]) {
    let mut fixture = fixture(3, 30);
    let mut random = Random(7);
    let first = some_of(&fixture.segments[0].1, 2, &mut random);
    thin(&mut fixture.opened, fixture.segments[0].0.base, &first).expect("thins");
    let second = fixture.segments[1].1.clone();
    let live = [some_of(&first, 2, &mut random), some_of(&second, 3, &mut random)];
    (fixture, [first, second], live)
}

/// Thins both as far as it goes; whether it went to its end.
fn thin_both(opened: &mut Opened, segments: &[(SegmentInfo, Records)], live: &[Records; 2]) -> bool {
    let done = [0, 1].map(|i| thin(opened, segments[i].0.base, &live[i]).is_ok());
    done == [true, true]
}

#[test]
fn a_crash_at_any_step_leaves_either_form() {
    let (Fixture { disk, opened, segments }, before, live) = twice();
    drop(opened);
    let whole = disk.copy();
    let mut opened = open_cold(&whole).expect("opens");
    whole.set(Faults::default());
    assert!(thin_both(&mut opened, &segments, &live));
    let (steps, _, _) = whole.counts();
    assert!(steps > 8);
    let mut thinned = 0;
    for (step, seed) in (0..=steps).flat_map(|step| (0..4).map(move |seed| (step, seed))) {
        let what = format!("step {step}, seed {seed}");
        let disk = disk.copy();
        let mut opened = open_cold(&disk).expect("opens");
        disk.set(Faults { die_at_step: Some(step), ..Faults::default() });
        thin_both(&mut opened, &segments, &live);
        drop(opened);
        match seed {
            0 => disk.set(Faults::default()),
            _ => disk.power_failure(&mut Random(seed << 8 | step)),
        }
        // Recovery may crash as well.
        disk.set(Faults { die_at_step: Some(seed), ..Faults::default() });
        drop(open_cold(&disk));
        disk.power_failure(&mut Random(seed << 16 | step));
        let opened = open_cold(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        thinned += usize::from(check_either(&opened, segments[1].0.base, &segments[1].1, &live[1], &what));
        let left =
            if opened.recovery.segments[0].bytes_on_disk == bytes_of(&before[0]) { &before[0] } else { &live[0] };
        check(&opened, segments[0].0.base, &segments[0].1, left, &what);
        check_either(&opened, segments[2].0.base, &segments[2].1, &segments[2].1, &what);
        assert_eq!((names(&disk, ".seg") + names(&disk, ".thin"), names(&disk, ".thin.tmp")), (4, 0), "{what}");
    }
    assert!(thinned > 8, "some of them were done: {thinned}");
}

fn bytes_of(live: &Records) -> u64 {
    thin::records_at(live.len() as u64) + live.values().map(|bytes| bytes.len() as u64).sum::<u64>()
}

#[test]
fn a_failing_write_or_sync_leaves_the_segment_as_it_was() {
    let (Fixture { disk, opened, segments }, before, live) = twice();
    drop(opened);
    let whole = disk.copy();
    let mut opened = open_cold(&whole).expect("opens");
    whole.set(Faults::default());
    assert!(thin_both(&mut opened, &segments, &live));
    let (_, writes, syncs) = whole.counts();
    let write = (0..writes).map(|n| Faults { fail_write: Some(n), ..Faults::default() });
    let sync = (0..syncs).map(|n| Faults { fail_sync: Some(n), ..Faults::default() });
    let full = Faults { no_room: true, ..Faults::default() };
    for (i, faults) in write.chain(sync).chain([full]).enumerate() {
        let what = format!("{faults:?}");
        let disk = disk.copy();
        let mut opened = open_cold(&disk).expect("opens");
        disk.set(faults);
        assert!(!thin_both(&mut opened, &segments, &live), "{what}");
        disk.set(Faults::default());
        let check_forms = |opened: &Opened, what: &str| {
            let left =
                if opened.log.segments()[0].bytes_on_disk == bytes_of(&before[0]) { &before[0] } else { &live[0] };
            check(opened, segments[0].0.base, &segments[0].1, left, what);
            check_either(opened, segments[1].0.base, &segments[1].1, &live[1], what);
        };
        check_forms(&opened, &what);
        assert_eq!(names(&disk, ".thin.tmp"), 0, "{what}");
        append_all(&mut opened.log, 1..3, 1 << 40);
        opened.log.sync().expect("the log is not poisoned");
        if i % 2 == 0 {
            drop(opened);
            disk.power_failure(&mut Random(i as u64));
            opened = open_cold(&disk).expect("opens again");
            check_forms(&opened, &what);
        }
        assert!(thin_both(&mut opened, &segments, &live), "{what}: it can be done again");
    }
    let short = disk.copy();
    let mut opened = open_cold(&short).expect("opens");
    short.set(Faults { short_writes: true, ..Faults::default() });
    assert!(thin_both(&mut opened, &segments, &live));
    check(&opened, segments[1].0.base, &segments[1].1, &live[1], "short writes");
}

#[test]
fn a_flipped_bit_is_found() {
    let Fixture { disk, mut opened, segments } = fixture(2, 400);
    let (info, all) = &segments[0];
    let mut random = Random(5);
    let live = some_of(all, 2, &mut random);
    assert!(live.len() > 340, "more than a page of the table");
    let whole = disk.copy();
    thin(&mut opened, info.base, &live).expect("thins");
    drop(opened);
    let path = thin::path(Path::new(DIR), info.base);
    let bytes = disk.bytes(&path).len();
    let padding: BTreeSet<usize> = padding(&live).collect();
    for at in (0..bytes).step_by(37).chain(0..200) {
        let disk = disk.copy();
        disk.change(&path, at..at + 1, |byte| byte ^ 1 << (at % 8));
        let Ok(opened) = open_cold(&disk) else {
            assert!(at < page::PAGE, "byte {at}");
            continue;
        };
        assert!(at >= page::PAGE, "byte {at}");
        let mut is_found = padding.contains(&at);
        for (at, bytes) in &live {
            match opened.reader.read(*at, length(bytes)) {
                Ok(read) => assert_eq!(read[..unpadded(bytes)], bytes[..unpadded(bytes)]),
                Err(error) => {
                    assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
                    is_found = true;
                }
            }
        }
        assert!(is_found, "byte {at}");
        let listed = opened.reader.live_records(info.base, &mut |_, _| Ok(()));
        let is_damaged = matches!(listed, Err(ReadError::Damaged { .. }));
        assert_eq!(is_damaged, !padding.contains(&at), "byte {at}: {listed:?}");
        drop(opened);
        if padding.contains(&at) {
            continue;
        }
        // Beside a whole segment a damaged one does not count, and goes.
        let both = whole.copy();
        let damaged = disk.bytes(&path);
        let file = both.create(&path, damaged.len() as u64).expect("makes");
        file.write_all_at(&mut [IoSlice::new(&damaged)], 0).expect("writes");
        let opened = open_cold(&both).expect("the whole segment counts");
        assert!(!check_either(&opened, info.base, all, &live, "both"));
        assert_eq!(names(&both, ".seg") + names(&both, ".thin"), 3);
    }
}

/// Bytes of a record without its padding.
fn unpadded(bytes: &Bytes) -> usize {
    record::length(bytes).expect("whole")
}

/// Places in the file that are padding of records.
fn padding(live: &Records) -> impl Iterator<Item = usize> {
    let mut position = usize::try_from(thin::records_at(live.len() as u64)).expect("small");
    live.values().flat_map(move |bytes| {
        let record = position..position + unpadded(bytes);
        position += bytes.len();
        record.end..position
    })
}

#[test]
fn what_was_read_outlives_the_thinning() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut opened = open(Options { tail_bytes: 0, ..options(dir.path()) }, Arc::new(Disk)).expect("opens");
    let block = append(&mut opened.log, &body(39, 10), 1).expect("appends");
    opened.log.roll().expect("rolls");
    opened.log.set_confirmed(opened.log.written());
    let all = split(&block);
    let slices: Vec<_> = all.iter().map(|(at, bytes)| opened.reader.read(*at, length(bytes)).expect("reads")).collect();
    let live: Records = all.iter().skip(4).map(|(at, bytes)| (*at, bytes.clone())).collect();
    thin(&mut opened, Lsn(0), &live).expect("thins");
    assert!(!segment::path(dir.path(), Lsn(0)).exists() && thin::path(dir.path(), Lsn(0)).exists());
    assert!(slices.iter().eq(all.values()));
    check(&opened, Lsn(0), &all, &live, "on a real disk");
    opened.log.close().expect("closes");
    let opened = open(Options { tail_bytes: 0, ..options(dir.path()) }, Arc::new(Disk)).expect("opens again");
    check(&opened, Lsn(0), &all, &live, "opened again");
}

#[test]
fn who_looked_a_segment_up_before_it_was_thinned_reads_it_still() {
    let Fixture { mut opened, segments, .. } = fixture(2, 20);
    let (info, all) = &segments[0];
    let live = some_of(all, 2, &mut Random(2));
    let (before, _) = opened.reader.part_of(info.base).expect("is there");
    thin(&mut opened, info.base, &live).expect("thins");
    for (at, bytes) in all {
        let read = opened.reader.read_part(&before, *at, bytes.len());
        match live.get(at) {
            Some(_) => assert_eq!(read.expect("reads"), bytes),
            None => assert!(matches!(read, Err(ReadError::Retired { .. })), "{read:?}"),
        }
        let header = opened.reader.read_part(&before, *at, record::HEADER_BYTES);
        assert_eq!(header.ok(), live.get(at).map(|bytes| bytes.slice(..record::HEADER_BYTES)));
    }
    opened.log.remove_oldest(info.base).expect("removes");
    let gone = opened.reader.read_part(&before, info.base, 16);
    assert!(matches!(gone, Err(ReadError::Gone { .. })), "{gone:?}");
}

#[test]
fn readers_go_on_while_segments_are_thinned() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut opened = open(Options { tail_bytes: 0, ..options(dir.path()) }, Arc::new(Disk)).expect("opens");
    let mut all = Records::new();
    while opened.log.segments().len() < 25 {
        let body = body(39, 50);
        all.extend(split(&append(&mut opened.log, &body, 1).expect("appends")));
    }
    opened.log.sync().expect("syncs");
    opened.log.set_confirmed(opened.log.durable());
    let segments = opened.log.segments();
    let in_segment = |info: &SegmentInfo| all.range(info.base..info.end).map(|(at, bytes)| (*at, bytes.clone()));
    // These stay in all rounds.
    let kept: Records = all.iter().step_by(16).map(|(at, bytes)| (*at, bytes.clone())).collect();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let reader = opened.reader.clone();
            scope.spawn(|| {
                let reader = reader;
                while !is_done.load(Ordering::Acquire) {
                    for (at, bytes) in &kept {
                        assert_eq!(reader.read(*at, length(bytes)).expect("reads"), bytes);
                    }
                }
            });
        }
        for round in 1..=4 {
            for info in segments.iter().filter(|info| info.sealed) {
                let stays = |i: usize, at: &Lsn| i.is_multiple_of(1 << round) || kept.contains_key(at);
                let records = in_segment(info).enumerate().filter(|(i, (at, _))| stays(*i, at));
                thin(&mut opened, info.base, &records.map(|(_, record)| record).collect()).expect("thins");
            }
        }
        is_done.store(true, Ordering::Release);
    });
    let sealed = opened.log.segments().into_iter().filter(|info| info.sealed);
    assert!(sealed.zip(&segments).all(|(now, before)| now.thinned && now.bytes_on_disk < before.bytes_on_disk));
}

#[test]
fn a_salvage_ends_the_log_behind_a_thinned_segment() {
    let Fixture { disk, mut opened, segments } = fixture(3, 20);
    let mut random = Random(1);
    let live = some_of(&segments[1].1, 3, &mut random);
    thin(&mut opened, segments[1].0.base, &live).expect("thins");
    thin(&mut opened, segments[2].0.base, &Records::new()).expect("thins");
    let open = opened.log.segments()[3].base;
    drop(opened);
    let (info, all) = &segments[1];
    disk.create(&segment::run_path(Path::new(DIR), info.base), 8).expect("makes");
    let damaged = disk.copy();
    damaged.change(&thin::path(Path::new(DIR), segments[2].0.base), 100..101, |byte| !byte);
    let missing = disk.copy();
    missing.remove(&segment::path(Path::new(DIR), open)).expect("removes");
    for (disk, at, what) in [(damaged, segments[2].0.base, "damaged"), (missing, open, "missing")] {
        let refused = open_on(&disk);
        assert!(matches!(refused, Err(OpenError::Damaged { at: found, .. }) if found == at), "{what}: {refused:?}");
        drop(refused);
        let whole = disk.copy();
        drop(salvage_on(&whole).expect("salvages"));
        for step in 0..whole.counts().0 {
            let disk = disk.copy();
            disk.set(Faults { die_at_step: Some(step), ..Faults::default() });
            drop(salvage_on(&disk));
            disk.power_failure(&mut Random(step));
            drop(salvage_on(&disk).unwrap_or_else(|error| panic!("{what}, step {step}: {error}")));
            let mut opened = open_cold(&disk).unwrap_or_else(|error| panic!("{what}, step {step}: {error}"));
            assert_eq!(opened.log.next(), at, "{what}, step {step}");
            check(&opened, info.base, all, &live, what);
            assert!(disk.paths().contains(&segment::run_path(Path::new(DIR), info.base)), "its run is still true");
            append_all(&mut opened.log, 1..4, 1 << 40);
            opened.log.close().expect("closes");
            assert!(open_cold(&disk).expect("opens again").recovery.was_clean);
        }
    }
}
