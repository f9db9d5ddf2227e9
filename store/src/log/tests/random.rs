//! A log lives many lives, and every one ends in a crash or a failing disk. It is compared with a
//! list of blocks all the way. S5, S7, S18.

use super::*;

const LIVES: u64 = 25;

struct Model {
    blocks: Vec<Remembered>,
    synced: usize,
    random: Random,
    wall_ms: u64,
}

#[test]
fn many_lives_leave_a_prefix_each_time() {
    for seed in 0..60 {
        let disk = FaultyDisk::default();
        let mut model = Model { blocks: Vec::new(), synced: 0, random: Random(seed), wall_ms: 1 << 20 };
        for life in 0..LIVES {
            disk.set(model.faults());
            model.live(&disk, &format!("seed {seed}, life {life}"));
            disk.set(Faults::default());
            if model.random.below(3) > 0 {
                disk.power_failure(&mut model.random);
            }
            model.check(&disk, &format!("seed {seed}, life {life}"));
        }
    }
}

impl Model {
    fn faults(&mut self) -> Faults {
        let n = self.random.below(60);
        match self.random.below(5) {
            0 => Faults { fail_sync: Some(n), ..Faults::default() },
            1 => Faults { fail_write: Some(n), ..Faults::default() },
            2 => Faults { die_at_step: Some(n), ..Faults::default() },
            3 => Faults { short_writes: true, ..Faults::default() },
            _ => Faults::default(),
        }
    }

    /// Opens the log and uses it until something fails, or for a while.
    fn live(&mut self, disk: &FaultyDisk, what: &str) {
        let Ok(mut opened) = open_on(disk) else { return };
        assert_eq!(contents(&opened), self.blocks, "{what}: what was open is open again");
        for _ in 0..self.random.below(40) {
            if self.act(&mut opened.log).is_err() {
                return;
            }
        }
        if self.random.below(4) == 0 && opened.log.close().is_ok() {
            self.synced = self.blocks.len();
        }
    }

    fn act(&mut self, log: &mut Log) -> Result<(), Failure> {
        match self.random.below(10) {
            0 => drop(log.roll()?),
            1..4 => {
                log.sync()?;
                self.synced = self.blocks.len();
                log.set_confirmed(log.durable());
            }
            4 => self.wall_ms = self.wall_ms.saturating_add(self.random.below(4000)).saturating_sub(2000),
            _ => {
                let count = 1 + self.random.below(30);
                let body = body(self.random.next() % 1000, u32::try_from(count).expect("small"));
                if log.room() < body.len() as u64 {
                    log.roll()?;
                }
                let at = log.next();
                let store_ms = self.wall_ms.max(self.blocks.last().map_or(0, |last| last.store_ms));
                let end = at.plus(BLOCK_HEADER_BYTES + body.len() as u64);
                // It may be there even if the answer is an error.
                self.blocks.push(Remembered { at, end, store_ms, body: body.clone() });
                log.append(body, 1, self.wall_ms, Term(1))?;
            }
        }
        Ok(())
    }

    /// Opens the log without faults: it holds a prefix, and at least what was synced.
    fn check(&mut self, disk: &FaultyDisk, what: &str) {
        let opened = open_on(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = contents(&opened);
        assert!(found.len() >= self.synced, "{what}: {} blocks of {} synced", found.len(), self.synced);
        assert!(self.blocks.starts_with(&found), "{what}: not a prefix");
        assert!(found.is_sorted_by_key(|block| block.store_ms), "{what}: store time goes back");
        assert_eq!(opened.recovery.last_store_ms, found.last().map_or(0, |last| last.store_ms), "{what}");
        // What was cut never comes back.
        self.blocks = found;
        self.synced = self.blocks.len();
    }
}
