//! What only the real disk shows: locks, mappings, descriptors, the thread that allocates.

use std::{collections::BTreeMap, fs};

use super::*;

fn open_in(dir: &Path) -> Result<Opened, OpenError> {
    open(options(dir), Arc::new(Disk))
}

/// Every file below a directory, with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(path).expect("reads"));
        }
    }
    found
}

#[test]
fn a_second_process_is_told_who_has_the_lock_and_writes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("LOCK"), "").expect("writes");
    let held = fs::File::open(dir.path().join("LOCK")).expect("opens");
    held.lock().expect("locks");
    fs::write(dir.path().join("LOCK"), "4711").expect("writes");
    let before = files(dir.path());
    let refused = open_in(dir.path()).expect_err("it is locked");
    assert!(refused.to_string().contains("process 4711"), "{refused}");
    assert_eq!(files(dir.path()), before);

    drop(held);
    let opened = open_in(dir.path()).expect("the lock went with its holder");
    let refused = open_in(dir.path()).expect_err("locked by this process");
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    drop(opened);
    drop(open_in(dir.path()).expect("opens again"));
}

#[test]
fn a_refused_directory_is_left_as_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut opened = open_in(dir.path()).expect("opens");
    append_all(&mut opened.log, 1..9, 1);
    opened.log.close().expect("closes");
    let path = segment::path(dir.path(), Lsn(0));
    let mut bytes = fs::read(&path).expect("reads");
    bytes[page::PAGE + 200] ^= 1;
    fs::write(&path, bytes).expect("writes");
    fs::remove_file(position::path(dir.path())).expect("removes");
    let before = files(dir.path());
    assert!(matches!(open_in(dir.path()), Err(OpenError::Damaged { .. })));
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_torn_tail_is_cut_without_shrinking_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut opened = open_in(dir.path()).expect("opens");
    let mut blocks = append_all(&mut opened.log, 1..3, 1);
    opened.log.sync().expect("syncs");
    blocks.extend(append_all(&mut opened.log, 3..6, 2));
    drop(opened);
    let path = segment::path(dir.path(), Lsn(0));
    let mut bytes = fs::read(&path).expect("reads");
    let torn = usize::try_from(blocks[3].at.0).expect("small") + page::PAGE;
    bytes[torn + 90..torn + 120].fill(0xff);
    fs::write(&path, bytes).expect("writes");
    let mut opened = open_in(dir.path()).expect("opens");
    let dropped = blocks[4].end.0 - blocks[3].at.0;
    assert_eq!(opened.recovery.cut.map(|(at, _)| at), Some(blocks[3].at));
    assert!(opened.recovery.cut.is_some_and(|(_, bytes)| (1..=dropped).contains(&bytes)));
    assert_eq!(contents(&opened), blocks[..3]);
    blocks.truncate(3);
    blocks.extend(append_all(&mut opened.log, 7..9, 3));
    assert_eq!(fs::metadata(&path).expect("is there").len(), SEGMENT_BYTES);
    drop(opened);
    assert_eq!(contents(&open_in(dir.path()).expect("opens")), blocks);
}

#[test]
fn what_was_read_outlives_its_segment() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut opened = open(Options { tail_bytes: 0, ..options(dir.path()) }, Arc::new(Disk)).expect("opens");
    let (log, reader) = (&mut opened.log, &opened.reader);
    let first = append(log, &body(39, 10), 1).expect("appends");
    log.roll().expect("rolls");
    log.set_confirmed(log.written());
    fs::write(segment::run_path(dir.path(), Lsn(0)), "a run").expect("writes");
    let (at, length, record) =
        records(first.at.plus(BLOCK_HEADER_BYTES), &first.body).next().expect("one").expect("whole");
    let slice = reader.read(at, length).expect("reads");
    assert!(reader.is_hot(at));

    log.remove_oldest(Lsn(0)).expect("removes");
    log.remove_oldest(Lsn(0)).expect("is gone already");
    assert!(!segment::path(dir.path(), Lsn(0)).exists() && !segment::run_path(dir.path(), Lsn(0)).exists());
    assert_eq!(record::decode(&slice).expect("whole").0, record);
    let gone = reader.read(at, length);
    assert!(matches!(gone, Err(ReadError::Gone { .. })), "{gone:?}");
    let open = log.segments()[0].base;
    log.remove_oldest(open).expect("does nothing");
    assert_eq!(log.segments().len(), 1, "the open segment stays");
}

#[test]
fn a_long_log_holds_few_descriptors() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut opened = open_in(dir.path()).expect("opens");
    let mut blocks = Vec::new();
    while opened.log.segments().len() < 40 {
        blocks.push(append(&mut opened.log, &body(39, 60), 1).expect("appends"));
    }
    opened.log.sync().expect("syncs");
    opened.log.set_confirmed(opened.log.durable());
    for block in &blocks {
        let first = block.at.plus(BLOCK_HEADER_BYTES);
        let length = opened.reader.record_length(first).expect("reads");
        assert_eq!(opened.reader.read(first, length).expect("reads"), block.body[..length as usize]);
    }
    let descriptors = fs::read_dir("/proc/self/fd").expect("lists").filter_map(Result::ok);
    let ours = descriptors.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(dir.path())));
    assert!(ours.count() < 8);
    drop(opened);
    assert_eq!(contents(&open_in(dir.path()).expect("opens")), blocks);
}
