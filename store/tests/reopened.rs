//! A sealed segment that is open again, because the log was cut right behind it, gives its messages.

mod harness;

use std::path::{Path, PathBuf};

use centaur_apis::store::{PutTopicRequest, Reason};
use centaur_store::{Config, Flush};
use harness::{Client, Hands, Medium, ack, create_topic, message, message_id, pop, send};

const TOPIC: &str = "orders";

#[tokio::test]
async fn a_segment_opened_again_by_a_salvage_keeps_its_messages() {
    let dir = tempfile::tempdir().expect("a directory");
    let (config, hands) = (config(dir.path()), Hands::default());
    let (store, mut client) = harness::open(&config, &hands, &Medium::Real).expect("opens");
    create_topic(&mut client, TOPIC, 1).await.expect("made");
    let sent = fill(&mut client, dir.path(), 2).await;
    let held = pop(&mut client, "workers", TOPIC, 1).await.expect("answered").remove(0);
    drop(client);
    tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
    // The last message sent began the second segment; its first page is overwritten.
    let second = std::fs::OpenOptions::new().write(true).open(&segments(dir.path())[1]).expect("opened");
    std::os::unix::fs::FileExt::write_all_at(&second, &[0xee; 4096], 0).expect("damaged");
    let salvaged = Config { salvage: true, ..config };
    let (store, mut client) = harness::open(&salvaged, &hands, &Medium::Real).expect("opens");
    let late = ack(&mut client, "workers", TOPIC, &held.handle).await;
    assert_eq!(late, Err(Reason::InvalidHandle), "another message may be where its was");
    hands.pass(60_000);
    let seen = drain(&mut client).await;
    let expected: Vec<String> = (0..sent - 1).map(|id| id.to_string()).collect();
    assert_eq!(seen, expected);
    tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
}

#[tokio::test]
async fn a_salvage_without_a_snapshot_gives_no_offset_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let (config, hands) = (config(dir.path()), Hands::default());
    let (store, mut client) = harness::open(&config, &hands, &Medium::Real).expect("opens");
    create_topic(&mut client, TOPIC, 1).await.expect("made");
    let sent = fill(&mut client, dir.path(), 3).await;
    // The topic is known from here on only, once the beginning of the log is gone.
    let change = PutTopicRequest { name: TOPIC.to_owned(), ttl_ms: Some(86_400_000), ..Default::default() };
    client.put_topic(change).await.expect("changed");
    drop(client);
    tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
    let oldest = segments(dir.path()).remove(0);
    std::fs::remove_file(oldest.with_extension("idx")).expect("removed");
    std::fs::remove_file(oldest).expect("removed");
    std::fs::remove_dir_all(dir.path().join("snapshot")).expect("removed");

    let salvaged = Config { salvage: true, ..config };
    let (store, mut client) = harness::open(&salvaged, &hands, &Medium::Real).expect("opens");
    let new = send(&mut client, TOPIC, 0, message(TOPIC, "new", None, &[], vec![1])).await.expect("sent");
    assert!(new >= sent - 1, "offset {new} was given before");
    let seen = drain(&mut client).await;
    assert_eq!(seen.last().map(String::as_str), Some("new"), "{seen:?}");
    tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
}

fn config(dir: &Path) -> Config {
    Config { data_dir: dir.into(), segment_bytes: 1 << 20, flush: Flush::Sync, ..Config::default() }
}

/// Sends messages, numbered by their offsets, until the log has so many segments; says how many.
async fn fill(client: &mut Client, dir: &Path, wanted: usize) -> u64 {
    let mut sent = 0;
    while segments(dir).len() < wanted {
        let message = message(TOPIC, &sent.to_string(), None, &[], vec![1; 64 << 10]);
        assert_eq!(send(client, TOPIC, 0, message).await, Ok(sent));
        sent += 1;
    }
    sent
}

/// The ids of all that there is for the group.
async fn drain(client: &mut Client) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let some = pop(client, "workers", TOPIC, 8).await.expect("answered");
        if some.is_empty() {
            return seen;
        }
        seen.extend(some.iter().map(|delivery| message_id(&delivery.properties)));
    }
}

/// Files of the log's segments, in order.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join("log")).expect("listed").map(|file| file.expect("listed").path());
    let mut segments: Vec<_> = files.filter(|path| path.extension().is_some_and(|ending| ending == "seg")).collect();
    segments.sort_unstable();
    segments
}
