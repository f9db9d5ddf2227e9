//! The pages of a run file: each says whose and which it is and carries its own checksum, so that
//! any one can be read and believed alone. Recently read ones are kept in memory.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use centaur_apis::units::Lsn;

use super::{RunError, u32_at, u64_at};
use crate::log::record::checksum;

pub(super) const PAGE_BYTES: usize = 8192;
/// Bytes of a page before its trailer.
pub(super) const PAYLOAD_BYTES: usize = PAGE_BYTES - 32;
const BASE_AT: usize = PAYLOAD_BYTES;
const NUMBER_AT: usize = PAYLOAD_BYTES + 8;
const CHECKSUM_AT: usize = PAGE_BYTES - 4;

/// Pages of all runs kept in memory: 4 MiB.
const CACHED_PAGES_MAX: usize = 512;

/// One verified page.
pub(super) type Page = Arc<[u8]>;

/// Completes a page: `page` has its payload, padded with zeros.
pub(super) fn finish(page: &mut [u8; PAGE_BYTES], base: Lsn, number: u32) {
    page[BASE_AT..NUMBER_AT].copy_from_slice(&base.0.to_le_bytes());
    page[NUMBER_AT..NUMBER_AT + 4].copy_from_slice(&number.to_le_bytes());
    let checksum = checksum(&page[..CHECKSUM_AT]);
    page[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
}

/// A run file, read page by page.
pub(super) struct PageFile {
    path: PathBuf,
    file: File,
    pages: u64,
    base: Lsn,
    /// The cache and the number that it knows this file by.
    cache: Option<(Arc<Cache>, u64)>,
}

impl PageFile {
    /// Opens a file of whole pages; its first page tells which segment it is about.
    pub(super) fn open(path: &Path) -> Result<(Self, Page), RunError> {
        let failed = |source| RunError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let pages = length / PAGE_BYTES as u64;
        let mut opened = Self { path: path.to_owned(), file, pages, base: Lsn(0), cache: None };
        if pages == 0 || length % PAGE_BYTES as u64 != 0 {
            return Err(opened.damaged(0, "the file is cut short"));
        }
        let page = opened.read_checked(0)?;
        opened.base = Lsn(u64_at(&page, BASE_AT));
        Ok((opened, page))
    }

    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    pub(super) fn base(&self) -> Lsn {
        self.base
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// From now on pages are looked for in `cache` first.
    pub(super) fn set_cache(&mut self, cache: &Arc<Cache>) {
        self.cache = Some((Arc::clone(cache), cache.files.fetch_add(1, Ordering::Relaxed)));
    }

    /// One page, verified.
    pub(super) fn page(&self, number: u32) -> Result<Page, RunError> {
        let Some((cache, file)) = &self.cache else { return self.read(number) };
        if let Some(page) = cache.get((*file, number)) {
            return Ok(page);
        }
        let page = self.read(number)?;
        cache.put((*file, number), &page);
        Ok(page)
    }

    pub(super) fn damaged(&self, page: u32, what: &'static str) -> RunError {
        RunError::Damaged { path: self.path.clone(), page, what }
    }

    fn read(&self, number: u32) -> Result<Page, RunError> {
        let page = self.read_checked(number)?;
        if u64_at(&page, BASE_AT) != self.base.0 || u32_at(&page, NUMBER_AT) != number {
            return Err(self.damaged(number, "the page belongs elsewhere"));
        }
        Ok(page)
    }

    fn read_checked(&self, number: u32) -> Result<Page, RunError> {
        if u64::from(number) >= self.pages {
            return Err(self.damaged(number, "the page is beyond the end"));
        }
        let mut page = [0; PAGE_BYTES];
        let read = self.file.read_exact_at(&mut page, u64::from(number) * PAGE_BYTES as u64);
        match read {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.damaged(number, "the file is cut short"));
            }
            Err(source) => return Err(RunError::Io { path: self.path.clone(), source }),
        }
        if u32_at(&page, CHECKSUM_AT) != checksum(&page[..CHECKSUM_AT]) {
            return Err(self.damaged(number, "checksum does not match"));
        }
        Ok(Arc::from(page.as_slice()))
    }
}

/// A page of a file. Files are numbered as they come: the run of a segment may be made again.
type PageKey = (u64, u32);

/// Recently read pages. One that was not asked for since the hand passed it last makes room.
#[derive(Default)]
pub(super) struct Cache {
    files: AtomicU64,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    places: HashMap<PageKey, usize>,
    slots: Vec<Slot>,
    hand: usize,
}

struct Slot {
    key: PageKey,
    page: Page,
    used: bool,
}

impl Cache {
    fn get(&self, key: PageKey) -> Option<Page> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let place = *slots.places.get(&key)?;
        let slot = slots.slots.get_mut(place)?;
        slot.used = true;
        Some(Arc::clone(&slot.page))
    }

    fn put(&self, key: PageKey, page: &Page) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).put(Slot {
            key,
            page: Arc::clone(page),
            used: false,
        });
    }
}

impl Slots {
    fn put(&mut self, slot: Slot) {
        let key = slot.key;
        if self.slots.len() < CACHED_PAGES_MAX {
            self.places.insert(key, self.slots.len());
            self.slots.push(slot);
            return;
        }
        while self.slots[self.hand].used {
            self.slots[self.hand].used = false;
            self.hand = (self.hand + 1) % CACHED_PAGES_MAX;
        }
        self.places.remove(&self.slots[self.hand].key);
        self.places.insert(key, self.hand);
        self.slots[self.hand] = slot;
        self.hand = (self.hand + 1) % CACHED_PAGES_MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_keeps_what_is_used_and_stays_bounded() {
        let cache = Cache::default();
        let page: Page = Arc::from([0u8].as_slice());
        for number in 0..10_000 {
            cache.put((7, number), &page);
            assert!(cache.get((7, 0)).is_some(), "page 0 is used all the time, {number}");
        }
        let slots = cache.slots.lock().expect("not poisoned");
        assert_eq!((slots.slots.len(), slots.places.len()), (CACHED_PAGES_MAX, CACHED_PAGES_MAX));
    }
}
