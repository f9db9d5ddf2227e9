//! S10: a full disk is an answer, not the end; service comes back with the space.

use super::*;

#[test]
fn a_full_disk_refuses_and_recovers() {
    let disk = FaultyDisk::default();
    disk.set_capacity(Some(10 * SEGMENT_BYTES));
    let mut opened = open_on(&disk).expect("opens");
    let log = &mut opened.log;
    let mut stages = vec![log.stage()];
    let refused = loop {
        match append(log, &body(39, 20), 1) {
            Ok(_) => drop(log.sync().expect("syncs")),
            Err(failure) => break failure,
        }
        let stage = log.stage();
        if *stages.last().expect("one") != stage {
            stages.push(stage);
        }
    };
    assert!(matches!(refused, Failure::Full), "{refused}");
    assert_eq!(stages, [DiskStage::Ok, DiskStage::Tight, DiskStage::Refusing, DiskStage::Full]);
    assert!(!log.segments().is_empty());

    // Whatever still fits is taken.
    let small = body(1, 1);
    while log.room() >= small.len() as u64 {
        log.append(small.clone(), 1, 2, Term(1)).expect("appends");
    }
    log.sync().expect("syncs");

    // Retention makes room.
    let oldest = log.segments()[0];
    for _ in 0..4 {
        let base = log.segments()[0].base;
        log.remove_oldest(base).expect("removes");
    }
    log.remove_oldest(oldest.base).expect("is gone already");
    assert!(log.stage() < DiskStage::Full);
    append(log, &body(39, 20), 3).expect("appends");
    log.sync().expect("syncs");
    let (segments, next) = (log.segments(), log.next());
    opened.log.close().expect("closes");
    let opened = open_on(&disk).expect("opens again");
    assert_eq!(opened.log.next(), next);
    assert_eq!(opened.recovery.segments, segments);
}

#[test]
fn a_write_without_room_leaves_no_trace() {
    let disk = FaultyDisk::default();
    let mut opened = open_on(&disk).expect("opens");
    let mut blocks = append_all(&mut opened.log, 1..3, 1);
    disk.set(Faults { no_room: true, ..Faults::default() });
    let refused = opened.log.append(body(39, 20), 20, 2, Term(1));
    assert!(matches!(refused, Err(Failure::Full)), "{refused:?}");
    let path = segment::path(Path::new(DIR), Lsn(0));
    let end = usize::try_from(opened.log.next().0).expect("small") + page::PAGE;
    assert!(disk.bytes(&path)[end..].iter().all(|byte| *byte == 0));
    disk.set(Faults::default());
    blocks.extend(append_all(&mut opened.log, 4..6, 3));
    opened.log.sync().expect("syncs");
    drop(opened);
    disk.power_failure(&mut Random(1));
    assert_eq!(contents(&open_on(&disk).expect("opens")), blocks);
}

#[test]
fn a_disk_without_room_for_a_segment_is_said_so() {
    let disk = FaultyDisk::default();
    disk.set_capacity(Some(SEGMENT_BYTES / 2));
    let refused = open_on(&disk).expect_err("no room");
    assert!(matches!(refused, OpenError::Full { bytes: SEGMENT_BYTES, .. }), "{refused}");
    disk.set_capacity(Some(SEGMENT_BYTES * 3));
    drop(open_on(&disk).expect("opens once there is room"));
}
