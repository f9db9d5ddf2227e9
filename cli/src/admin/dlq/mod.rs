//! `centaur dlq`: messages that nobody could consume, and the way back for them.

mod redrive;

use std::iter;

use centaur_apis::{
    admin::admin_client::AdminClient,
    names::DEAD_LETTER_PREFIX,
    store::{
        Delivery, DescribeGroupRequest, DescribeTopicRequest, ListTopicsRequest, Place, ReadRequest, RedriveRequest,
        redrive_result::Outcome,
    },
    v2::{Message, SystemProperties},
};
use clap::{Args, Subcommand};
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, transport::Channel};

use crate::{
    admin::{self, Remote},
    exit::Failure,
    output::{self, Output, Table},
};

/// Bytes of messages in one answer.
const PAGE_BYTES: u64 = 8 << 20;

/// Dead letters: list them, send them again
#[derive(Args, Debug)]
pub(crate) struct Command {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List dead-letter topics, or the dead letters of one group
    #[command(alias = "ls")]
    List {
        /// The consumer group
        group: Option<String>,
        /// Begin at this offset
        #[arg(long, default_value_t = 0, requires = "group")]
        offset: u64,
        /// Without a group: begin after this one
        #[arg(long, value_name = "GROUP", default_value = "", conflicts_with = "group")]
        after: String,
        /// At most so many
        #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Send dead letters to their topics again, each once
    Redrive(redrive::Arguments),
}

/// Runs `centaur dlq`.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    let remote = &command.remote;
    match command.verb {
        Verb::List { group: None, limit, after, .. } => topics(remote, &after, limit).await,
        Verb::List { group: Some(group), offset, limit, .. } => letters(remote, &group, offset, limit).await,
        Verb::Redrive(arguments) => redrive::run(remote, arguments).await,
    }
}

/// The dead-letter topic of a group.
fn topic_of(group: &str) -> String {
    format!("{DEAD_LETTER_PREFIX}{group}")
}

/// Where the dead letters of a group end; `None`: it has no dead-letter topic, which comes into
/// being with the first one.
///
/// Errors: exit 3 for a group that has neither that topic nor anything else.
async fn end_of_letters(client: &mut AdminClient<Channel>, group: &str) -> Result<Option<u64>, Failure> {
    match client.describe_topic(DescribeTopicRequest { name: topic_of(group) }).await {
        Ok(described) => {
            let queues = described.into_inner().queues;
            return Ok(Some(queues.first().map_or(0, |queue| queue.end)));
        }
        Err(status) if status.code() == Code::NotFound => {}
        Err(status) => return Err(admin::failure(&status)),
    }
    let described = client.describe_group(DescribeGroupRequest { name: group.to_owned() }).await;
    described.map(|_| None).map_err(|status| admin::failure(&status))
}

async fn topics(remote: &Remote, after: &str, limit: u32) -> Result<(), Failure> {
    let mut client = remote.connect().await?;
    let mut table = Table::new(&["GROUP", "MESSAGES", "NEWEST"]);
    let mut found = Vec::new();
    // They stand together in the list of all topics. One more than wanted shows whether there is more.
    let mut after = topic_of(after);
    let wanted = limit as usize;
    while found.len() <= wanted {
        let request = ListTopicsRequest { include_system: true, limit: admin::page(wanted + 1 - found.len()), after };
        let page = client.list_topics(request).await.map_err(|status| admin::failure(&status))?.into_inner().topics;
        let dead = page.into_iter().map_while(|summary| {
            let group = summary.topic?.name.strip_prefix(DEAD_LETTER_PREFIX)?.to_owned();
            Some((group, summary.messages, summary.last_stored_ms))
        });
        let before = found.len();
        found.extend(dead);
        let Some((last, ..)) = found.last().filter(|_| found.len() > before) else { break };
        after = topic_of(last);
    }
    let is_cut = found.len() > wanted;
    found.truncate(wanted);
    for (group, messages, newest) in &found {
        table.row(vec![group.clone(), messages.to_string(), output::time(*newest)]);
    }
    let json = |(group, messages, newest): &(String, u64, u64)| json!({ "group": group, "topic": topic_of(group), "messages": messages, "newest": output::time_json(*newest) });
    let groups: Vec<Value> = found.iter().map(json).collect();
    let next = found.last().filter(|_| is_cut).map(|(last, ..)| last.as_str()).unwrap_or_default();
    remote.output.print(&table, &json!({ "groups": groups, "next": admin::next_json(next) }))?;
    if !next.is_empty() && remote.output == Output::Table {
        eprintln!("{wanted} groups shown, there are more; go on with --after {next}");
    }
    Ok(())
}

async fn letters(remote: &Remote, group: &str, offset: u64, limit: u32) -> Result<(), Failure> {
    let mut client = remote.connect().await?;
    let mut table = Table::new(&["DIED", "OFFSET", "ID", "ORIGIN", "ATTEMPTS", "REASON", "SIZE", "SENT-AGAIN"]);
    let (mut letters, mut next) = (Vec::new(), offset);
    let end = end_of_letters(&mut client, group).await?.unwrap_or(0);
    while next < end && letters.len() < limit as usize {
        let wanted = limit - u32::try_from(letters.len()).unwrap_or(limit);
        let request = ReadRequest {
            topic: topic_of(group),
            offset: next,
            messages_max: wanted.min(redrive::PAGE),
            bytes_max: PAGE_BYTES,
            ..Default::default()
        };
        let page = client.read(request).await.map_err(|status| admin::failure(&status))?.into_inner();
        if page.messages.is_empty() && page.next_offset == next {
            break;
        }
        next = page.next_offset;
        let sent_again = sent_again(&mut client, group, &page.messages).await;
        let read = page.messages.iter().zip(sent_again.into_iter().map(Some).chain(iter::repeat(None)));
        letters.extend(read.map(|(letter, sent_again)| Letter::read(letter, sent_again)));
    }
    for letter in &letters {
        table.row(letter.row());
    }
    let shown: Vec<Value> = letters.iter().map(Letter::json).collect();
    remote.output.print(&table, &json!({ "group": group, "messages": shown, "next_offset": next, "end": end }))?;
    if next < end && remote.output == Output::Table {
        eprintln!("{} shown, there are more; go on with --offset {next}", letters.len());
    }
    Ok(())
}

/// Which dead letters were sent to their topics again, in the same order; nothing if the store cannot
/// say: one that takes nothing more still shows what is dead.
async fn sent_again(client: &mut AdminClient<Channel>, group: &str, letters: &[Delivery]) -> Vec<bool> {
    if letters.is_empty() {
        return Vec::new();
    }
    let places = letters.iter().map(|letter| Place { queue: letter.queue, offset: letter.offset }).collect();
    let request = RedriveRequest { group: group.to_owned(), places, dry_run: true };
    let foreseen = client.redrive(request).await.map(|answer| answer.into_inner().results).unwrap_or_default();
    foreseen.iter().map(|result| result.outcome() == Outcome::Already).collect()
}

/// What a dead letter says of itself.
struct Letter {
    id: String,
    offset: u64,
    died_ms: u64,
    origin: String,
    attempts: String,
    reason: String,
    bytes: usize,
    /// None: not known.
    sent_again: Option<bool>,
}

impl Letter {
    fn read(delivery: &Delivery, sent_again: Option<bool>) -> Self {
        let message = Message::decode(delivery.head.clone()).unwrap_or_default();
        let system = SystemProperties::decode(delivery.properties.clone()).unwrap_or_default();
        let property = |name: &str| message.user_properties.get(name).cloned().unwrap_or_default();
        Self {
            id: system.message_id,
            offset: delivery.offset,
            died_ms: delivery.stored_ms,
            origin: system.dead_letter_queue.map(|origin| origin.topic).unwrap_or_default(),
            attempts: property("DLQ_ATTEMPTS"),
            reason: property("DLQ_REASON"),
            bytes: delivery.body.len(),
            sent_again,
        }
    }

    fn row(&self) -> Vec<String> {
        vec![
            output::time(self.died_ms),
            self.offset.to_string(),
            self.id.clone(),
            self.origin.clone(),
            self.attempts.clone(),
            self.reason.clone(),
            self.bytes.to_string(),
            self.sent_again.map_or("?", |again| if again { "yes" } else { "no" }).to_owned(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "offset": self.offset,
            "died": output::time_json(self.died_ms),
            "origin_topic": self.origin,
            "attempts": self.attempts,
            "reason": self.reason,
            "bytes": self.bytes,
            "sent_again": self.sent_again,
        })
    }
}
