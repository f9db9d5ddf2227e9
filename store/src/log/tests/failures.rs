//! S7 and S8: after a failed write or sync nothing more is promised, and nothing promised is lost.

use super::*;

/// Opens, appends and syncs until something fails; gives what was written and how much was synced.
fn life(disk: &FaultyDisk) -> (Vec<Remembered>, usize, Option<Failure>) {
    let (mut blocks, mut synced) = (Vec::new(), 0);
    let Ok(mut opened) = open_on(disk) else { return (blocks, synced, None) };
    for seed in 1..120 {
        match append(&mut opened.log, &body(seed, 16), 400 * seed) {
            Ok(block) => blocks.push(block),
            Err(failure) => return (blocks, synced, Some(check_poisoned(&mut opened.log, failure))),
        }
        if seed % 2 == 0 {
            match opened.log.sync() {
                Ok(end) => {
                    assert_eq!(end, opened.log.written());
                    synced = blocks.len();
                }
                Err(failure) => return (blocks, synced, Some(check_poisoned(&mut opened.log, failure))),
            }
        }
    }
    let failure = opened.log.close().err();
    (blocks, synced, failure)
}

fn check_poisoned(log: &mut Log, failure: Failure) -> Failure {
    assert!(failure.is_final(), "{failure}");
    let durable = log.durable();
    assert!(log.append(body(1, 1), 1, 1, Term(1)).is_err_and(|again| again.is_final()));
    assert!(log.sync().is_err_and(|again| again.is_final()), "a failed sync is not tried again");
    assert!(log.roll().is_err_and(|again| again.is_final()));
    assert_eq!(log.durable(), durable);
    failure
}

/// Has the log live with these faults, then the process or the power ends, and it opens again.
fn check(faults: Faults, what: &str) {
    for seed in 0..3 {
        let disk = FaultyDisk::default();
        disk.set(faults);
        let (blocks, synced, _) = life(&disk);
        disk.set(Faults::default());
        if seed > 0 {
            disk.power_failure(&mut Random(seed));
        }
        let opened = open_on(&disk).unwrap_or_else(|error| panic!("{what}, seed {seed}: {error}"));
        let found = contents(&opened);
        assert!(found.len() >= synced, "{what}, seed {seed}: {} of {synced} synced blocks", found.len());
        let same = found.iter().zip(&blocks).all(|(one, other)| one == other);
        assert!(same && found.len() <= blocks.len() + 1, "{what}, seed {seed}: not what was written");
        drop(opened);
        // What recovery took for the log is durable now.
        disk.power_failure(&mut Random(seed + 100));
        let opened = open_on(&disk).unwrap_or_else(|error| panic!("{what}, seed {seed}, again: {error}"));
        assert_eq!(contents(&opened), found, "{what}, seed {seed}");
    }
}

#[test]
fn the_log_survives_the_failure_of_any_write() {
    let disk = FaultyDisk::default();
    assert!(life(&disk).2.is_none());
    for n in 0..disk.counts().1 {
        check(Faults { fail_write: Some(n), ..Faults::default() }, &format!("write {n}"));
    }
}

#[test]
fn the_log_survives_the_failure_of_any_sync() {
    let disk = FaultyDisk::default();
    assert!(life(&disk).2.is_none());
    for n in 0..disk.counts().2 {
        check(Faults { fail_sync: Some(n), ..Faults::default() }, &format!("sync {n}"));
    }
}

#[test]
fn short_writes_are_gone_on_with() {
    let disk = FaultyDisk::default();
    disk.set(Faults { short_writes: true, ..Faults::default() });
    let (blocks, _, failure) = life(&disk);
    assert!(failure.is_none());
    assert_eq!(contents(&open_on(&disk).expect("opens")), blocks);
}
