//! Writing the index of a sealed segment to its file.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use centaur_apis::units::Lsn;

use super::{
    Foreign, Open, RunError, Timer,
    open::Key,
    pages::{self, PAGE_BYTES, PAYLOAD_BYTES},
    run::{Header, Row, Source, filter_pages, filter_place},
};

/// Keys sorted at a time: what is needed besides the index itself is a few MiB.
const KEYS_AT_A_TIME: usize = 1 << 18;

impl Open {
    /// Writes the index of a segment to the file `path`, which is there in full and on disk, or not
    /// at all.
    pub fn write(&self, path: &Path, source: &Source) -> Result<(), RunError> {
        let temporary = path.with_extension("idx.tmp");
        self.write_file(path, &temporary, source).map_err(|source| {
            // If that fails as well, the next start does it.
            let _ = fs::remove_file(&temporary);
            RunError::Io { path: path.to_owned(), source }
        })
    }

    fn write_file(&self, path: &Path, temporary: &Path, source: &Source) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(32 * PAGE_BYTES, File::create(temporary)?);
        self.write_pages(source, &mut out)?;
        out.into_inner()?.sync_all()?;
        fs::rename(temporary, path)?;
        match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Writes the bytes of a run.
    pub(super) fn write_pages(&self, source: &Source, out: &mut impl Write) -> io::Result<()> {
        let Source { base, .. } = *source;
        let directory = self.directory();
        let foreign = self.older_than(base);
        let header = Header {
            source: Source { last_ms: source.last_ms.max(self.last_ms()), ..*source },
            origin: self.origin(),
            queues: count_u32(directory.len())?,
            entries: count_u32(usize::try_from(self.count()).unwrap_or(usize::MAX))?,
            keys: count_u32(self.key_count())?,
            timers: count_u32(self.timers().len())?,
            foreign: count_u32(foreign.len())?,
            recalled: count_u32(self.recalled().len())?,
            last_due_ms: self.timers().last_key_value().map_or(0, |(place, _)| place.due_ms),
        };
        let mut pages = Pages { out, base, number: 0, page: [0; PAGE_BYTES], filled: 0 };
        pages.put(&header.encode())?;
        pages.end_section()?;
        for row in &directory {
            pages.put(&row.encode())?;
        }
        pages.end_section()?;
        for row in &directory {
            for entry in self.chunks(row.stretch.queue).flatten() {
                pages.put(&entry.0)?;
            }
        }
        pages.end_section()?;
        let filter = self.write_keys(header.keys, &mut pages)?;
        for page in filter.chunks(PAYLOAD_BYTES) {
            pages.put(page)?;
        }
        pages.end_section()?;
        for (place, message) in self.timers() {
            pages.put(&Timer { place: *place, message: *message }.encode())?;
        }
        pages.end_section()?;
        for message in &foreign {
            pages.put(&message.encode())?;
        }
        pages.end_section()?;
        for place in self.recalled() {
            pages.put(&place.encode())?;
        }
        pages.end_section()
    }

    /// Messages whose records are before `base`, sorted by place.
    fn older_than(&self, base: Lsn) -> Vec<Foreign> {
        let mut foreign: Vec<Foreign> = self.foreign().filter(|foreign| foreign.lsn < base).collect();
        foreign.sort_unstable();
        foreign
    }

    fn directory(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.stretches().map(|stretch| Row { stretch, position: 0 }).collect();
        rows.sort_unstable_by_key(|row| row.stretch.queue);
        let mut position = 0;
        for row in &mut rows {
            row.position = position;
            position += row.stretch.count;
        }
        rows
    }

    /// Writes the keys, sorted, and returns the filter that goes in front of them.
    fn write_keys(&self, count: u32, pages: &mut Pages<'_, impl Write>) -> io::Result<Vec<u8>> {
        let filter_bytes = usize::try_from(filter_pages(count)).map_err(io::Error::other)? * PAYLOAD_BYTES;
        let mut filter = vec![0; filter_bytes];
        let passes = self.key_count().div_ceil(KEYS_AT_A_TIME);
        // Hashes are spread evenly, so a share of their range is a share of the keys.
        let pass_of = |key: &Key| (u128::from(key.0) * passes as u128) >> 64;
        for pass in 0..passes as u128 {
            let mut keys: Vec<Key> = self.all_keys().filter(|key| pass_of(key) == pass).copied().collect();
            keys.sort_unstable();
            for (hash, lsn) in keys {
                pages.put(&hash_and_place(hash, lsn))?;
                let Some((page, bits)) = filter_place(hash, count) else { continue };
                for bit in bits {
                    filter[page as usize * PAYLOAD_BYTES + bit as usize / 8] |= 1 << (bit % 8);
                }
            }
        }
        pages.end_section()?;
        Ok(filter)
    }
}

fn hash_and_place(hash: u64, lsn: Lsn) -> [u8; 16] {
    (u128::from(hash) | u128::from(lsn.0) << 64).to_le_bytes()
}

fn count_u32(count: usize) -> io::Result<u32> {
    u32::try_from(count).map_err(|_| io::Error::other("a segment holds fewer than 2^32 messages and keys"))
}

/// Puts items into pages. Items of a section are of one size and never cross a page.
struct Pages<'a, W> {
    out: &'a mut W,
    base: Lsn,
    number: u32,
    page: [u8; PAGE_BYTES],
    filled: usize,
}

impl<W: Write> Pages<'_, W> {
    fn put(&mut self, item: &[u8]) -> io::Result<()> {
        if self.filled + item.len() > PAYLOAD_BYTES {
            self.end_section()?;
        }
        self.page[self.filled..self.filled + item.len()].copy_from_slice(item);
        self.filled += item.len();
        Ok(())
    }

    /// Writes what there is; the next item begins a page.
    fn end_section(&mut self) -> io::Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        pages::finish(&mut self.page, self.base, self.number);
        self.out.write_all(&self.page)?;
        self.page = [0; PAGE_BYTES];
        self.filled = 0;
        self.number += 1;
        Ok(())
    }
}
