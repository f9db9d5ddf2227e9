//! What a log does on a disk that works: the real one.

use std::sync::Arc;

use super::*;

#[test]
fn what_was_appended_is_read_again_before_and_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut written = Vec::new();
    let mut opened = open(options(dir.path()), Arc::new(Disk)).expect("opens");
    assert!(!opened.recovery.was_clean);
    for seed in 1..200 {
        let body = body(seed, 12);
        if opened.log.room() < body.len() as u64 {
            let sealed = opened.log.roll().expect("rolls");
            assert!(sealed.sealed && sealed.end == opened.log.next());
        }
        let appended = opened.log.append(body.clone(), 12, seed, Term(1)).expect("appends");
        assert_eq!(appended.first_record, appended.block.plus(BLOCK_HEADER_BYTES));
        written.push((appended, body));
    }
    let last = written.last().expect("some").0;
    let refused = opened.reader.read(last.first_record, 16);
    assert!(matches!(refused, Err(ReadError::Beyond { .. })), "not confirmed yet: {refused:?}");
    assert_eq!(opened.log.sync().expect("syncs"), last.end);
    opened.log.set_confirmed(last.end);
    check_all(&opened.reader, &written);
    let segments = opened.log.segments();
    assert!(segments.len() > 2, "the test rolls");
    opened.log.close().expect("closes");

    let opened = open(options(dir.path()), Arc::new(Disk)).expect("opens again");
    assert!(opened.recovery.was_clean);
    assert_eq!(opened.recovery.cut, None);
    assert_eq!(opened.recovery.last_store_ms, 199);
    assert_eq!(opened.recovery.segments, segments);
    check_all(&opened.reader, &written);
}

fn check_all(reader: &Reader, written: &[(Appended, Bytes)]) {
    let mut found = Vec::new();
    let end = written.last().expect("some").0.end;
    let scanned = reader.scan(Lsn(0), end, &mut |block| {
        found.push((block.lsn, block.body));
        Ok(())
    });
    assert_eq!(scanned.expect("scans"), end);
    let expected: Vec<_> = written.iter().map(|(appended, body)| (appended.block, body.clone())).collect();
    assert_eq!(found, expected);
    for (appended, body) in written {
        for record in records(appended.first_record, body) {
            let (at, length, record) = record.expect("whole");
            let bytes = reader.read(at, length).expect("reads");
            assert_eq!(record::decode(&bytes), Ok((record, length as usize)));
            assert_eq!(reader.record_length(at).expect("reads"), length);
        }
    }
}
