//! A store that syncs later than it answers, after its machine ended and took what was not synced.

mod harness;

use std::{fs, path::Path};

use centaur_apis::{
    log::Resolution,
    store::{AppendRequest, Batch, EndTransactionRequest, Half, NewMessage, PopRequest, Reason, RecallRequest},
};
use centaur_store::{Config, Flush, Store};
use harness::{Client, Hands, Medium, START_MS, UNLIMITED, ack, create_topic, message, message_id, pop, reason, send};

const TOPIC: &str = "orders";
const GROUP: &str = "workers";

fn config(dir: &Path) -> Config {
    Config { data_dir: dir.into(), flush: Flush::Async, ..Config::default() }
}

/// Sends a message that gets no place yet; gives its ticket.
async fn ticketed(client: &mut Client, id: &str, due_ms: u64) -> String {
    let half = (due_ms == 0).then(Half::default);
    let new = NewMessage { half, due_ms, ..message(TOPIC, id, None, &[], id.as_bytes().to_vec()) };
    let batch = Batch { topic: TOPIC.to_owned(), messages: vec![new] };
    let answer = client.append(AppendRequest { batches: vec![batch] }).await.expect("answered");
    answer.into_inner().results.remove(0).tickets.remove(0)
}

async fn commit(client: &mut Client, ticket: &str) -> Result<(), Reason> {
    let request = EndTransactionRequest {
        topic: TOPIC.to_owned(),
        ticket: ticket.to_owned(),
        resolution: Resolution::Committed.into(),
        ..Default::default()
    };
    client.end_transaction(request).await.map(drop).map_err(|status| reason(&status))
}

async fn recall(client: &mut Client, ticket: &str) -> Result<(), Reason> {
    let request = RecallRequest { topic: TOPIC.to_owned(), ticket: ticket.to_owned() };
    client.recall(request).await.map(drop).map_err(|status| reason(&status))
}

async fn close(store: Store) {
    tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
}

const DUE_MS: u64 = START_MS + 3_600_000;

/// What clients hold that were given it by a store of which `copy` is what its machine left: each
/// before and after the last sync.
struct Held {
    leased: [String; 2],
    half: [String; 2],
    scheduled: [String; 2],
}

async fn live_and_end(dir: &Path, copy: &Path) -> Held {
    let (store, mut client) = harness::open(&config(dir), &Hands::default(), &Medium::Real).expect("opens");
    create_topic(&mut client, TOPIC, 1).await.expect("made");
    send(&mut client, TOPIC, 0, message(TOPIC, "kept", None, &[], vec![1])).await.expect("sent");
    let first = (
        pop(&mut client, GROUP, TOPIC, 1).await.expect("answered").remove(0).handle,
        ticketed(&mut client, "half-kept", 0).await,
        ticketed(&mut client, "later-kept", DUE_MS).await,
    );
    harness::copy_dir(dir, copy);
    let second_half = ticketed(&mut client, "half-lost", 0).await;
    send(&mut client, TOPIC, 0, message(TOPIC, "lost", None, &[], vec![1])).await.expect("sent");
    let second_lease = pop(&mut client, GROUP, TOPIC, 1).await.expect("answered").remove(0).handle;
    let second_scheduled = ticketed(&mut client, "later-lost", DUE_MS).await;
    close(store).await;
    Held { leased: [first.0, second_lease], half: [first.1, second_half], scheduled: [first.2, second_scheduled] }
}

#[tokio::test]
async fn what_was_given_out_for_lost_messages_is_of_no_use_for_those_in_their_places() {
    let (dir, copy) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let copy = copy.path().join("copy");
    let held = live_and_end(dir.path(), &copy).await;
    fs::write(copy.join("unsynced"), "another boot\n").expect("written");

    let hands = Hands::default();
    let (store, mut client) = harness::open(&config(&copy), &hands, &Medium::Real).expect("opens");
    // Others come to the places of the lost ones, in the same order.
    let half = ticketed(&mut client, "half-new", 0).await;
    assert_eq!(send(&mut client, TOPIC, 0, message(TOPIC, "new", None, &[], vec![1])).await, Ok(1));
    let taken = pop(&mut client, GROUP, TOPIC, 1).await.expect("answered").remove(0);
    assert_eq!(message_id(&taken.properties), "new");
    let scheduled = ticketed(&mut client, "later-new", DUE_MS).await;

    for handle in &held.leased {
        assert_eq!(ack(&mut client, GROUP, TOPIC, handle).await, Err(Reason::InvalidHandle));
    }
    let [kept, lost] = &held.half;
    assert_eq!(commit(&mut client, lost).await, Err(Reason::TransactionNotFound));
    assert_eq!(commit(&mut client, kept).await, Ok(()));
    let [kept, lost] = &held.scheduled;
    assert_eq!(recall(&mut client, lost).await, Err(Reason::TooLate));
    assert_eq!(recall(&mut client, kept).await, Ok(()));

    // What is given out now stays good, also through the next start.
    close(store).await;
    let (store, mut client) = harness::open(&config(&copy), &hands, &Medium::Real).expect("opens");
    assert_eq!(commit(&mut client, lost).await, Err(Reason::TransactionNotFound));
    assert_eq!(ack(&mut client, GROUP, TOPIC, &taken.handle).await, Ok(()));
    assert_eq!(commit(&mut client, &half).await, Ok(()));
    assert_eq!(recall(&mut client, &scheduled).await, Ok(()));
    hands.pass(120_000);
    let mut left: Vec<String> = Vec::new();
    for delivery in pop(&mut client, GROUP, TOPIC, 10).await.expect("answered") {
        left.push(message_id(&delivery.properties));
    }
    left.sort_unstable();
    assert_eq!(left, ["half-kept", "half-new", "kept"]);
    close(store).await;
}

#[tokio::test]
async fn what_lives_as_long_as_its_client_is_given_again_after_a_loss() {
    let dir = tempfile::tempdir().expect("a folder");
    let hands = Hands::default();
    let (store, mut client) = harness::open(&config(dir.path()), &hands, &Medium::Real).expect("opens");
    create_topic(&mut client, TOPIC, 1).await.expect("made");
    send(&mut client, TOPIC, 0, message(TOPIC, "held", None, &[], vec![1])).await.expect("sent");
    let request = PopRequest {
        group: GROUP.into(),
        topic: TOPIC.into(),
        client: "alive".into(),
        messages_max: 1,
        bytes_max: UNLIMITED,
        session_bound: true,
        create_group: true,
        ..Default::default()
    };
    let held = client.pop(request).await.expect("answered").into_inner().deliveries.remove(0);
    close(store).await;
    fs::write(dir.path().join("unsynced"), "another boot\n").expect("written");
    let (store, mut client) = harness::open(&config(dir.path()), &hands, &Medium::Real).expect("opens");
    assert_eq!(ack(&mut client, GROUP, TOPIC, &held.handle).await, Err(Reason::InvalidHandle));
    let again = pop(&mut client, GROUP, TOPIC, 1).await.expect("answered").remove(0);
    assert_eq!((message_id(&again.properties), again.attempt), ("held".to_owned(), 2));
    close(store).await;
}

#[tokio::test]
async fn a_process_that_ends_alone_takes_nothing_with_it() {
    let (dir, copy) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let copy = copy.path().join("copy");
    let held = live_and_end(dir.path(), &copy).await;
    let (store, mut client) = harness::open(&config(&copy), &Hands::default(), &Medium::Real).expect("opens");
    assert_eq!(ack(&mut client, GROUP, TOPIC, &held.leased[0]).await, Ok(()));
    assert_eq!(commit(&mut client, &held.half[0]).await, Ok(()));
    close(store).await;
    assert!(!copy.join("unsynced").exists(), "it ended in order");
}
