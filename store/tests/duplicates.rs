//! A topic that stores each message id once within a time.

mod harness;

use centaur_apis::{
    log::Resolution,
    store::{
        AppendRequest, Batch, BatchResult, EndTransactionRequest, Half, NewMessage, PutTopicRequest, RecallRequest,
    },
};
use centaur_store::{Config, Store};
use harness::{Client, Hands, Medium, START_MS, create_topic, message, message_id, pop};

const TOPIC: &str = "orders";
const WINDOW_MS: u64 = 60_000;

async fn open(config: &Config, hands: &Hands) -> (Store, Client) {
    harness::open(config, hands, &Medium::Real).expect("opens")
}

async fn set_window(client: &mut Client, dedupe_ms: u64) {
    let request = PutTopicRequest { name: TOPIC.into(), dedupe_ms: Some(dedupe_ms), ..Default::default() };
    client.put_topic(request).await.expect("set");
}

fn new(id: &str) -> NewMessage {
    message(TOPIC, id, None, &[], id.as_bytes().to_vec())
}

async fn send(client: &mut Client, messages: Vec<NewMessage>) -> BatchResult {
    let batch = Batch { topic: TOPIC.to_owned(), messages };
    let answer = client.append(AppendRequest { batches: vec![batch] }).await.expect("answered");
    let result = answer.into_inner().results.remove(0);
    assert_eq!(result.error, None);
    result
}

async fn all(client: &mut Client) -> Vec<String> {
    let deliveries = pop(client, "workers", TOPIC, 64).await.expect("answered");
    deliveries.iter().map(|delivery| message_id(&delivery.properties)).collect()
}

#[tokio::test]
async fn an_id_seen_within_the_window_is_stored_once_across_restarts() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config { data_dir: dir.path().into(), segment_bytes: 1 << 20, ..Config::default() };
    let hands = Hands::default();
    let (store, mut client) = open(&config, &hands).await;
    create_topic(&mut client, TOPIC, 1).await.expect("made");
    set_window(&mut client, WINDOW_MS).await;

    assert_eq!(send(&mut client, vec![new("a")]).await.offsets, [0]);
    hands.pass(1_000);
    assert_eq!(send(&mut client, vec![new("b"), new("a"), new("b"), new("c")]).await.offsets, [1, 0, 1, 2]);
    // Enough for the first message's segment to be sealed.
    for filler in 0..40 {
        let big = NewMessage { body: vec![7; 64 << 10].into(), ..new(&format!("filler-{filler}")) };
        send(&mut client, vec![big]).await;
    }
    drop(client);
    tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
    let (_store, mut client) = open(&config, &hands).await;
    assert_eq!(send(&mut client, vec![new("a"), new("c")]).await.offsets, [0, 2]);

    hands.pass(WINDOW_MS + 1);
    assert_eq!(send(&mut client, vec![new("c")]).await.offsets, [43], "the window is over");
    let seen = all(&mut client).await;
    assert_eq!(seen.iter().filter(|id| *id == "a").count(), 1);
    assert_eq!(seen.iter().filter(|id| *id == "c").count(), 2);
}

#[tokio::test]
async fn without_a_window_every_message_is_stored() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config { data_dir: dir.path().into(), ..Config::default() };
    let (_store, mut client) = open(&config, &Hands::default()).await;
    create_topic(&mut client, TOPIC, 1).await.expect("made");
    assert_eq!(send(&mut client, vec![new("a"), new("a")]).await.offsets, [0, 1]);
    set_window(&mut client, WINDOW_MS).await;
    assert_eq!(send(&mut client, vec![new("a")]).await.offsets, [2], "ids are known from now on");
    assert_eq!(send(&mut client, vec![new("a")]).await.offsets, [2]);
    set_window(&mut client, 0).await;
    assert_eq!(send(&mut client, vec![new("a")]).await.offsets, [3]);
}

#[tokio::test]
async fn a_repeated_scheduled_message_has_the_ticket_of_the_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config { data_dir: dir.path().into(), ..Config::default() };
    let (_store, mut client) = open(&config, &Hands::default()).await;
    create_topic(&mut client, TOPIC, 1).await.expect("made");
    set_window(&mut client, WINDOW_MS).await;
    let later = || NewMessage { due_ms: START_MS + 30_000, ..new("a") };
    let first = send(&mut client, vec![new("x"), later(), later()]).await;
    assert_eq!(first.tickets.len(), 3);
    assert_eq!((first.tickets[0].as_str(), &first.tickets[1]), ("", &first.tickets[2]));
    assert!(!first.tickets[1].is_empty());
    assert_eq!(send(&mut client, vec![later()]).await.tickets, [first.tickets[1].clone()]);
}

#[tokio::test]
async fn what_was_taken_back_may_be_sent_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config { data_dir: dir.path().into(), ..Config::default() };
    let (_store, mut client) = open(&config, &Hands::default()).await;
    create_topic(&mut client, TOPIC, 1).await.expect("made");
    set_window(&mut client, WINDOW_MS).await;

    let later = || NewMessage { due_ms: START_MS + 30_000, ..new("a") };
    let ticket = send(&mut client, vec![later()]).await.tickets.remove(0);
    let recall = RecallRequest { topic: TOPIC.into(), ticket: ticket.clone() };
    client.recall(recall).await.expect("recalled");
    let again = send(&mut client, vec![later()]).await;
    assert_ne!(again.tickets[0], ticket, "the first is not coming");
    assert_eq!(send(&mut client, vec![later()]).await.tickets, again.tickets);

    let half = || NewMessage { half: Some(Half::default()), ..new("b") };
    let ticket = send(&mut client, vec![half()]).await.tickets.remove(0);
    let end = |ticket: &str, resolution: Resolution| EndTransactionRequest {
        topic: TOPIC.into(),
        ticket: ticket.to_owned(),
        resolution: resolution.into(),
        ..Default::default()
    };
    client.end_transaction(end(&ticket, Resolution::RolledBack)).await.expect("ended");
    let again = send(&mut client, vec![half()]).await;
    assert_ne!(again.tickets[0], ticket, "the first is not coming");
    client.end_transaction(end(&again.tickets[0], Resolution::Committed)).await.expect("ended");
    assert_eq!(send(&mut client, vec![half()]).await.tickets, again.tickets, "that one came");
    assert_eq!(all(&mut client).await, ["b"]);
}
