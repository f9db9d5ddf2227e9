//! A store whose oldest segment was thinned gives what is left of it.

mod harness;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use centaur_apis::names::StoreGroupName;
use centaur_store::{
    Config, Flush, OpenError,
    log::{self, Disk, Options, Thinning, record::Record},
};
use harness::{Client, Hands, Medium, create_topic, message, message_id, pop, send};

const TOPIC: &str = "orders";

fn with_ending(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).expect("listed").map(|file| file.expect("listed").path());
    let mut found: Vec<_> = files.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
    found.sort_unstable();
    found
}

/// Thins the oldest segment: every third message is left. Gives the ids of those, and of all.
fn thin_oldest(config: &Config) -> (Vec<u64>, Vec<u64>) {
    let options = Options {
        dir: config.data_dir.clone(),
        store_group: StoreGroupName::parse(&config.store_group).expect("valid"),
        segment_bytes: config.segment_bytes,
        tail_bytes: 0,
        salvage: false,
    };
    let mut opened = log::open(options, Arc::new(Disk)).expect("opened");
    let oldest = opened.recovery.segments[0];
    let (mut live, mut kept, mut all) = (Vec::new(), Vec::new(), Vec::new());
    let scanned = opened.reader.scan(oldest.base, oldest.end, &mut |block| {
        for record in log::records(block.first_record, &block.body) {
            let (lsn, length, record) = record.expect("whole");
            let Record::Message(message) = record else { continue };
            let offset = message.offset().expect("in its queue");
            if offset % 3 == 1 {
                live.push((lsn, length));
                kept.push(offset);
            }
            all.push(offset);
        }
        Ok(())
    });
    scanned.expect("scanned");
    let thinned = opened.reader.thin(&Thinning { base: oldest.base, live }).expect("thinned");
    opened.log.adopt_thinned(&thinned).expect("adopted");
    opened.log.close().expect("closed");
    (kept, all)
}

async fn pop_all(client: &mut Client, group: &str) -> Vec<u64> {
    let mut seen = Vec::new();
    loop {
        let some = pop(client, group, TOPIC, 8).await.expect("answered");
        if some.is_empty() {
            return seen;
        }
        seen.extend(some.iter().map(|delivery| message_id(&delivery.properties).parse::<u64>().expect("a number")));
    }
}

#[tokio::test]
async fn what_is_left_of_a_thinned_segment_is_given_with_an_index_made_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let config =
        Config { data_dir: dir.path().into(), segment_bytes: 1 << 20, flush: Flush::Sync, ..Config::default() };
    let (hands, log_dir) = (Hands::default(), dir.path().join("log"));
    let (store, mut client) = harness::open(&config, &hands, &Medium::Real).expect("opens");
    create_topic(&mut client, TOPIC, 1).await.expect("made");
    let mut sent = 0;
    while with_ending(&log_dir, "seg").len() < 3 {
        let message = message(TOPIC, &sent.to_string(), None, &[], vec![1; 64 << 10]);
        assert_eq!(send(&mut client, TOPIC, 0, message).await, Ok(sent));
        sent += 1;
    }
    drop(client);
    tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
    let (kept, all) = thin_oldest(&config);
    let expected: Vec<u64> = (0..sent).filter(|id| !all.contains(id) || kept.contains(id)).collect();
    assert!(kept.len() > 3 && expected.len() as u64 + 6 < sent);
    fs::remove_file(&with_ending(&log_dir, "idx")[0]).expect("removed");

    for group in ["first", "second"] {
        let (store, mut client) = harness::open(&config, &hands, &Medium::Real).expect("opens");
        assert_eq!(pop_all(&mut client, group).await, expected, "{group}");
        drop(client);
        tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
    }

    for snapshot in with_ending(&dir.path().join("snapshot"), "snap") {
        fs::remove_file(snapshot).expect("removed");
    }
    let refused = harness::open(&config, &hands, &Medium::Real).map(drop);
    assert!(matches!(refused, Err(OpenError::NoSnapshot { .. })), "{refused:?}");
    let salvaged = Config { salvage: true, ..config };
    let (store, client) = harness::open(&salvaged, &hands, &Medium::Real).expect("opens");
    drop(client);
    tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
}
