//! A store whose oldest segment was thinned gives what is left of it.

mod harness;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use centaur_apis::{
    names::StoreGroupName,
    store::{AppendRequest, Batch, DescribeRequest, NewMessage, PutTopicRequest, RecallRequest},
};
use centaur_store::{
    Config, Flush, OpenError,
    log::{self, Disk, Options, Thinning, record::Record},
};
use harness::{Client, Hands, Medium, START_MS, create_topic, message, message_id, pop, send};

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

/// Sends messages that are of no use for long until a segment is sealed; gives the base of the next.
async fn fill_segment(client: &mut Client, log_dir: &Path) -> String {
    let newest = || with_ending(log_dir, "seg").pop().expect("an open segment");
    let before = newest();
    while newest() == before {
        send(client, SHORT, 0, message(SHORT, "filler", None, &[], vec![1; 32 << 10])).await.expect("sent");
    }
    newest().file_stem().expect("a base").to_string_lossy().into_owned()
}

const SHORT: &str = "short";

#[tokio::test]
async fn a_segment_whose_index_run_cannot_be_written_is_not_thinned() {
    let dir = tempfile::tempdir().expect("a directory");
    let config =
        Config { data_dir: dir.path().into(), segment_bytes: 1 << 20, flush: Flush::Sync, ..Config::default() };
    let (hands, log_dir) = (Hands::default(), dir.path().join("log"));
    let (store, mut client) = harness::open(&config, &hands, &Medium::Real).expect("opens");
    create_topic(&mut client, TOPIC, 1).await.expect("made");
    create_topic(&mut client, SHORT, 1).await.expect("made");
    let brief = PutTopicRequest { name: SHORT.into(), retention_ms: Some(60_000), ..Default::default() };
    client.put_topic(brief).await.expect("set");
    for id in 0..5u64 {
        let later =
            NewMessage { due_ms: START_MS + 30_000, ..message(TOPIC, &id.to_string(), None, &[], vec![2; 100]) };
        send(&mut client, TOPIC, 0, later).await.expect("sent");
    }
    // They come due in the second segment, whose run cannot be written.
    let second = fill_segment(&mut client, &log_dir).await;
    let obstacle = log_dir.join(format!("{second}.idx.tmp"));
    fs::create_dir(&obstacle).expect("made");
    hands.pass(30_000);
    for _ in 0..2 {
        client.describe(DescribeRequest {}).await.expect("described");
    }
    for _ in 0..4 {
        fill_segment(&mut client, &log_dir).await;
    }
    hands.pass(120_000);
    while with_ending(&log_dir, "thin").is_empty() {
        client.describe(DescribeRequest {}).await.expect("described");
        hands.pass(10_000);
    }
    // Whatever else may be thinned has had its turns.
    for _ in 0..50 {
        client.describe(DescribeRequest {}).await.expect("described");
        hands.pass(10_000);
    }
    drop(client);
    tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
    fs::remove_dir(&obstacle).expect("removed");
    let (store, mut client) = harness::open(&config, &hands, &Medium::Real).expect("opens");
    assert_eq!(pop_all(&mut client, "workers").await, [0, 1, 2, 3, 4]);
    drop(client);
    tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
}

/// Everything that is left of segments, and nothing but that: also what came into its queue there and
/// is stored in an older one, what was recalled, and what was decided.
#[tokio::test]
async fn index_runs_of_thinned_segments_are_made_again_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let config =
        Config { data_dir: dir.path().into(), segment_bytes: 1 << 20, flush: Flush::Sync, ..Config::default() };
    let (hands, log_dir) = (Hands::default(), dir.path().join("log"));
    let (store, mut client) = harness::open(&config, &hands, &Medium::Real).expect("opens");
    create_topic(&mut client, TOPIC, 1).await.expect("made");
    create_topic(&mut client, SHORT, 1).await.expect("made");
    let brief = PutTopicRequest { name: SHORT.into(), retention_ms: Some(60_000), ..Default::default() };
    client.put_topic(brief).await.expect("set");
    let mut tickets = Vec::new();
    for (id, due_ms) in [(0u64, 30_000), (1, 30_000), (2, 7_200_000), (3, 7_200_000)] {
        let later =
            NewMessage { due_ms: START_MS + due_ms, ..message(TOPIC, &id.to_string(), None, &[], vec![2; 100]) };
        let batch = Batch { topic: TOPIC.into(), messages: vec![later] };
        let answer = client.append(AppendRequest { batches: vec![batch] }).await.expect("sent").into_inner();
        tickets.push(answer.results[0].tickets[0].clone());
    }
    // Two come due in the second segment, and one of the others is recalled there.
    fill_segment(&mut client, &log_dir).await;
    hands.pass(30_000);
    for _ in 0..2 {
        client.describe(DescribeRequest {}).await.expect("described");
    }
    let recall = RecallRequest { topic: TOPIC.into(), ticket: tickets[2].clone() };
    client.recall(recall.clone()).await.expect("recalled");
    for _ in 0..4 {
        fill_segment(&mut client, &log_dir).await;
    }
    hands.pass(120_000);
    while with_ending(&log_dir, "thin").len() < 2 {
        client.describe(DescribeRequest {}).await.expect("described");
        hands.pass(10_000);
    }
    drop(client);
    tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
    for thinned in with_ending(&log_dir, "thin") {
        fs::remove_file(thinned.with_extension("idx")).expect("removed");
    }

    let (store, mut client) = harness::open(&config, &hands, &Medium::Real).expect("opens");
    assert_eq!(client.recall(recall).await.expect("again").into_inner().message_id, "2");
    assert_eq!(pop_all(&mut client, "workers").await, [0, 1]);
    hands.pass(7_200_000);
    for _ in 0..2 {
        client.describe(DescribeRequest {}).await.expect("described");
    }
    // Those of the other two come once more: nobody said that they are done.
    assert_eq!(pop_all(&mut client, "workers").await, [0, 1, 3]);
    drop(client);
    tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
}
