//! A log whose segments are thinned and removed at random lives many lives, and every one ends in a
//! crash or a failing disk. What is left of each segment is one of the sets that were asked for. R1.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    thinned::{Records, check, open_cold, some_of, split, thinning},
    *,
};

const LIVES: u64 = 12;

struct Model {
    random: Random,
    blocks: Vec<Remembered>,
    synced: usize,
    /// What a segment may hold beside all it had, since it was last looked at.
    asked: BTreeMap<Lsn, Vec<Records>>,
    /// Where the log may begin.
    starts: BTreeSet<Lsn>,
}

#[test]
fn many_lives_leave_segments_whole_or_as_they_were_thinned() {
    let mut thinned = 0;
    for seed in 0..40 {
        let disk = FaultyDisk::default();
        let (asked, starts) = (BTreeMap::new(), BTreeSet::from([Lsn(0)]));
        let mut model = Model { random: Random(seed), blocks: Vec::new(), synced: 0, asked, starts };
        for life in 0..LIVES {
            disk.set(model.faults());
            model.live(&disk);
            disk.set(Faults::default());
            if model.random.below(3) > 0 {
                disk.power_failure(&mut model.random);
            }
            thinned += model.check(&disk, &format!("seed {seed}, life {life}"));
        }
    }
    assert!(thinned > 100, "{thinned}");
}

impl Model {
    fn faults(&mut self) -> Faults {
        let n = self.random.below(150);
        match self.random.below(5) {
            0 => Faults { fail_sync: Some(n / 2), ..Faults::default() },
            1 => Faults { fail_write: Some(n), ..Faults::default() },
            2 => Faults { die_at_step: Some(n), ..Faults::default() },
            3 => Faults { short_writes: true, ..Faults::default() },
            _ => Faults::default(),
        }
    }

    /// Opens the log and uses it until something fails, or for a while.
    fn live(&mut self, disk: &FaultyDisk) {
        let Ok(mut opened) = open_cold(disk) else { return };
        let mut left = BTreeMap::new();
        for info in opened.log.segments().iter().filter(|info| info.thinned) {
            left.insert(info.base, live_records(&opened.reader, info.base));
        }
        for _ in 0..self.random.below(80) {
            let went_well = match self.random.below(10) {
                0..2 => self.sync(&mut opened.log),
                2..4 => self.thin(&mut opened, &mut left),
                4 if self.random.below(4) == 0 => self.remove(&mut opened.log),
                _ => self.append(&mut opened.log),
            };
            if went_well.is_none() {
                return;
            }
        }
    }

    fn sync(&mut self, log: &mut Log) -> Option<()> {
        log.sync().ok()?;
        self.synced = self.blocks.len();
        Some(())
    }

    fn append(&mut self, log: &mut Log) -> Option<()> {
        let count = 1 + self.random.below(60);
        let body = body(self.random.below(40), u32::try_from(count).expect("small"));
        if log.room() < body.len() as u64 {
            log.roll().ok()?;
            self.synced = self.blocks.len();
        }
        let at = log.next();
        let end = at.plus(BLOCK_HEADER_BYTES + body.len() as u64);
        // It may be there even if the answer is an error.
        self.blocks.push(Remembered { at, end, store_ms: at.0, body: body.clone() });
        log.append(body, 1, at.0, Term(1)).ok().map(drop)
    }

    fn remove(&mut self, log: &mut Log) -> Option<()> {
        let oldest = log.segments()[0];
        if oldest.sealed {
            self.starts.insert(oldest.end);
            log.remove_oldest(oldest.base).ok()?;
        }
        Some(())
    }

    /// Thins some segment; `left` is what those have that were thinned before.
    fn thin(&mut self, opened: &mut Opened, left: &mut BTreeMap<Lsn, Records>) -> Option<()> {
        let segments = opened.log.segments();
        let which = usize::try_from(self.random.below(segments.len() as u64)).expect("small");
        let info = segments.get(which).filter(|info| info.sealed);
        let Some(info) = info else { return Some(()) };
        opened.log.set_confirmed(opened.log.durable());
        let had = left.get(&info.base).cloned().unwrap_or_else(|| self.all_of(info));
        let out_of = 1 + self.random.below(5);
        let live = some_of(&had, out_of, &mut self.random);
        self.asked.entry(info.base).or_default().push(live.clone());
        let thinned = opened.reader.thin(&thinning(info.base, &live)).ok()?;
        let is_adopted = self.random.below(4) > 0;
        if is_adopted {
            opened.log.adopt_thinned(&thinned).ok()?;
        }
        if is_adopted || info.thinned {
            check(opened, info.base, &self.all_of(info), &live, "in the same life");
            left.insert(info.base, live);
        }
        Some(())
    }

    fn blocks_of(&self, info: &SegmentInfo) -> impl Iterator<Item = &Remembered> {
        self.blocks.iter().filter(|block| block.at >= info.base && block.end <= info.end)
    }

    fn all_of(&self, info: &SegmentInfo) -> Records {
        self.blocks_of(info).flat_map(split).collect()
    }

    /// Opens the log without faults and compares; gives how many segments are thinned.
    fn check(&mut self, disk: &FaultyDisk, what: &str) -> usize {
        let opened = open_cold(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        let segments = &opened.recovery.segments;
        assert!(self.starts.contains(&segments[0].base), "{what}: begins at {}", segments[0].base);
        let end = opened.log.next();
        let kept = self.blocks.iter().take_while(|block| block.end <= end).count();
        assert!(kept >= self.synced, "{what}: {kept} blocks of {} synced", self.synced);
        assert!(kept.checked_sub(1).is_none_or(|last| self.blocks[last].end == end), "{what}: ends inside a block");
        // What was cut never comes back.
        self.blocks.truncate(kept);
        self.synced = kept;
        let mut asked = std::mem::take(&mut self.asked);
        for info in segments {
            if info.thinned {
                let left = live_records(&opened.reader, info.base);
                let sets = asked.remove(&info.base).unwrap_or_default();
                assert!(sets.contains(&left), "{what}: nobody asked for what is left of {}", info.base);
                check(&opened, info.base, &self.all_of(info), &left, what);
                self.asked.insert(info.base, vec![left]);
            } else {
                let mut found = Vec::new();
                let scanned = opened.reader.scan(info.base, info.end, &mut |block| {
                    found.push(block.body);
                    Ok(())
                });
                assert_eq!(scanned.expect(what), info.end);
                assert!(self.blocks_of(info).map(|block| &block.body).eq(&found), "{what}: segment {}", info.base);
            }
        }
        self.starts = BTreeSet::from([segments[0].base]);
        segments.iter().filter(|info| info.thinned).count()
    }
}

fn live_records(reader: &Reader, base: Lsn) -> Records {
    let mut left = Records::new();
    let given = reader.live_records(base, &mut |at, bytes| {
        left.insert(at, bytes);
        Ok(())
    });
    given.expect("whole");
    left
}
