//! Messages that nobody could consume: each is either with its group or in the dead-letter topic,
//! says where it came from, and is sent to its own topic again once.

mod harness;

use std::collections::{BTreeMap, BTreeSet};

use centaur_apis::{
    log::{Permission, Resolution},
    store::{
        AppendRequest, Batch, DeadLetterRequest, DeleteTopicRequest, Delivery, DescribeTopicRequest,
        EndTransactionRequest, Half, Mode, NewMessage, Place, PutGroupRequest, PutTopicRequest, QueryMessagesRequest,
        Reason, RedriveRequest, RedriveResult, query_messages_request::By, redrive_result::Outcome,
    },
    v2,
};
use centaur_store::{
    Config, Store,
    log::faulty::{Faults, FaultyDisk, Random},
};
use harness::{Client, Hands, Medium, START_MS, ack, create_topic, message, message_id, pop, reason, send, setting};
use prost::Message as _;

const TOPIC: &str = "orders";
const GROUP: &str = "workers";
const GRAVE: &str = "%DLQ%workers";
const LEASE_MS: u64 = 60_000;

struct Bench {
    _data: tempfile::TempDir,
    config: Config,
    hands: Hands,
    medium: Medium,
}

impl Bench {
    fn new() -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let config = Config { data_dir: data.path().to_owned(), segment_bytes: 2 << 20, ..Config::default() };
        Self { _data: data, config, hands: Hands::default(), medium: Medium::Real }
    }

    fn open(&self) -> (Store, Client) {
        harness::open(&self.config, &self.hands, &self.medium).expect("opens")
    }

    async fn with_group(&self, max_attempts: u32) -> (Store, Client) {
        let (store, mut client) = self.open();
        set_up(&mut client, max_attempts).await.expect("set up");
        (store, client)
    }

    async fn reopen(&self, store: Store) -> (Store, Client) {
        tokio::task::spawn_blocking(|| store.close()).await.expect("joined").expect("closed");
        self.open()
    }
}

async fn set_up(client: &mut Client, max_attempts: u32) -> Result<(), Reason> {
    create_topic(client, TOPIC, 2).await?;
    let group = PutGroupRequest { name: GROUP.to_owned(), max_attempts: Some(max_attempts), ..Default::default() };
    client.put_group(group).await.map(drop).map_err(|status| reason(&status))
}

fn new(id: &str, bytes: usize) -> NewMessage {
    message(TOPIC, id, Some("red"), &["key"], vec![7; bytes])
}

async fn bury(client: &mut Client, handle: &str, message_id: &str) -> Result<(), Reason> {
    let request = DeadLetterRequest {
        group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        handle: handle.to_owned(),
        client: "consumer".to_owned(),
        message_id: message_id.to_owned(),
    };
    client.dead_letter(request).await.map(drop).map_err(|status| reason(&status))
}

/// Every message of a topic, by offset.
async fn all(client: &mut Client, topic: &str, queue: u32) -> Vec<Delivery> {
    let request = DescribeTopicRequest { name: topic.to_owned() };
    let Ok(described) = client.describe_topic(request).await else { return Vec::new() };
    let mut found = Vec::new();
    for offset in 0..described.into_inner().queues[queue as usize].end {
        let by = Some(By::Place(Place { queue, offset }));
        let request = QueryMessagesRequest { topic: topic.to_owned(), by, limit: 1 };
        found.extend(client.query_messages(request).await.expect("answered").into_inner().messages);
    }
    found
}

async fn dead(client: &mut Client) -> Vec<Delivery> {
    all(client, GRAVE, 0).await
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| message_id(&delivery.properties)).collect()
}

fn user_properties(delivery: &Delivery) -> BTreeMap<String, String> {
    v2::Message::decode(delivery.head.as_ref()).expect("a head").user_properties.into_iter().collect()
}

async fn redrive(client: &mut Client, offsets: &[u64], dry_run: bool) -> Result<Vec<RedriveResult>, Reason> {
    let places = offsets.iter().map(|offset| Place { queue: 0, offset: *offset }).collect();
    let answer = client.redrive(RedriveRequest { group: GROUP.to_owned(), places, dry_run }).await;
    answer.map(|answer| answer.into_inner().results).map_err(|status| reason(&status))
}

fn outcomes(results: &[RedriveResult]) -> Vec<(Outcome, Option<Reason>)> {
    results.iter().map(|result| (result.outcome(), result.error.as_ref().map(|error| error.reason()))).collect()
}

#[tokio::test]
async fn a_message_without_attempts_left_dies_once_and_says_of_what() {
    let bench = Bench::new();
    let (store, mut client) = bench.with_group(3).await;
    send(&mut client, TOPIC, 1, new("other", 1)).await.expect("sent");
    send(&mut client, TOPIC, 1, new("a", 10)).await.expect("sent");
    let other = pop(&mut client, GROUP, TOPIC, 1).await.expect("popped").remove(0);
    ack(&mut client, GROUP, TOPIC, &other.handle).await.expect("acked");
    for attempt in 1..=3 {
        let delivery = pop(&mut client, GROUP, TOPIC, 1).await.expect("popped").remove(0);
        assert_eq!(delivery.attempt, attempt);
        assert_eq!(dead(&mut client).await, []);
        bench.hands.pass(LEASE_MS);
    }
    assert_eq!(pop(&mut client, GROUP, TOPIC, 1).await, Ok(vec![]));
    let (_store, mut client) = bench.reopen(store).await;
    assert_eq!(pop(&mut client, GROUP, TOPIC, 1).await, Ok(vec![]));
    let letters = dead(&mut client).await;
    assert_eq!(ids(&letters), ["a"]);
    let time_ms = (START_MS + 3 * LEASE_MS).to_string();
    let expected = [
        ("color", "a"),
        ("DLQ_GROUP", GROUP),
        ("DLQ_ATTEMPTS", "3"),
        ("DLQ_REASON", "attempts exhausted"),
        ("DLQ_ORIGIN_QUEUE", "1"),
        ("DLQ_ORIGIN_OFFSET", "1"),
        ("DLQ_TIME_MS", time_ms.as_str()),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(user_properties(&letters[0]), BTreeMap::from(expected));
    let properties = v2::SystemProperties::decode(letters[0].properties.as_ref()).expect("properties");
    let origin = properties.dead_letter_queue.expect("an origin");
    assert_eq!((origin.topic.as_str(), origin.message_id.as_str()), (TOPIC, "a"));
    // Whoever reads the dead-letter topic gets it like any message.
    let again = pop(&mut client, "undertakers", GRAVE, 1).await.expect("popped").remove(0);
    assert_eq!((again.attempt, again.body.len()), (1, 10));
}

#[tokio::test]
async fn a_forwarded_message_is_dead_and_nothing_else_holds_it() {
    let bench = Bench::new();
    let (_store, mut client) = bench.with_group(17).await;
    send(&mut client, TOPIC, 0, new("a", 10)).await.expect("sent");
    send(&mut client, TOPIC, 0, new("b", 10)).await.expect("sent");
    let held = pop(&mut client, GROUP, TOPIC, 2).await.expect("popped");
    for _ in 0..2 {
        assert_eq!(bury(&mut client, &held[0].handle, "").await, Ok(()));
        assert_eq!(bury(&mut client, "", "b").await, Ok(()));
    }
    let letters = dead(&mut client).await;
    assert_eq!(ids(&letters), ["a", "b"]);
    assert_eq!(user_properties(&letters[1])["DLQ_REASON"], "forwarded by client");
    bench.hands.pass(LEASE_MS);
    assert_eq!(pop(&mut client, GROUP, TOPIC, 2).await, Ok(vec![]));
}

#[tokio::test]
async fn a_message_out_of_a_transaction_is_forwarded_by_its_id() {
    let bench = Bench::new();
    let (_store, mut client) = bench.with_group(17).await;
    send(&mut client, TOPIC, 1, new("before", 10)).await.expect("sent");
    let half = NewMessage { half: Some(Half::default()), queue: 1, ..new("a", 10) };
    let batch = Batch { topic: TOPIC.to_owned(), messages: vec![half] };
    client.append(AppendRequest { batches: vec![batch] }).await.expect("sent");
    let request = EndTransactionRequest {
        topic: TOPIC.to_owned(),
        message_id: "a".to_owned(),
        resolution: Resolution::Committed.into(),
        ..Default::default()
    };
    client.end_transaction(request).await.expect("ended");
    assert_eq!(bury(&mut client, "", "a").await, Ok(()), "nobody holds it yet");
    assert_eq!(ids(&pop(&mut client, GROUP, TOPIC, 2).await.expect("popped")), ["before", "a"]);
    assert_eq!(bury(&mut client, "", "a").await, Ok(()));
    let letters = dead(&mut client).await;
    assert_eq!(ids(&letters), ["a"]);
    assert_eq!(user_properties(&letters[0])["DLQ_ORIGIN_OFFSET"], "1");
    bench.hands.pass(LEASE_MS);
    assert_eq!(ids(&pop(&mut client, GROUP, TOPIC, 2).await.expect("popped")), ["before"]);
    assert_eq!(outcomes(&redrive(&mut client, &[0], false).await.expect("sent")), [(Outcome::Sent, None)]);
    assert_eq!(ids(&all(&mut client, TOPIC, 1).await), ["before", "a", "a"]);
}

#[tokio::test]
async fn many_large_messages_die_one_block_after_the_other() {
    let bench = Bench::new();
    let (store, mut client) = bench.with_group(1).await;
    let sent: Vec<String> = (0..12).map(|n| format!("m{n}")).collect();
    for id in &sent {
        send(&mut client, TOPIC, 0, new(id, 400 << 10)).await.expect("sent");
    }
    assert_eq!(ids(&pop(&mut client, GROUP, TOPIC, 32).await.expect("popped")), sent);
    bench.hands.pass(LEASE_MS);
    assert_eq!(pop(&mut client, GROUP, TOPIC, 32).await, Ok(vec![]));
    while dead(&mut client).await.len() < sent.len() {
        tokio::task::yield_now().await;
    }
    let (_store, mut client) = bench.reopen(store).await;
    assert_eq!(ids(&dead(&mut client).await), sent);
}

#[tokio::test]
async fn a_dead_letter_is_sent_again_once_as_it_was() {
    let bench = Bench::new();
    let (store, mut client) = bench.with_group(17).await;
    for id in ["a", "b", "c"] {
        send(&mut client, TOPIC, 1, new(id, 10)).await.expect("sent");
    }
    for delivery in pop(&mut client, GROUP, TOPIC, 3).await.expect("popped") {
        bury(&mut client, &delivery.handle, "").await.expect("buried");
    }
    let dry = redrive(&mut client, &[1], true).await.expect("tried");
    assert_eq!(outcomes(&dry), [(Outcome::Sent, None)]);
    assert_eq!(all(&mut client, TOPIC, 1).await.len(), 3, "nothing is sent when it is only tried");
    let sent = redrive(&mut client, &[1, 0, 1, 9], false).await.expect("sent");
    let nothing = (Outcome::Refused, Some(Reason::OffsetNotFound));
    assert_eq!(outcomes(&sent), [(Outcome::Sent, None), (Outcome::Sent, None), (Outcome::Already, None), nothing]);
    assert_eq!(sent[0], dry[0]);
    assert_eq!(
        (sent[0].message_id.as_str(), sent[0].topic.as_str(), sent[0].queue, sent[0].offset),
        ("b", TOPIC, 1, 3)
    );
    let stored = all(&mut client, TOPIC, 1).await;
    assert_eq!(ids(&stored), ["a", "b", "c", "b", "a"]);
    let content = |delivery: &Delivery| (delivery.head.clone(), delivery.properties.clone(), delivery.body.clone());
    assert_eq!(content(&stored[3]), content(&stored[1]));

    let (_store, mut client) = bench.reopen(store).await;
    let already = (Outcome::Already, None);
    assert_eq!(outcomes(&redrive(&mut client, &[0, 1], false).await.expect("answered")), [already, already]);
    let again = pop(&mut client, GROUP, TOPIC, 9).await.expect("popped");
    assert_eq!(
        again.iter().map(|d| (message_id(&d.properties), d.attempt)).collect::<Vec<_>>(),
        [("b".to_owned(), 1), ("a".to_owned(), 1)]
    );
}

#[tokio::test]
async fn what_cannot_be_sent_again_is_refused_with_the_reason() {
    let bench = Bench::new();
    let (_store, mut client) = bench.with_group(17).await;
    assert_eq!(redrive(&mut client, &[0], false).await, Err(Reason::TopicNotFound));
    send(&mut client, TOPIC, 1, new("a", 10)).await.expect("sent");
    let held = pop(&mut client, GROUP, TOPIC, 3).await.expect("popped");
    bury(&mut client, &held[0].handle, "").await.expect("buried");
    let plain = message(GRAVE, "not dead", None, &[], vec![]);
    assert_eq!(send(&mut client, GRAVE, 0, plain).await, Ok(1));
    assert_eq!(redrive(&mut client, &[0; 65], false).await, Err(Reason::Invalid));

    let read_only = PutTopicRequest {
        name: TOPIC.to_owned(),
        permission: Some(Permission::Read.into()),
        mode: Mode::Update.into(),
        ..Default::default()
    };
    client.put_topic(read_only).await.expect("changed");
    let refused = redrive(&mut client, &[0, 1], false).await.expect("answered");
    let reasons = [(Outcome::Refused, Some(Reason::Forbidden)), (Outcome::Refused, Some(Reason::Precondition))];
    assert_eq!(outcomes(&refused), reasons);
    client.delete_topic(DeleteTopicRequest { name: TOPIC.into(), dry_run: false }).await.expect("deleted");
    let refused = redrive(&mut client, &[0], false).await.expect("answered");
    assert_eq!(outcomes(&refused), [(Outcome::Refused, Some(Reason::TopicNotFound))]);
    // A topic made again takes them, also with fewer queues.
    create_topic(&mut client, TOPIC, 1).await.expect("made");
    assert_eq!(outcomes(&redrive(&mut client, &[0], false).await.expect("sent")), [(Outcome::Sent, None)]);
    assert_eq!(ids(&all(&mut client, TOPIC, 0).await), ["a"]);
}

#[tokio::test]
async fn a_new_dead_letter_topic_knows_nothing_of_the_old_one() {
    let bench = Bench::new();
    let (_store, mut client) = bench.with_group(17).await;
    for id in ["a", "b"] {
        send(&mut client, TOPIC, 0, new(id, 10)).await.expect("sent");
        let held = pop(&mut client, GROUP, TOPIC, 1).await.expect("popped");
        bury(&mut client, &held[0].handle, "").await.expect("buried");
        assert_eq!(outcomes(&redrive(&mut client, &[0], false).await.expect("sent")), [(Outcome::Sent, None)]);
        client.delete_topic(DeleteTopicRequest { name: GRAVE.into(), dry_run: false }).await.expect("deleted");
        let again = pop(&mut client, GROUP, TOPIC, 1).await.expect("popped");
        ack(&mut client, GROUP, TOPIC, &again[0].handle).await.expect("acked");
    }
    assert_eq!(ids(&all(&mut client, TOPIC, 0).await), ["a", "a", "b", "b"]);
}

/// Highest attempt seen of each message, by offset.
type Seen = BTreeMap<u64, u32>;

/// Lets messages die of their attempts and by their consumer, and sends them again, until the store
/// fails. Notes which are said to be sent again.
async fn work(client: &mut Client, hands: &Hands, seen: &mut Seen, redriven: &mut BTreeSet<u64>) -> Option<()> {
    set_up(client, 2).await.ok()?;
    for n in 0..4 {
        send(client, TOPIC, 0, new(&format!("m{n}"), 10_000)).await.ok()?;
    }
    for round in 0..3 {
        for delivery in pop(client, GROUP, TOPIC, 4).await.ok()? {
            let Delivery { offset, attempt, .. } = delivery;
            let before = seen.insert(offset, attempt).unwrap_or_default();
            assert!(before < attempt && attempt <= 2, "attempt {attempt} of {offset} after {before}");
            if message_id(&delivery.properties) == "m1" {
                bury(client, &delivery.handle, "").await.ok()?;
            }
        }
        hands.pass(LEASE_MS);
        if round > 0 {
            for result in redrive(client, &[0, 1], false).await.ok()? {
                if result.outcome() == Outcome::Sent {
                    redriven.insert(result.offset);
                }
            }
        }
    }
    Some(())
}

async fn check(client: &mut Client, hands: &Hands, redriven: &BTreeSet<u64>, what: &str) {
    set_up(client, 1000).await.unwrap_or_else(|reason| panic!("{what}: {reason:?}"));
    hands.pass(LEASE_MS);
    let stored = ids(&all(client, TOPIC, 0).await);
    let letters = dead(client).await;
    let died = |letter| user_properties(letter)["DLQ_ORIGIN_OFFSET"].parse::<u64>().expect("an offset");
    let held = pop(client, GROUP, TOPIC, 64).await.expect("popped");
    let mut places: Vec<u64> = held.iter().map(|delivery| delivery.offset).chain(letters.iter().map(died)).collect();
    places.sort_unstable();
    assert_eq!(places, (0..stored.len() as u64).collect::<Vec<_>>(), "{what}: each is held or dead");
    let offsets: Vec<u64> = (0..letters.len() as u64).collect();
    let again = if letters.is_empty() { vec![] } else { redrive(client, &offsets, true).await.expect("tried") };
    let mut sent = again.iter().filter(|result| result.outcome() == Outcome::Already).collect::<Vec<_>>();
    sent.sort_unstable_by_key(|result| &result.message_id);
    let mut copies: Vec<&String> = stored.iter().skip(4).collect();
    copies.sort_unstable();
    assert_eq!(sent.iter().map(|result| &result.message_id).collect::<Vec<_>>(), copies, "{what}");
    for offset in redriven {
        assert!((*offset as usize) < stored.len(), "{what}: what was sent again to {offset} is lost");
    }
}

#[tokio::test]
async fn a_power_failure_leaves_a_message_in_one_place() {
    for moment in 0.. {
        let mut bench = Bench::new();
        bench.config.segment_bytes = 128 << 10;
        let disk = FaultyDisk::default();
        bench.medium = Medium::Faulty(disk.clone());
        disk.set(Faults { die_at_step: Some(moment), ..Faults::default() });
        let (mut seen, mut redriven) = (Seen::new(), BTreeSet::new());
        let mut done = None;
        if let Ok((_store, mut client)) = harness::open(&bench.config, &bench.hands, &bench.medium) {
            done = work(&mut client, &bench.hands, &mut seen, &mut redriven).await;
        }
        let is_over = done.is_some() && disk.counts().0 <= moment;
        disk.power_failure(&mut Random(setting("CENTAUR_FAULTS_SEED", 0) << 32 | moment));
        let (_store, mut client) = bench.open();
        check(&mut client, &bench.hands, &redriven, &format!("power failure at step {moment}")).await;
        if is_over {
            assert_eq!(redriven.len(), 2, "the work sends two again");
            return;
        }
    }
}
