//! `centaur dlq`: messages that nobody could consume, and the way back for them.

mod redrive;

use centaur_apis::{
    admin::admin_client::AdminClient,
    names::DEAD_LETTER_PREFIX,
    store::{Delivery, DescribeGroupRequest, DescribeTopicRequest, ListTopicsRequest, ReadRequest},
    v2::{Message, SystemProperties},
};
use clap::{Args, Subcommand};
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, transport::Channel};

use crate::{
    admin::{self, Remote},
    exit::Failure,
    output::{self, Table},
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
        /// At most so many
        #[arg(long, default_value_t = 32)]
        limit: u32,
    },
    /// Send dead letters to their topics again, each once
    Redrive(redrive::Arguments),
}

/// Runs `centaur dlq`.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    let remote = &command.remote;
    match command.verb {
        Verb::List { group: None, limit, .. } => topics(remote, limit).await,
        Verb::List { group: Some(group), offset, limit } => letters(remote, &group, offset, limit).await,
        Verb::Redrive(arguments) => redrive::run(remote, arguments).await,
    }
}

/// The dead-letter topic of a group.
fn topic_of(group: &str) -> String {
    format!("{DEAD_LETTER_PREFIX}{group}")
}

/// Whether a group has a dead-letter topic: it comes into being with the first dead letter.
///
/// Errors: exit 3 for a group that has neither that topic nor anything else.
async fn has_letters(client: &mut AdminClient<Channel>, group: &str) -> Result<bool, Failure> {
    match client.describe_topic(DescribeTopicRequest { name: topic_of(group) }).await {
        Ok(_) => return Ok(true),
        Err(status) if status.code() == Code::NotFound => {}
        Err(status) => return Err(admin::failure(&status)),
    }
    let described = client.describe_group(DescribeGroupRequest { name: group.to_owned() }).await;
    described.map(|_| false).map_err(|status| admin::failure(&status))
}

async fn topics(remote: &Remote, limit: u32) -> Result<(), Failure> {
    let mut client = remote.connect().await?;
    let mut table = Table::new(&["GROUP", "MESSAGES", "NEWEST"]);
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let request = ListTopicsRequest { include_system: true, limit: 0, after };
        let page = client.list_topics(request).await.map_err(|status| admin::failure(&status))?.into_inner().topics;
        let Some(last) = page.last().and_then(|summary| summary.topic.as_ref()) else { break };
        after = last.name.clone();
        found.extend(page.into_iter().filter_map(|summary| {
            let group = summary.topic?.name.strip_prefix(DEAD_LETTER_PREFIX)?.to_owned();
            Some((group, summary.messages, summary.last_stored_ms))
        }));
        if found.len() >= limit as usize {
            found.truncate(limit as usize);
            break;
        }
    }
    for (group, messages, newest) in &found {
        table.row(vec![group.clone(), messages.to_string(), output::time(*newest)]);
    }
    let json = |(group, messages, newest): &(String, u64, u64)| json!({ "group": group, "topic": topic_of(group), "messages": messages, "newest": output::time_json(*newest) });
    let groups: Vec<Value> = found.iter().map(json).collect();
    remote.output.print(&table, &json!({ "groups": groups }))
}

async fn letters(remote: &Remote, group: &str, offset: u64, limit: u32) -> Result<(), Failure> {
    let mut client = remote.connect().await?;
    let mut table = Table::new(&["DIED", "OFFSET", "ID", "ORIGIN", "ATTEMPTS", "REASON", "SIZE"]);
    let (mut letters, mut next) = (Vec::new(), offset);
    let any = has_letters(&mut client, group).await?;
    while any && letters.len() < limit as usize {
        let messages_max = limit - u32::try_from(letters.len()).unwrap_or(limit);
        let request = ReadRequest {
            topic: topic_of(group),
            offset: next,
            messages_max,
            bytes_max: PAGE_BYTES,
            ..Default::default()
        };
        let page = client.read(request).await.map_err(|status| admin::failure(&status))?.into_inner();
        if page.messages.is_empty() && page.next_offset == next {
            break;
        }
        next = page.next_offset;
        letters.extend(page.messages.iter().map(Letter::read));
    }
    for letter in &letters {
        table.row(letter.row());
    }
    let shown: Vec<Value> = letters.iter().map(Letter::json).collect();
    remote.output.print(&table, &json!({ "group": group, "messages": shown, "next_offset": next }))
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
}

impl Letter {
    fn read(delivery: &Delivery) -> Self {
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
        })
    }
}
