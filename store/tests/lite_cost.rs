//! What lite topics cost in memory and CPU, beside an ordinary topic. Run by hand:
//! `cargo test -p centaur-store --test lite_cost -- --ignored --nocapture`, with as many lite topics
//! as `CENTAUR_LITE_TOPICS` says.

mod harness;

use std::{fs, time::Duration};

use centaur_apis::{
    log::TopicType,
    store::{
        AckEntry, AckRequest, AppendRequest, Batch, NewMessage, PopRequest, PutTopicRequest, SyncLiteRequest,
        sync_lite_request::Action,
    },
};
use centaur_store::{Config, Flush};
use harness::{Client, Hands, Medium, UNLIMITED, create_topic, message};

const CLIENTS: usize = 100;
const MESSAGES: usize = 20_000;

/// CPU time of this process.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("nanoseconds"))
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").expect("a count of pages");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096
}

fn new(topic: &str, at: usize, lite_topic: String) -> NewMessage {
    let queue = if lite_topic.is_empty() { u32::try_from(at % 8).expect("small") } else { 0 };
    NewMessage { lite_topic, queue, ..message(topic, &at.to_string(), None, &[], vec![1; 100]) }
}

async fn send(client: &mut Client, topic: &str, new: NewMessage) {
    let batch = Batch { topic: topic.to_owned(), messages: vec![new] };
    let answer = client.append(AppendRequest { batches: vec![batch] }).await.expect("sent").into_inner();
    assert_eq!(answer.results[0].error, None);
}

/// Takes and settles up to 32 messages; says how many.
async fn receive(client: &mut Client, topic: &str, consumer: String) -> usize {
    let request = PopRequest {
        group: format!("{topic}-group"),
        topic: topic.to_owned(),
        client: consumer,
        messages_max: 32,
        bytes_max: UNLIMITED,
        invisible_ms: 60_000,
        create_group: true,
        ..Default::default()
    };
    let deliveries = client.pop(request).await.expect("answered").into_inner().deliveries;
    let entry = |handle| AckEntry { group: format!("{topic}-group"), topic: topic.to_owned(), handle };
    let entries: Vec<_> = deliveries.into_iter().map(|delivery| entry(delivery.handle)).collect();
    let count = entries.len();
    if count > 0 {
        client.ack(AckRequest { entries }).await.expect("acked");
    }
    count
}

#[tokio::test]
#[ignore = "a measurement"]
async fn what_a_message_costs() {
    let data = tempfile::tempdir().expect("a directory");
    let config = Config { data_dir: data.path().into(), flush: Flush::Async, ..Config::default() };
    let hands = Hands::default();
    let (_store, mut client) = harness::open(&config, &hands, &Medium::Real).expect("opens");
    create_topic(&mut client, "plain", 8).await.expect("made");
    let lite = PutTopicRequest { name: "lite".to_owned(), r#type: TopicType::Lite.into(), ..Default::default() };
    client.put_topic(lite).await.expect("made");

    let lite_topics = usize::try_from(harness::setting("CENTAUR_LITE_TOPICS", 100_000)).expect("a number");
    let each = lite_topics / CLIENTS;
    let before = resident();
    for at in 0..CLIENTS {
        let request = SyncLiteRequest {
            topic: "lite".to_owned(),
            group: "lite-group".to_owned(),
            client: format!("client-{at}"),
            action: Action::PartialAdd.into(),
            lite_topics: (at * each..(at + 1) * each).map(|name| format!("session-{name:08}")).collect(),
            create_group: true,
            ..Default::default()
        };
        client.sync_lite(request).await.expect("subscribed");
    }
    let bytes = resident() - before;
    println!(
        "{lite_topics} lite topics, each with a subscriber: {} bytes of memory for one",
        bytes / lite_topics as u64
    );

    for round in ["first", "second"] {
        for topic in ["plain", "lite"] {
            // Everybody looks once, so that no first poll is measured.
            for at in 0..CLIENTS {
                while receive(&mut client, topic, format!("client-{at}")).await > 0 {}
            }
            let start = cpu();
            let mut received = 0;
            for from in (0..MESSAGES).step_by(32 * CLIENTS) {
                for at in from..from + 32 * CLIENTS {
                    let lite_topic = (at * 7919) % lite_topics;
                    let lite_topic = if topic == "lite" { format!("session-{lite_topic:08}") } else { String::new() };
                    send(&mut client, topic, new(topic, at, lite_topic)).await;
                }
                for at in 0..CLIENTS {
                    received += receive(&mut client, topic, format!("client-{at}")).await;
                }
            }
            let spent = (cpu() - start).as_nanos() / received as u128;
            println!("{round}: {topic}: {received} messages, {spent} ns of CPU for one to be sent, received and acked");
        }
    }
}
