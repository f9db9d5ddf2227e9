//! S5 and S6: a crash leaves a prefix, and crashing inside recovery changes nothing.

use super::*;

/// A disk whose log has two synced blocks and three that were only written; the segment's path.
fn torn() -> (FaultyDisk, Vec<Remembered>, PathBuf) {
    let disk = FaultyDisk::default();
    let mut opened = open_on(&disk).expect("opens");
    let mut blocks = append_all(&mut opened.log, 1..3, 5);
    opened.log.sync().expect("syncs");
    blocks.extend(append_all(&mut opened.log, 3..6, 6));
    drop(opened);
    (disk, blocks, segment::path(Path::new(DIR), Lsn(0)))
}

#[test]
fn a_log_cut_at_any_byte_ends_with_its_last_whole_block() {
    let (disk, blocks, path) = torn();
    let original = disk.bytes(&path);
    let (synced, end) = (blocks[1].end, blocks[4].end);
    let file = |lsn: Lsn| usize::try_from(lsn.0).expect("small") + page::PAGE;
    for cut in file(synced)..=file(end) {
        let disk = disk.copy();
        disk.change(&path, cut..original.len(), |_| 0);
        let bytes = disk.bytes(&path);
        // The last bytes of a block may be zero: then nothing of it was lost.
        let whole = blocks.iter().take_while(|b| bytes[file(b.at)..file(b.end)] == original[file(b.at)..file(b.end)]);
        let expected: Vec<_> = whole.cloned().collect();
        let opened = open_on(&disk).expect("opens");
        let expected_end = expected.last().expect("two are synced").end;
        assert_eq!(contents(&opened), expected, "cut at {cut}");
        let is_cut = bytes[file(expected_end)..].iter().any(|byte| *byte != 0);
        let dropped = opened.recovery.cut;
        assert_eq!(dropped.map(|(at, _)| at), is_cut.then_some(expected_end), "cut at {cut}");
        assert_eq!(disk.bytes(&path)[file(expected_end)..].iter().find(|byte| **byte != 0), None, "cut at {cut}");
    }
}

#[test]
fn any_flipped_bit_of_an_unsynced_block_ends_the_log_before_it() {
    let (disk, blocks, path) = torn();
    for block in &blocks[2..] {
        let start = usize::try_from(block.at.0).expect("small") + page::PAGE;
        let bytes = usize::try_from(block.end.0 - block.at.0).expect("small");
        for bit in 0..bytes * 8 {
            let disk = disk.copy();
            let at = start + bit / 8;
            disk.change(&path, at..at + 1, |byte| byte ^ 1 << (bit % 8));
            let opened = open_on(&disk).expect("opens");
            assert_eq!(opened.log.next(), block.at, "bit {bit} of the block at {}", block.at);
            assert_eq!(opened.recovery.cut.map(|(at, _)| at), Some(block.at));
        }
    }
}

#[test]
fn a_block_that_was_cut_off_does_not_come_back() {
    let (disk, blocks, path) = torn();
    let file = |lsn: Lsn| usize::try_from(lsn.0).expect("small") + page::PAGE;
    let abandoned = disk.bytes(&path)[file(blocks[4].at)..file(blocks[4].end)].to_vec();
    disk.change(&path, file(blocks[3].at)..file(blocks[3].at) + 1, |_| 0);
    let mut opened = open_on(&disk).expect("opens");
    assert_eq!(opened.recovery.cut.map(|(at, _)| at), Some(blocks[3].at));
    // As long as the one it replaces: the abandoned block would fit behind it.
    let replaced = append(&mut opened.log, &blocks[3].body, blocks[3].store_ms).expect("appends");
    assert_eq!(replaced, blocks[3]);
    drop(opened);
    for (i, byte) in abandoned.iter().enumerate() {
        disk.change(&path, file(blocks[4].at) + i..file(blocks[4].at) + i + 1, |_| *byte);
    }
    assert_eq!(contents(&open_on(&disk).expect("opens")), blocks[..4]);
}

#[test]
fn crashing_at_any_step_of_recovery_changes_nothing() {
    for seed in 0..12 {
        let (disk, blocks, _) = torn();
        disk.power_failure(&mut Random(seed));
        let expected = contents(&open_on(&disk.copy()).expect("opens"));
        let whole = disk.copy();
        drop(open_on(&whole).expect("opens"));
        let (steps, _, _) = whole.counts();
        assert!(steps > 2 && expected.len() >= 2 && blocks.starts_with(&expected), "seed {seed}");
        for step in 0..steps {
            let disk = disk.copy();
            disk.set(Faults { die_at_step: Some(step), ..Faults::default() });
            drop(open_on(&disk));
            disk.power_failure(&mut Random(seed ^ step << 8));
            let opened = open_on(&disk).expect("opens again");
            assert_eq!(contents(&opened), expected, "seed {seed}, step {step} of {steps}");
        }
    }
}

#[test]
fn crashing_at_any_step_of_a_life_loses_nothing_synced() {
    let life = |disk: &FaultyDisk| {
        let mut blocks = Vec::new();
        let mut synced = 0;
        let mut run = || -> Result<(), Failure> {
            let Ok(mut opened) = open_on(disk) else { return Ok(()) };
            for seed in 1..90 {
                let body = body(seed, 20);
                // What was asked for may be there although the answer was an error.
                let at = opened.log.next();
                blocks.push(Remembered { at, end: at, store_ms: 1000 * seed, body: body.clone() });
                let block = append(&mut opened.log, &body, 1000 * seed)?;
                *blocks.last_mut().expect("just pushed") = block;
                if seed % 3 == 0 {
                    opened.log.sync()?;
                    synced = blocks.len();
                }
            }
            opened.log.close()?;
            synced = blocks.len();
            Ok(())
        };
        let outcome = run();
        (blocks, synced, outcome)
    };
    let disk = FaultyDisk::default();
    let (all, _, outcome) = life(&disk);
    assert!(outcome.is_ok() && disk.paths().iter().filter(|p| p.extension().is_some_and(|e| e == "seg")).count() > 2);
    let (steps, _, _) = disk.counts();
    for step in 0..steps {
        let disk = FaultyDisk::default();
        disk.set(Faults { die_at_step: Some(step), ..Faults::default() });
        let (_, synced, _) = life(&disk);
        disk.power_failure(&mut Random(step));
        let opened = open_on(&disk).unwrap_or_else(|error| panic!("step {step} of {steps}: {error}"));
        let found = contents(&opened);
        assert!(found.len() >= synced, "step {step}: {} blocks of {synced} synced", found.len());
        assert!(all.starts_with(&found), "step {step}: not a prefix");
    }
}
