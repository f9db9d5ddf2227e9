//! Looks at the files of a log, without writing, and says where it truly ends and whether anything
//! that was synced is missing.
//!
//! Sealed segments are known by their first and last pages, thinned ones by their first. The blocks of the open one are walked.
//! What does not validate at the end is a torn tail if nothing shows that it had been synced:
//! before a sync, pages reach the disk in any order. It is damage if a later block, or the SYNC
//! file, says that the log was durable beyond it. A later block's word that more was *confirmed*
//! is not evidence by itself: without sync on every block, a log may honestly confirm what a power
//! failure then takes.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use centaur_apis::units::Lsn;

use super::{
    SegmentInfo,
    block::{HEADER, Header, MAGIC, Tip},
    error::{Context as _, OpenError},
    io::{File, Io},
    page::Footer,
    part::Part,
    position::Cut,
    record::ALIGNMENT,
    segment::{self, Home, Segment},
    thin,
    walk::Walk,
};

/// Bytes searched at a time.
const STEP: usize = 1 << 20;

/// What the files of a log hold.
#[derive(Debug)]
pub(super) struct Survey {
    /// What is whole, oldest first.
    pub segments: Vec<Surveyed>,
    /// Where that ends.
    pub tip: Tip,
    /// Everything before it was synced, by what the last segment's blocks say.
    pub durable: Lsn,
    /// Files behind the end that cannot be kept.
    pub dropped: Vec<Lsn>,
    /// Bytes of files behind the end that are not zero.
    pub dropped_bytes: u64,
    pub damage: Option<OpenError>,
}

/// One segment as it was found.
#[derive(Debug)]
pub(super) struct Surveyed {
    pub part: Part,
    /// What its footer says, or should say.
    pub contents: Footer,
    /// Its footer is whole, or it is thinned.
    pub sealed: bool,
}

impl Surveyed {
    pub(super) fn info(&self, sealed: bool) -> SegmentInfo {
        SegmentInfo {
            base: self.part.base(),
            end: self.contents.end.lsn,
            sealed,
            first_store_ms: self.contents.first_store_ms,
            last_store_ms: self.contents.end.store_ms,
            thinned: self.part.is_thinned(),
            bytes_on_disk: self.part.file_bytes(),
        }
    }
}

impl Survey {
    /// The cut that makes the files hold what is whole and nothing else; none if they do.
    pub(super) fn cut(&self) -> Option<Cut> {
        let last = self.segments.last()?;
        let is_needed = self.dropped_bytes > 0 || !self.dropped.is_empty();
        is_needed.then(|| Cut { at: self.tip.lsn, segment: last.part.base() })
    }
}

/// Looks at all segments of a log. `durable` is what the SYNC file says.
pub(super) fn survey(home: &Home, durable: Lsn) -> Result<Survey, OpenError> {
    let bases = bases(&*home.io, &home.dir)?;
    let mut survey = Survey {
        segments: Vec::with_capacity(bases.len()),
        tip: Tip::genesis(&home.log_id),
        durable: Lsn(0),
        dropped: Vec::new(),
        dropped_bytes: 0,
        damage: None,
    };
    for (i, &base) in bases.iter().enumerate() {
        if let Err(damage) = survey.add(home, base)? {
            survey.damage = Some(damage);
            survey.dropped = bases[i..].to_vec();
            break;
        }
    }
    survey.look_behind_the_end(home, durable)?;
    Ok(survey)
}

/// Bases of the segments in a directory, oldest first.
pub(super) fn bases(io: &dyn Io, dir: &Path) -> Result<Vec<Lsn>, OpenError> {
    let log_dir = dir.join("log");
    let names = io.list(&log_dir).context("list", &log_dir)?;
    let base_of =
        |name: &String| segment::base_of(name, segment::SUFFIX).or_else(|| segment::base_of(name, thin::SUFFIX));
    let mut bases: Vec<_> = names.iter().filter_map(base_of).collect();
    bases.sort_unstable();
    bases.dedup();
    Ok(bases)
}

impl Survey {
    /// Adds one more segment; the inner error says why it cannot follow.
    fn add(&mut self, home: &Home, base: Lsn) -> Result<Result<(), OpenError>, OpenError> {
        let path = named(home, base);
        let damaged = |at, path: &Path, problem| Ok(Err(OpenError::Damaged { path: path.to_owned(), at, problem }));
        let Some(part) = Part::load(home, base).context("read", &path)? else {
            return damaged(base, &path, "the first page of the segment is damaged");
        };
        if let Some(last) = self.segments.last()
            && part.start() != self.tip
        {
            return match last.sealed {
                true if base > self.tip.lsn => damaged(self.tip.lsn, &path, "the segment before this one is missing"),
                true => damaged(self.tip.lsn, &path, "the segment does not continue the one before"),
                false => damaged(self.tip.lsn, last.part.path(), "synced blocks are missing or damaged"),
            };
        }
        let (contents, durable, sealed) = match &part {
            Part::Whole(segment) => match segment.read_footer(&home.log_id).context("read", &path)? {
                Some(footer) => (footer, footer.end.lsn, true),
                None => {
                    let (contents, durable) = walk(segment).context("read", &path)?;
                    (contents, durable, false)
                }
            },
            Part::Thinned(thin) => (thin.contents, thin.contents.end.lsn, true),
        };
        self.tip = contents.end;
        self.durable = durable;
        self.segments.push(Surveyed { part, contents, sealed });
        Ok(Ok(()))
    }

    /// Looks for what lies behind the end, and whether it shows that synced data is missing.
    fn look_behind_the_end(&mut self, home: &Home, durable: Lsn) -> Result<(), OpenError> {
        let end = self.tip.lsn;
        let mut claimed = durable;
        let open = self.segments.last().filter(|last| !last.sealed);
        if let Some(Surveyed { part: Part::Whole(segment), .. }) = open {
            let leftovers = leftovers(segment, end).context("read", &segment.path)?;
            claimed = claimed.max(leftovers.durable);
            self.dropped_bytes = leftovers.bytes;
        }
        for &base in &self.dropped {
            for path in [segment::path(&home.dir, base), thin::path(&home.dir, base)] {
                match home.io.open(&path).and_then(|file| file.bytes()) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    bytes => self.dropped_bytes += bytes.context("read", &path)?,
                }
            }
        }
        if claimed > end && self.damage.is_none() {
            let (path, problem) = match self.segments.last() {
                Some(last) if !last.sealed => (last.part.path().to_owned(), "synced blocks are missing or damaged"),
                _ => (segment::path(&home.dir, end), "the segment is missing"),
            };
            self.damage = Some(OpenError::Damaged { path, at: end, problem });
        }
        self.durable = self.durable.max(claimed.min(end));
        Ok(())
    }
}

/// The file that stands for a segment when neither form of it is sound.
fn named(home: &Home, base: Lsn) -> PathBuf {
    let (whole, thinned) = (segment::path(&home.dir, base), thin::path(&home.dir, base));
    if home.io.open(&whole).is_ok() { whole } else { thinned }
}

/// Walks a segment to its last whole block; also says what was durable by its blocks' word.
fn walk(segment: &Arc<Segment>) -> io::Result<(Footer, Lsn)> {
    let start = segment.header.start;
    let mut contents = Footer { end: start, base: segment.base(), records: 0, first_store_ms: 0 };
    let mut durable = segment.base();
    let mut walk = Walk::whole(Arc::clone(segment), segment.limit())?;
    while let Some(block) = walk.next()? {
        if contents.end == start {
            contents.first_store_ms = block.header.store_ms;
        }
        contents.end = block.tip;
        contents.records += u64::from(block.header.records);
        durable = durable.max(block.header.durable);
    }
    Ok((contents, durable))
}

/// What lies in an open segment behind the end of the log.
struct Leftovers {
    /// Bytes from the end of the log to the last that is not zero.
    bytes: u64,
    /// The furthest place that a block among them says was synced.
    durable: Lsn,
}

fn leftovers(segment: &Segment, end: Lsn) -> io::Result<Leftovers> {
    let mut found = Leftovers { bytes: 0, durable: Lsn(0) };
    let first = segment.position(end);
    let limit = segment.footer_position();
    let mut at = first;
    let file = segment.file()?;
    let mut buffer = vec![0; STEP];
    while let Some(data) = file.data_after(at)?.filter(|data| *data < limit) {
        // Blocks begin at multiples of the alignment, and so do the steps.
        at = (data / ALIGNMENT as u64 * ALIGNMENT as u64).max(first);
        let step = usize::try_from(limit - at).map_or(STEP, |left| left.min(STEP));
        file.read_exact_at(&mut buffer[..step], at)?;
        for (i, word) in buffer[..step].chunks(ALIGNMENT).enumerate().filter(|(_, word)| word.iter().any(|b| *b != 0)) {
            let place = at + (i * ALIGNMENT) as u64;
            found.bytes = place + word.len() as u64 - first;
            if word.starts_with(&MAGIC)
                && let Some(header) = header_at(segment, &*file, place, limit)?
            {
                found.durable = found.durable.max(header.durable);
            }
        }
        at += step as u64;
        if at >= limit {
            break;
        }
    }
    Ok(found)
}

/// The header of a block that really was written at this place of the file.
fn header_at(segment: &Segment, file: &dyn File, place: u64, limit: u64) -> io::Result<Option<Header>> {
    if limit - place < HEADER as u64 {
        return Ok(None);
    }
    let mut bytes = [0; HEADER];
    file.read_exact_at(&mut bytes, place)?;
    let header = Header::decode(&bytes, segment.seed);
    Ok(header.filter(|header| header.lsn >= segment.base() && segment.position(header.lsn) == place))
}
