//! Scheduled and released messages in the index, against lists of them.

use std::{ops::Range, path::PathBuf, sync::Arc};

use bytes::Bytes;
use centaur_apis::log::Released;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{tests::whole, *};
use crate::log::record::{Message, Place};

/// An index beside lists of what is in it, by segment; the last one is open.
struct Pair {
    index: Index,
    segments: Vec<Segment>,
    next: Lsn,
    released: u64,
    sealed: Vec<(Lsn, Lsn, Arc<Open>)>,
    dir: TempDir,
}

#[derive(Default)]
struct Segment {
    base: Lsn,
    timers: Vec<Timer>,
    foreign: Vec<Foreign>,
    recalled: Vec<TimerPlace>,
}

impl Pair {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let segments = vec![Segment::default()];
        Self { index: Index::new(), segments, next: Lsn(96), released: 0, sealed: Vec::new(), dir }
    }

    fn open(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("there is an open one")
    }

    fn schedule(&mut self, due_ms: u64) {
        let (lsn, number) = (self.next, u32::try_from(self.next.0 % 5).expect("small"));
        self.next = lsn.plus(96);
        let message = Scheduled {
            length: 88 + number,
            queue: QueueKey { topic: 1 + number, queue: number / 2 },
            has_ttl: number % 2 == 1,
            tag_hash: lsn.0 * 3,
            group_hash: lsn.0 * 7,
        };
        let timer = Timer { place: TimerPlace { due_ms, lsn }, message };
        self.index.push_message(lsn, message.length, &stored(&timer));
        self.open().timers.push(timer);
    }

    /// Has the run of some segment made again with about one in `out_of` of its scheduled messages.
    fn thin(&mut self, which: usize, out_of: u64) {
        let count = self.segments.len();
        let segment = &mut self.segments[which % count];
        let base = segment.base;
        if !self.index.has_run(base) {
            return;
        }
        segment.timers.retain(|timer| timer.place.lsn.0 / 96 % out_of == 0);
        let mut open = Open::of_thinned();
        segment
            .timers
            .iter()
            .for_each(|timer| open.push_message(timer.place.lsn, timer.message.length, &stored(timer)));
        for Foreign { lsn, offset, .. } in &segment.foreign {
            open.push_released(&release(*lsn, *offset), 1_000);
        }
        segment.recalled.iter().for_each(|place| open.push_recalled(*place, base));
        let before = Run::open(&self.path(base)).expect("opened");
        open.write(&self.path(base), before.source()).expect("written");
        self.index.replace(Run::open(&self.path(base)).expect("opened"));
    }

    /// Gives some message that was stored before its place in a queue.
    fn release(&mut self, of: u64) {
        let (lsn, offset) = (Lsn(of % self.next.0 / 8 * 8), self.released);
        self.released += 1;
        self.index.push_released(&release(lsn, offset), 1_000);
        let queue = QueueKey { topic: 9, queue: 1 };
        assert_eq!(self.index.get(queue, offset).expect("sound").map(|entry| entry.lsn), Some(lsn));
        if lsn < self.open().base {
            self.open().foreign.push(Foreign { lsn, queue, offset });
        }
    }

    /// Takes some scheduled message back.
    fn recall(&mut self, which: usize) {
        let waiting = self.behind(TimerPlace::default());
        let Some(timer) = waiting.get(which % waiting.len().max(1)) else { return };
        if !self.is_recalled(timer.place) {
            self.index.push_recalled(timer.place, self.next);
            self.next = self.next.plus(96);
            self.open().recalled.push(timer.place);
        }
    }

    fn is_recalled(&self, place: TimerPlace) -> bool {
        self.segments.iter().any(|segment| segment.recalled.contains(&place))
    }

    fn seal(&mut self) {
        let (base, end) = (self.open().base, self.next);
        self.sealed.push((base, end, self.index.seal(base, end)));
        self.segments.push(Segment { base: end, ..Segment::default() });
        self.next = end.plus(96);
    }

    fn adopt(&mut self, which: usize) {
        if self.sealed.is_empty() {
            return;
        }
        let (base, end, open) = self.sealed.remove(which % self.sealed.len());
        open.write(&self.path(base), &whole(base, end)).expect("written");
        self.index.adopt(Run::open(&self.path(base)).expect("opened"));
    }

    fn remove(&mut self) {
        if self.segments.len() > 1 {
            let base = self.segments.remove(0).base;
            self.index.remove_oldest(base);
        }
    }

    fn path(&self, base: Lsn) -> PathBuf {
        self.dir.path().join(format!("{:020}.idx", base.0))
    }

    /// What is scheduled behind a place, in order.
    fn behind(&self, place: TimerPlace) -> Vec<Timer> {
        sorted(self.segments.iter().flat_map(|segment| segment.timers.clone()), place)
    }

    fn read(&self, scan: &mut TimerScan, max: usize) {
        let behind = self.behind(scan.after());
        let looked_at = behind.iter().take(max);
        let expected: Vec<Timer> = looked_at.filter(|timer| !self.is_recalled(timer.place)).copied().collect();
        let mut found = Vec::new();
        let has_more = self.index.timers_after(scan, max, &mut found).expect("sound");
        assert_eq!((found, has_more), (expected, behind.len() >= max));
    }

    fn check(&self) {
        self.read(&mut TimerScan::default(), usize::MAX);
        for timer in self.behind(TimerPlace::default()) {
            assert_eq!(self.index.timer(timer.place).expect("sound"), Some(timer));
            assert_eq!(self.index.is_recalled(timer.place).expect("sound"), self.is_recalled(timer.place));
            let wrong = TimerPlace { due_ms: timer.place.due_ms + 1, ..timer.place };
            assert_eq!(self.index.timer(wrong).expect("sound"), None);
        }
        let (first, last) = (self.segments[0].base, self.open_base());
        for segment in &self.segments[..self.segments.len() - 1] {
            for place in [TimerPlace::default(), TimerPlace { due_ms: 40, lsn: Lsn(500) }, TimerPlace::LAST] {
                let mut found = Vec::new();
                self.index.timers_in(segment.base, place, &mut found).expect("sound");
                assert_eq!(found, sorted(segment.timers.iter().copied(), place));
            }
        }
        for pair in self.segments.windows(2) {
            self.check_foreign(pair[0].base..pair[1].base);
        }
        self.check_foreign(first..last);
    }

    fn open_base(&self) -> Lsn {
        self.segments.last().expect("there is an open one").base
    }

    fn check_foreign(&self, lsns: Range<Lsn>) {
        let mut found = Vec::new();
        self.index.foreign_into(lsns.clone(), &mut found).expect("sound");
        found.sort_unstable();
        let later = self.segments.iter().filter(|segment| segment.base >= lsns.end);
        let mut expected: Vec<Foreign> = later.flat_map(|segment| segment.foreign.clone()).collect();
        expected.retain(|foreign| lsns.contains(&foreign.lsn));
        expected.sort_unstable();
        assert_eq!(found, expected, "{lsns:?}");
    }
}

/// The record of a scheduled message.
fn stored(Timer { place, message }: &Timer) -> Message {
    Message {
        topic: message.queue.topic,
        queue: message.queue.queue,
        place: Place::Scheduled(place.due_ms),
        stored_ms: 1_000,
        ttl_ms: u64::from(message.has_ttl),
        tag_hash: message.tag_hash,
        group_hash: message.group_hash,
        key_hashes: vec![place.lsn.0],
        head: Bytes::new(),
        properties: Bytes::new(),
        body: Bytes::new(),
    }
}

fn release(lsn: Lsn, offset: u64) -> Released {
    Released { lsn: lsn.0, length: 80, topic: 9, queue: 1, offset, ..Released::default() }
}

fn sorted(timers: impl Iterator<Item = Timer>, after: TimerPlace) -> Vec<Timer> {
    let mut timers: Vec<Timer> = timers.filter(|timer| timer.place > after).collect();
    timers.sort_unstable_by_key(|timer| timer.place);
    timers
}

#[derive(Clone, Debug)]
enum Step {
    Schedule(u64),
    Release(u64),
    Recall(usize),
    Seal,
    Adopt(usize),
    Remove,
    Thin { which: usize, out_of: u64 },
    Read(usize),
    Back(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (1..100u64).prop_map(Step::Schedule),
        10 => any::<u64>().prop_map(Step::Release),
        8 => any::<usize>().prop_map(Step::Recall),
        3 => Just(Step::Seal),
        3 => (0..8usize).prop_map(Step::Adopt),
        1 => Just(Step::Remove),
        1 => (0..8usize, 1..9u64).prop_map(|(which, out_of)| Step::Thin { which, out_of }),
        6 => (0..20usize).prop_map(Step::Read),
        1 => (0..100u64).prop_map(Step::Back),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn an_index_agrees_with_lists_of_what_waits_and_of_what_came_late(steps in prop::collection::vec(step(), 0..300)) {
        let mut pair = Pair::new();
        let mut scan = TimerScan::default();
        for step in steps {
            match step {
                Step::Schedule(due_ms) => pair.schedule(due_ms),
                Step::Release(of) => pair.release(of),
                Step::Recall(which) => pair.recall(which),
                Step::Seal => pair.seal(),
                Step::Adopt(which) => pair.adopt(which),
                Step::Remove => pair.remove(),
                Step::Thin { which, out_of } => pair.thin(which, out_of),
                Step::Read(max) => pair.read(&mut scan, max),
                Step::Back(due_ms) => scan.set_after(TimerPlace { due_ms, lsn: Lsn(0) }),
            }
        }
        pair.check();
    }
}

#[test]
fn what_spans_many_pages_is_found_in_memory_and_in_runs() {
    let mut pair = Pair::new();
    for _ in 0..3 {
        for number in 0..1_000u64 {
            pair.schedule(1 + number * 7_919 % 5_000);
            pair.release(number * 104_729);
        }
        (0..700).for_each(|number| pair.recall(number * 31));
        pair.check();
        pair.seal();
    }
    let mut scan = TimerScan::default();
    pair.read(&mut scan, 700);
    for _ in 0..3 {
        pair.adopt(0);
        pair.read(&mut scan, 300);
        pair.check();
    }
    pair.thin(1, 3);
    pair.read(&mut scan, 300);
    pair.check();
    pair.remove();
    pair.read(&mut scan, usize::MAX);
    pair.check();
}

/// The segment's run is the same whether its index grew or is made again.
#[test]
fn messages_that_wait_are_written_the_same_in_any_order() {
    let bytes = |dues: &[u64]| {
        let mut pair = Pair::new();
        dues.iter().for_each(|due_ms| pair.schedule(*due_ms));
        pair.seal();
        let (base, end, open) = pair.sealed.remove(0);
        let mut bytes = Vec::new();
        open.write_pages(&whole(base, end), &mut bytes).expect("written");
        bytes
    };
    let dues: Vec<u64> = (0..700).map(|number| 1 + number * 31 % 97).collect();
    assert!(bytes(&dues) == bytes(&dues), "written twice, the bytes differ");
}

#[test]
fn a_damaged_page_of_timers_gives_no_timers_and_no_wrong_ones() {
    let mut pair = Pair::new();
    (0..1_000).for_each(|number| pair.schedule(1 + number % 60));
    pair.seal();
    pair.adopt(0);
    let expected = pair.behind(TimerPlace::default());
    let sound = std::fs::read(pair.path(Lsn(0))).expect("read");
    let mut refused = 0;
    for at in (0..sound.len()).step_by(61) {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        std::fs::write(pair.path(Lsn(0)), bytes).expect("written");
        let Ok(run) = Run::open(&pair.path(Lsn(0))) else {
            refused += 1;
            continue;
        };
        let mut index = Index::new();
        index.adopt(run);
        let (mut scan, mut found) = (TimerScan::default(), Vec::new());
        match index.timers_after(&mut scan, usize::MAX, &mut found) {
            Ok(_) => assert_eq!(found, expected),
            Err(_) => {
                assert_eq!((found.len(), scan.after()), (0, TimerPlace::default()));
                refused += 1;
            }
        }
    }
    assert!(refused > sound.len() / 61 / 4, "{refused} were refused");
}
