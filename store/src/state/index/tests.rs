//! The index against a naive model: everything it says is compared with a list of all messages.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::PathBuf,
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{pages::PAGE_BYTES, *};

const QUEUES: u32 = 4;
const HASHES: u64 = 9;

/// One message as the model has it.
#[derive(Clone)]
struct Known {
    queue: QueueKey,
    offset: u64,
    entry: Entry,
    hashes: Vec<u64>,
}

/// All messages in log order, in segments; the last one is open.
struct Model {
    segments: Vec<(Lsn, Vec<Known>)>,
    ends: BTreeMap<QueueKey, u64>,
    next: Lsn,
    now_ms: u64,
}

/// An index beside its model, and where its runs are.
struct Pair {
    model: Model,
    index: Index,
    sealed: Vec<(Lsn, Lsn, std::sync::Arc<Open>)>,
    dir: TempDir,
}

fn queue(number: u32) -> QueueKey {
    QueueKey { topic: 1 + number / 2, queue: number % 2 }
}

/// Few hashes, spread over all 64 bits as real ones are.
fn hash(number: u64) -> u64 {
    (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A segment whose store time is that of its messages.
pub(super) fn whole(base: Lsn, end: Lsn) -> Source {
    Source { base, end, last_ms: 0, thinned_bytes: 0 }
}

impl Pair {
    fn new() -> Self {
        let model =
            Model { segments: vec![(Lsn(0), Vec::new())], ends: BTreeMap::new(), next: Lsn(100), now_ms: 1_000 };
        Self { model, index: Index::new(), sealed: Vec::new(), dir: tempfile::tempdir().expect("a folder") }
    }

    fn push(&mut self, queue: QueueKey, gap_ms: u64, hashes: &[u64]) {
        let model = &mut self.model;
        model.now_ms += gap_ms;
        model.next = model.next.plus(96);
        let end = model.ends.entry(queue).or_insert(7);
        let offset = *end;
        *end += 1;
        // Some messages are where they were long ago: delayed ones.
        let lsn = if offset % 11 == 10 { Lsn(model.next.0 % 90) } else { model.next };
        let entry = Entry {
            lsn,
            length: u32::try_from(offset).expect("small") + 40,
            tag_hash: hash(offset),
            group_hash: offset % 3,
            stored_ms: model.now_ms,
            has_ttl: offset % 5 == 4,
        };
        self.index.push(queue, offset, entry, hashes);
        let known = Known { queue, offset, entry, hashes: hashes.to_vec() };
        model.segments.last_mut().expect("there is an open one").1.push(known);
    }

    fn seal(&mut self) {
        let (base, end) = (self.model.segments.last().expect("there is an open one").0, self.model.next.plus(8));
        self.model.next = end;
        self.sealed.push((base, end, self.index.seal(base, end)));
        self.model.segments.push((end, Vec::new()));
    }

    /// Writes the run of some sealed segment and has it adopted.
    fn adopt(&mut self, which: usize) {
        if self.sealed.is_empty() {
            return;
        }
        let (base, end, open) = self.sealed.remove(which % self.sealed.len());
        let path = self.path(base);
        open.write(&path, &whole(base, end)).expect("written");
        let run = Run::open(&path).expect("opened");
        assert_eq!((run.base(), run.end()), (base, end));
        self.index.adopt(run);
    }

    fn remove(&mut self) {
        if self.model.segments.len() < 2 {
            return;
        }
        let (base, messages) = self.model.segments.remove(0);
        let mut after: BTreeMap<QueueKey, u64> = BTreeMap::new();
        for message in messages {
            after.insert(message.queue, message.offset + 1);
        }
        let stretches = self.index.stretches_in(base);
        let found: BTreeMap<QueueKey, u64> = stretches.iter().map(|stretch| (stretch.queue, stretch.end())).collect();
        assert_eq!(found, after, "what {base} has");
        self.index.remove_oldest(base);
        self.index.remove_oldest(base);
    }

    /// Has the run of some segment made again with about one in `out_of` of its messages.
    fn thin(&mut self, which: usize, out_of: u64) {
        let count = self.model.segments.len();
        let (base, kept) = &mut self.model.segments[which % count];
        if !self.index.has_run(*base) {
            return;
        }
        let run = Run::open(&self.dir.path().join(format!("{:020}.idx", base.0))).expect("opened");
        kept.retain(|known| known.offset % out_of == out_of / 2);
        let mut open = Open::of_thinned();
        for known in &*kept {
            open.push(known.queue, known.offset, known.entry, &known.hashes);
        }
        let base = *base;
        open.write(&self.path(base), run.source()).expect("written");
        let smaller = Run::open(&self.path(base)).expect("opened");
        assert_eq!(smaller.last_ms(), run.last_ms());
        self.index.replace(smaller);
    }

    fn path(&self, base: Lsn) -> PathBuf {
        self.dir.path().join(format!("{:020}.idx", base.0))
    }

    /// Every look-up, with and without an answer.
    fn check(&self) {
        for number in 0..=QUEUES {
            self.check_queue(queue(number));
        }
        for number in 0..=HASHES {
            self.check_keys(hash(number));
        }
    }

    fn check_queue(&self, queue: QueueKey) {
        let there: Vec<(u64, Entry)> =
            self.messages().filter(|m| m.queue == queue).map(|m| (m.offset, m.entry)).collect();
        let end = self.model.ends.get(&queue).copied().unwrap_or_default() + 2;
        for offset in 0..end {
            let expected = there.iter().find(|known| known.0 == offset).map(|known| known.1);
            assert_eq!(self.index.get(queue, offset).expect("sound"), expected, "{queue:?} {offset}");
        }
        for from in (0..end).step_by(1 + there.len() / 20) {
            for max in [0, 1, 3, 300, usize::MAX] {
                let mut found = vec![(0, there.first().map_or(NOWHERE, |known| known.1))];
                self.index.range(queue, from, max, &mut found).expect("sound");
                let expected: Vec<_> = there.iter().filter(|known| known.0 >= from).take(max).copied().collect();
                assert_eq!(found[1..], expected, "{queue:?} from {from} max {max}");
            }
        }
        let times: BTreeSet<u64> =
            there.iter().flat_map(|(_, e)| [e.stored_ms - 1, e.stored_ms, e.stored_ms + 1]).collect();
        for ms in times.into_iter().chain([0, u64::MAX]) {
            let expected = there.iter().find(|known| known.1.stored_ms >= ms).map(|known| known.0);
            assert_eq!(self.index.first_at_or_after(queue, ms).expect("sound"), expected, "{queue:?} at {ms}");
        }
    }

    fn check_keys(&self, hash: u64) {
        let mut places = Vec::new();
        for (_, segment) in self.model.segments.iter().rev() {
            let mut here: Vec<Lsn> = segment.iter().filter(|m| m.hashes.contains(&hash)).map(|m| m.entry.lsn).collect();
            here.sort_unstable();
            places.extend(here.into_iter().rev());
        }
        let sorted = |mut places: Vec<Lsn>| {
            places.sort_unstable();
            places.dedup();
            places
        };
        let found = self.index.keys(hash, usize::MAX).expect("sound");
        assert_eq!(sorted(found), sorted(places.clone()), "hash {hash}");
        for max in [0, 1, 5] {
            let found = self.index.keys(hash, max).expect("sound");
            assert_eq!(found.len(), max.min(sorted(places.clone()).len()), "hash {hash} max {max}");
        }
    }

    fn messages(&self) -> impl Iterator<Item = &Known> {
        self.model.segments.iter().flat_map(|segment| &segment.1)
    }
}

const NOWHERE: Entry = Entry { lsn: Lsn(0), length: 0, tag_hash: 0, group_hash: 0, stored_ms: 0, has_ttl: false };

#[derive(Clone, Debug)]
enum Step {
    Push { queue: u32, gap_ms: u64, hashes: Vec<u64> },
    Seal,
    Adopt(usize),
    Remove,
    Thin { which: usize, out_of: u64 },
    Check,
}

fn step() -> impl Strategy<Value = Step> {
    let hashes = prop::collection::vec((0..HASHES).prop_map(hash), 0..4);
    prop_oneof![
        40 => (0..QUEUES, 0..4u64, hashes).prop_map(|(queue, gap_ms, hashes)| Step::Push { queue, gap_ms, hashes }),
        2 => Just(Step::Seal),
        2 => (0..8usize).prop_map(Step::Adopt),
        1 => Just(Step::Remove),
        1 => (0..8usize, 1..9u64).prop_map(|(which, out_of)| Step::Thin { which, out_of }),
        1 => Just(Step::Check),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn an_index_agrees_with_a_list_of_all_messages(steps in prop::collection::vec(step(), 0..300)) {
        let mut pair = Pair::new();
        for step in steps {
            match step {
                Step::Push { queue: number, gap_ms, hashes } => pair.push(queue(number), gap_ms, &hashes),
                Step::Seal => pair.seal(),
                Step::Adopt(which) => pair.adopt(which),
                Step::Remove => pair.remove(),
                Step::Thin { which, out_of } => pair.thin(which, out_of),
                Step::Check => pair.check(),
            }
        }
        pair.check();
    }
}

/// A segment of many pages: `count` messages, mostly in two queues.
fn fill(pair: &mut Pair, count: u64) {
    for number in 0..count {
        let to = if number % 50 == 0 {
            2 + u32::try_from(number / 50 % 2).expect("small")
        } else {
            u32::try_from(number % 2).expect("small")
        };
        pair.push(queue(to), number % 3, &[hash(HASHES + number), hash(number % HASHES)]);
    }
}

#[test]
fn what_spans_many_pages_is_found_in_memory_and_in_runs() {
    let mut pair = Pair::new();
    fill(&mut pair, 3_000);
    pair.check();
    pair.seal();
    fill(&mut pair, 1_500);
    pair.check();
    pair.adopt(0);
    pair.check();
    for number in [0, 1, 1_499, 2_999] {
        pair.check_keys(hash(HASHES + number));
    }
    pair.remove();
    pair.check();
}

#[test]
fn the_bytes_of_a_run_are_the_same_when_it_is_rebuilt() {
    let bytes = || {
        let mut pair = Pair::new();
        fill(&mut pair, 700);
        pair.seal();
        let (base, end, open) = pair.sealed.remove(0);
        let mut bytes = Vec::new();
        open.write_pages(&whole(base, end), &mut bytes).expect("written");
        bytes
    };
    let first = bytes();
    assert_eq!(first.len() % PAGE_BYTES, 0);
    assert!(first == bytes(), "written twice, the bytes differ");
}

#[test]
fn keys_are_given_in_pieces_newest_first() {
    let mut pair = Pair::new();
    let entry = |lsn| Entry { lsn: Lsn(lsn), ..NOWHERE };
    for offset in 0..2_500 {
        pair.index.push(queue(0), offset, entry(8 + 8 * offset), &[hash(1), hash(1), hash(offset + 2)]);
    }
    check_pieces(&pair.index);
    pair.seal();
    check_pieces(&pair.index);
    pair.adopt(0);
    check_pieces(&pair.index);
}

fn check_pieces(index: &Index) {
    let mut all = Vec::new();
    let mut before = Lsn(u64::MAX);
    for _ in 0..5 {
        let piece = index.keys_before(hash(1), before, 700).expect("sound");
        before = piece.last().copied().unwrap_or(Lsn(0));
        all.extend(piece);
    }
    let expected: Vec<Lsn> = (0..2_500).rev().map(|offset| Lsn(8 + 8 * offset)).collect();
    assert_eq!(all, expected);
}

#[test]
fn an_entry_takes_forty_bytes_of_memory_at_most() {
    for (queues, each) in [(1u32, 100_000u64), (100, 1_000), (5_000, 20)] {
        let mut open = Open::default();
        for offset in 0..each {
            (0..queues).for_each(|number| open.push(queue(number), offset, NOWHERE, &[offset]));
        }
        let rows = queues as usize * 80;
        let keys = usize::try_from(open.count() + 1024).expect("small") * 16;
        let entries = usize::try_from(open.count()).expect("small") * 40;
        assert!(open.bytes() <= entries + keys + rows, "{queues} queues: {} bytes", open.bytes());
    }
}

/// A small run file and the pair it belongs to.
fn small_run() -> (Pair, PathBuf) {
    let mut pair = Pair::new();
    (0..6).for_each(|number| pair.push(queue(number % QUEUES), 1, &[hash(u64::from(number))]));
    pair.seal();
    pair.adopt(0);
    let path = pair.path(Lsn(0));
    (pair, path)
}

#[test]
fn a_run_cut_anywhere_is_refused() {
    let (_pair, path) = small_run();
    let sound = fs::read(&path).expect("read");
    let file = File::options().write(true).open(&path).expect("opened");
    for length in (0..sound.len() as u64).rev().chain([sound.len() as u64 + 1]) {
        file.set_len(length).expect("cut");
        assert!(Run::open(&path).is_err(), "cut at {length}");
    }
    // The length is right, but the end was never written.
    fs::write(&path, &sound[..PAGE_BYTES]).expect("written");
    file.set_len(sound.len() as u64).expect("extended");
    assert!(Run::open(&path).is_err());
}

#[test]
fn a_flipped_bit_never_gives_a_wrong_answer() {
    let (pair, path) = small_run();
    let sound = fs::read(&path).expect("read");
    let file = File::options().write(true).open(&path).expect("opened");
    let mut refused = 0;
    for (at, byte) in sound.iter().enumerate() {
        file.write_all_at(&[byte ^ 1 << (at % 8)], at as u64).expect("written");
        refused += usize::from(look_everywhere(&pair, &path));
        file.write_all_at(&[*byte], at as u64).expect("written");
    }
    // Every byte is covered by some checksum, and every page is read by some look-up.
    assert_eq!(refused, sound.len());
}

/// Compares all answers of the file with the model; whether one was refused.
fn look_everywhere(pair: &Pair, path: &std::path::Path) -> bool {
    let Ok(run) = Run::open(path) else { return true };
    let mut index = Index::new();
    index.adopt(run);
    let mut refused = false;
    for message in pair.messages() {
        match index.get(message.queue, message.offset) {
            Ok(found) => assert_eq!(found, Some(message.entry)),
            Err(_) => refused = true,
        }
        match index.keys(message.hashes[0], 10) {
            Ok(found) => assert_eq!(found, [message.entry.lsn]),
            Err(_) => refused = true,
        }
    }
    refused
}

#[test]
fn pages_that_changed_places_are_refused() {
    let mut pair = Pair::new();
    (0..510).for_each(|_| pair.push(queue(0), 1, &[]));
    pair.seal();
    pair.adopt(0);
    let path = pair.path(Lsn(0));
    let mut bytes = fs::read(&path).expect("read");
    // Header, directory, two pages of entries: each of those is sound by itself.
    let (a, b) = bytes.split_at_mut(3 * PAGE_BYTES);
    a[2 * PAGE_BYTES..].swap_with_slice(&mut b[..PAGE_BYTES]);
    fs::write(&path, bytes).expect("written");
    let mut index = Index::new();
    index.adopt(Run::open(&path).expect("the directory is sound"));
    assert!(matches!(index.get(queue(0), 7), Err(RunError::Damaged { page: 2, .. })));
    assert!(matches!(index.get(queue(0), 7 + 509), Err(RunError::Damaged { page: 3, .. })));
}

#[test]
fn a_run_of_a_later_format_is_named_as_such() {
    let (_pair, path) = small_run();
    let mut bytes = fs::read(&path).expect("read");
    let later = run::VERSION + 1;
    bytes[8..12].copy_from_slice(&later.to_le_bytes());
    let page = <&mut [u8; PAGE_BYTES]>::try_from(&mut bytes[..PAGE_BYTES]).expect("a page");
    pages::finish(page, Lsn(0), 0);
    fs::write(&path, bytes).expect("written");
    assert!(matches!(Run::open(&path), Err(RunError::Version { version, .. }) if version == later));
}

#[test]
fn a_segment_leaves_even_when_its_directory_went_bad() {
    let mut pair = Pair::new();
    fill(&mut pair, 300);
    pair.seal();
    fill(&mut pair, 300);
    pair.seal();
    pair.adopt(0);
    pair.adopt(0);
    let file = File::options().write(true).open(pair.path(Lsn(0))).expect("opened");
    file.write_all_at(b"damage", PAGE_BYTES as u64).expect("written");
    pair.remove();
    pair.check();
}

#[test]
fn a_queue_without_messages_takes_no_memory() {
    let mut pair = Pair::new();
    for _ in 0..3 {
        fill(&mut pair, 100);
        pair.seal();
        pair.adopt(0);
    }
    pair.remove();
    assert_eq!(pair.index.queues_held(), (4, 8), "a row for each queue and segment");
    pair.remove();
    pair.remove();
    assert_eq!(pair.index.queues_held(), (0, 0));
}

#[test]
fn offsets_that_no_run_has_are_passed_over() {
    let mut pair = Pair::new();
    fill(&mut pair, 60);
    pair.seal();
    fill(&mut pair, 60);
    pair.seal();
    fill(&mut pair, 60);
    pair.seal();
    let mut index = Index::new();
    for which in [0, 2] {
        let (base, end, open) = &pair.sealed[which];
        open.write(&pair.path(*base), &whole(*base, *end)).expect("written");
        index.adopt(Run::open(&pair.path(*base)).expect("opened"));
    }
    pair.index = index;
    pair.model.segments[1].1.clear();
    pair.check();
}

#[test]
fn a_run_that_comes_after_its_segment_left_is_ignored() {
    let mut pair = Pair::new();
    pair.push(queue(0), 1, &[]);
    pair.seal();
    let (base, end, open) = pair.sealed.remove(0);
    pair.remove();
    open.write(&pair.path(base), &whole(base, end)).expect("written");
    pair.index.adopt(Run::open(&pair.path(base)).expect("opened"));
    assert_eq!(pair.index.get(queue(0), 7).expect("sound"), None);
}

/// A segment of 900 messages in three queues of which about one in `out_of` is live, as its index is
/// rebuilt.
fn thinned(out_of: u64) -> Pair {
    let mut pair = Pair::new();
    for number in 0..900 {
        pair.push(queue(u32::try_from(number % 3).expect("small")), number % 2, &[hash(number % HASHES)]);
    }
    let mut kept = pair.model.segments.remove(0).1;
    kept.retain(|known| known.entry.lsn.0.is_multiple_of(out_of));
    let mut open = Open::of_thinned();
    for known in &kept {
        open.push(known.queue, known.offset, known.entry, &known.hashes);
    }
    let end = pair.model.next.plus(8);
    let path = pair.path(Lsn(0));
    open.write(&path, &whole(Lsn(0), end)).expect("written");
    let mut index = Index::new();
    index.adopt(Run::open(&path).expect("opened"));
    check_column(&open, &kept);
    pair.index = index;
    pair.model.segments = vec![(Lsn(0), kept), (end, Vec::new())];
    pair.model.next = end;
    pair
}

/// The same answers before it is written out.
fn check_column(open: &Open, kept: &[Known]) {
    for known in kept {
        assert_eq!(open.get(known.queue, known.offset), Some(known.entry));
        let mut found = Vec::new();
        open.range(known.queue, known.offset, 2, &mut found);
        let same = kept.iter().filter(|other| other.queue == known.queue && other.offset >= known.offset);
        assert_eq!(found, same.take(2).map(|other| (other.offset, other.entry)).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_gone_from_a_thinned_segment_is_passed_over() {
    for out_of in [1, 7, 20, 250] {
        let mut pair = thinned(out_of);
        pair.check();
        fill(&mut pair, 300);
        pair.check();
        pair.seal();
        pair.adopt(0);
        pair.check();
        pair.remove();
        pair.check();
    }
}

#[test]
fn a_run_that_was_made_again_is_read_and_not_the_one_before() {
    for out_of in [2, 40, 5_000] {
        let mut pair = Pair::new();
        for segment in 0..3 {
            fill(&mut pair, 1_200);
            pair.seal();
            pair.adopt(segment);
        }
        pair.check();
        for segment in [1, 0, 2] {
            pair.thin(segment, out_of);
            pair.check();
            fill(&mut pair, 100);
        }
        pair.thin(1, out_of * 10);
        pair.check();
        while pair.model.segments.len() > 1 {
            pair.remove();
            pair.check();
        }
        assert_eq!(pair.index.queues_held(), (0, 0));
    }
}

#[test]
fn a_run_with_more_than_the_one_before_is_refused() {
    let mut pair = Pair::new();
    fill(&mut pair, 300);
    pair.seal();
    let (base, end, open) = pair.sealed[0].clone();
    pair.adopt(0);
    pair.thin(0, 7);
    open.write(&pair.path(base), &whole(base, end)).expect("written");
    pair.index.replace(Run::open(&pair.path(base)).expect("opened"));
    pair.check();
}

#[test]
fn keys_are_found_behind_a_segment_without_messages() {
    let mut pair = Pair::new();
    pair.push(queue(0), 1, &[hash(1)]);
    let (lsn, stored_ms) = (pair.model.segments[0].1[0].entry.lsn, pair.model.now_ms);
    pair.seal();
    pair.adopt(0);
    pair.model.next = pair.model.next.plus(96);
    pair.seal();
    let (base, end, open) = pair.sealed.remove(0);
    open.write(&pair.path(base), &Source { last_ms: stored_ms + 5, ..whole(base, end) }).expect("written");
    pair.index.adopt(Run::open(&pair.path(base)).expect("opened"));
    assert_eq!(pair.index.keys_since(hash(1), stored_ms, 9).expect("sound"), [lsn]);
    assert_eq!(pair.index.keys_since(hash(1), stored_ms + 1, 9).expect("sound"), []);
}
