//! `centaur produce`: sends messages through the public API.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, IsTerminal as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use centaur_apis::v2::{
    ClientType, Encoding, EndTransactionRequest, Message, MessageType, Publishing, QueryRouteRequest,
    SendMessageRequest, SendResultEntry, Settings, SystemProperties, TransactionResolution, TransactionSource,
    settings::PubSub,
};
use clap::{Args, ValueEnum};
use futures_util::{Stream, StreamExt as _, stream};
use prost_types::Timestamp;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    admin::{self, times::millis},
    config::values,
    exit::{Exit, Failure},
    messaging::{self, CALL_TIMEOUT, Client, Remote, progress::Progress},
    output::{self, Output},
};

/// Lines of standard input read ahead.
const LINES_AHEAD: usize = 256;
/// Failures shown one by one; the rest is only counted.
const FAILURES_SHOWN: u64 = 5;

/// Send messages: bodies from --body, from the lines of standard input, or generated
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  centaur produce hello --body hi
  centaur produce orders --key 4711 --tag paid --property shop=north --body '{\"total\": 12}'
  tail -f app.log | centaur produce logs
  centaur produce load --count 100000 --size 1KiB --concurrency 64")]
pub(crate) struct Command {
    topic: String,
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Body of a message; may be given again
    #[arg(short, long, value_name = "TEXT", conflicts_with = "size")]
    body: Vec<String>,
    /// Send so many messages, the given bodies in turn or generated ones
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Size of generated bodies
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    size: Option<u64>,
    /// At most so many messages per second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Messages on their way at a time; 1 keeps the order
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    concurrency: u32,
    /// Key to find the message by; may be given again
    #[arg(short, long, value_name = "KEY")]
    key: Vec<String>,
    /// Tag to filter by
    #[arg(short, long)]
    tag: Option<String>,
    /// User property; may be given again
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = property)]
    property: Vec<(String, String)>,
    /// Message group: what has the same one is given out in order
    #[arg(short = 'g', long, value_name = "GROUP")]
    message_group: Option<String>,
    /// Becomes visible after this time
    #[arg(long, value_name = "DURATION", value_parser = values::duration, conflicts_with = "message_group")]
    delay: Option<Duration>,
    /// Higher ones are given out first; for topics of type priority
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..), conflicts_with_all = ["message_group", "delay"])]
    priority: Option<i32>,
    /// Lite topic within a topic of type lite
    #[arg(long, value_name = "NAME", conflicts_with_all = ["message_group", "delay", "priority"])]
    lite_topic: Option<String>,
    /// Send in a transaction, and end it so
    #[arg(long, value_enum, conflicts_with_all = ["message_group", "delay", "priority", "lite_topic"])]
    transaction: Option<Ending>,
    /// Nobody gets it when it has waited for so long
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    ttl: Option<Duration>,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ending {
    Commit,
    Rollback,
    /// Left open: whoever produces for the topic is asked about it
    Unknown,
}

/// The user property that says how long a message may wait, in ms.
const TTL_PROPERTY: &str = "ttl-ms";

/// Runs `centaur produce`.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    let mut client = command.remote.connect().await?;
    find_route(&mut client, &command.topic).await?;
    let _session = client.introduce(command.settings()).await?;
    let total = command.total();
    let mut progress = Progress::begin(total);
    let command = Arc::new(command);
    // What is on its way when the command is interrupted is waited for, unless it is so again.
    let was_interrupted = AtomicBool::new(false);
    let interrupted = async {
        let _ = tokio::signal::ctrl_c().await;
        was_interrupted.store(true, Ordering::Relaxed);
    };
    let mut interrupted_twice = std::pin::pin!(async {
        let _ = tokio::signal::ctrl_c().await;
        let _ = tokio::signal::ctrl_c().await;
    });
    let bodies = bodies(&command).take_until(interrupted);
    let sends = bodies.map(|body| send(client.clone(), command.clone(), body));
    let mut sends = std::pin::pin!(sends.buffer_unordered(command.concurrency as usize));
    let mut first_failure = None;
    loop {
        let sent = tokio::select! {
            sent = sends.next() => sent,
            () = interrupted_twice.as_mut() => None,
        };
        match sent {
            None => break,
            Some(Ok(sent)) => {
                progress.done(sent.bytes, sent.latency);
                if total.is_none_or(|total| total <= LINES_AHEAD as u64) {
                    show(command.remote.output, &sent)?;
                }
            }
            Some(Err(failure)) => {
                progress.failed();
                if first_failure.is_some() && progress.failures() <= FAILURES_SHOWN {
                    eprintln!("error: {}", failure.cause);
                }
                first_failure.get_or_insert(failure);
            }
        }
    }
    let was_cut = was_interrupted.load(Ordering::Relaxed);
    conclude(&command, &progress, first_failure, was_cut)
}

fn conclude(command: &Command, progress: &Progress, failure: Option<Failure>, was_cut: bool) -> Result<(), Failure> {
    let (line, json) = progress.finish("sent");
    if command.total() != Some(1) {
        match command.remote.output {
            Output::Table => eprintln!("{line}"),
            Output::Json => output::json(&json!({ "summary": json }))?,
        }
    }
    match failure {
        None if was_cut && command.total() != Some(progress.count()) => {
            Err(Failure::new(Exit::Partly, format!("interrupted after {} messages", progress.count())))
        }
        None => Ok(()),
        Some(failure) if progress.count() == 0 => Err(failure),
        Some(failure) => {
            let cause = format!("{} messages were not sent; the first because: {}", progress.failures(), failure.cause);
            Err(Failure { exit: Exit::Partly, cause, ..failure })
        }
    }
}

impl Command {
    fn settings(&self) -> Settings {
        let publishing = Publishing { topics: vec![messaging::resource(&self.topic)], ..Publishing::default() };
        Settings {
            client_type: Some(ClientType::Producer.into()),
            pub_sub: Some(PubSub::Publishing(publishing)),
            ..Settings::default()
        }
    }

    /// How many messages there will be, when that is known.
    fn total(&self) -> Option<u64> {
        match (self.count, self.body.len(), self.size) {
            (Some(count), ..) => Some(count),
            (None, 0, Some(_)) => Some(1),
            (None, 0, None) => None,
            (None, bodies, _) => Some(bodies as u64),
        }
    }

    fn kind(&self) -> MessageType {
        if self.transaction.is_some() {
            MessageType::Transaction
        } else if self.delay.is_some() {
            MessageType::Delay
        } else if self.message_group.is_some() {
            MessageType::Fifo
        } else if self.priority.is_some() {
            MessageType::Priority
        } else if self.lite_topic.is_some() {
            MessageType::Lite
        } else {
            MessageType::Normal
        }
    }

    fn message(&self, body: Bytes) -> Message {
        let now = SystemTime::now();
        let system = SystemProperties {
            tag: self.tag.clone(),
            keys: self.key.clone(),
            message_id: messaging::message_id(),
            body_encoding: Encoding::Identity.into(),
            message_type: self.kind().into(),
            born_timestamp: Some(Timestamp::from(now)),
            born_host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            delivery_timestamp: self.delay.map(|delay| Timestamp::from(now + delay)),
            message_group: self.message_group.clone(),
            priority: self.priority,
            lite_topic: self.lite_topic.clone(),
            ..SystemProperties::default()
        };
        let ttl = self.ttl.map(|ttl| (TTL_PROPERTY.to_owned(), millis(ttl).to_string()));
        let user_properties: BTreeMap<_, _> = self.property.iter().cloned().chain(ttl).collect();
        Message {
            topic: Some(messaging::resource(&self.topic)),
            user_properties,
            system_properties: Some(system),
            body,
        }
    }
}

/// Bodies in their order, no faster than wanted.
fn bodies(command: &Command) -> impl Stream<Item = Bytes> + use<> {
    let given: Vec<Bytes> = command.body.iter().map(|body| Bytes::from(body.clone())).collect();
    let source = match (command.total(), given.is_empty()) {
        (None, _) => ReceiverStream::new(lines()).boxed(),
        (Some(total), false) => {
            let total = usize::try_from(total).unwrap_or(usize::MAX);
            stream::iter(given.into_iter().cycle().take(total)).boxed()
        }
        (Some(total), true) => {
            let size = usize::try_from(command.size.unwrap_or(100)).unwrap_or(usize::MAX);
            stream::iter((0..total).map(move |number| generated(number, size))).boxed()
        }
    };
    let Some(rate) = command.rate else { return source };
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    stream::unfold((source, ticks), |(mut source, mut ticks)| async move {
        ticks.tick().await;
        source.next().await.map(|body| (body, (source, ticks)))
    })
    .boxed()
}

/// Standard input, line by line, read by a thread that ends with the input.
fn lines() -> mpsc::Receiver<Bytes> {
    let (lines, read) = mpsc::channel(LINES_AHEAD);
    if std::io::stdin().is_terminal() {
        eprintln!("each line becomes a message; end with Ctrl-D");
    }
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().split(b'\n').map_while(Result::ok) {
            if !line.is_empty() && lines.blocking_send(line.into()).is_err() {
                return;
            }
        }
    });
    read
}

/// A body that differs from the others as far as its size allows.
fn generated(number: u64, size: usize) -> Bytes {
    let mut body = format!("{number} ").into_bytes();
    let alphabet = (b'a'..=b'z').cycle();
    body.extend(alphabet.take(size.saturating_sub(body.len())));
    body.truncate(size);
    body.into()
}

async fn find_route(client: &mut Client, topic: &str) -> Result<(), Failure> {
    let request = QueryRouteRequest { topic: Some(messaging::resource(topic)), endpoints: Some(client.endpoints()) };
    let request = client.request(request, CALL_TIMEOUT);
    let answer = client.service.query_route(request).await.map_err(|status| admin::failure(&status))?.into_inner();
    messaging::check(answer.status.as_ref())
}

/// A message that was stored.
struct Sent {
    entry: SendResultEntry,
    bytes: usize,
    latency: Duration,
    /// Nobody gets it before its transaction is committed.
    is_open: bool,
}

async fn send(mut client: Client, command: Arc<Command>, body: Bytes) -> Result<Sent, Failure> {
    let bytes = body.len();
    let request = SendMessageRequest { messages: vec![command.message(body)] };
    let began = Instant::now();
    let request = client.request(request, CALL_TIMEOUT);
    let answer = client.service.send_message(request).await.map_err(|status| admin::failure(&status))?.into_inner();
    let latency = began.elapsed();
    messaging::check(answer.status.as_ref())?;
    let entry = answer.entries.into_iter().next().unwrap_or_default();
    messaging::check(entry.status.as_ref())?;
    if let Some(ending) = command.transaction {
        end(&mut client, &command.topic, &entry, ending).await?;
    }
    Ok(Sent { entry, bytes, latency, is_open: command.transaction == Some(Ending::Unknown) })
}

async fn end(client: &mut Client, topic: &str, sent: &SendResultEntry, ending: Ending) -> Result<(), Failure> {
    let resolution = match ending {
        Ending::Commit => TransactionResolution::Commit,
        Ending::Rollback => TransactionResolution::Rollback,
        Ending::Unknown => return Ok(()),
    };
    let request = EndTransactionRequest {
        topic: Some(messaging::resource(topic)),
        message_id: sent.message_id.clone(),
        transaction_id: sent.transaction_id.clone(),
        resolution: resolution.into(),
        source: TransactionSource::SourceClient.into(),
        ..Default::default()
    };
    let request = client.request(request, CALL_TIMEOUT);
    let answer = client.service.end_transaction(request).await.map_err(|status| admin::failure(&status))?.into_inner();
    messaging::check(answer.status.as_ref())
}

fn show(output: Output, sent: &Sent) -> Result<(), Failure> {
    let ms = sent.latency.as_secs_f64() * 1000.0;
    let SendResultEntry { message_id: id, offset, recall_handle, transaction_id, .. } = &sent.entry;
    let recall_handle = Some(recall_handle).filter(|handle| !handle.is_empty());
    let transaction_id = Some(transaction_id).filter(|_| sent.is_open);
    match output {
        Output::Table => {
            let place = match (recall_handle, transaction_id) {
                (Some(handle), _) => format!("recall handle {handle}"),
                (None, Some(id)) => format!("transaction {id}"),
                (None, None) => format!("offset {offset}"),
            };
            output::line(&format!("{id}  {place}  {ms:.2} ms"))
        }
        Output::Json => {
            let sent = json!({
                "id": id,
                "offset": offset.to_string(),
                "recall_handle": recall_handle,
                "transaction_id": transaction_id,
                "ms": ms,
            });
            output::json(&sent)
        }
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is not a property; write it like name=value"))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_bodies_have_their_size() {
        for size in [0, 1, 2, 3, 100] {
            assert_eq!(generated(42, size).len(), size);
        }
        assert_ne!(generated(1, 10), generated(2, 10));
    }

    #[test]
    fn properties_need_a_name_and_a_value() {
        assert_eq!(property("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(property("a").is_err());
    }
}
