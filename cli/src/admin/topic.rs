//! `centaur topic`.

use std::time::Duration;

use centaur_apis::{
    log::{Permission, Topic, TopicType},
    store::{
        DeleteTopicRequest, DescribeTopicRequest, DescribeTopicResponse, ListLiteTopicsRequest, ListTopicsRequest,
        LiteTopic, Mode, PutTopicRequest, QueueState, Reason, TopicSummary,
    },
};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    admin::{self, Remote, times::millis},
    config::values::{self, Format},
    exit::Failure,
    output::{self, Table},
};

/// Topics: make, list, look at, change, delete
#[derive(Args, Debug)]
pub(crate) struct Command {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Make a topic
    Create {
        name: String,
        #[command(flatten)]
        settings: Settings,
        /// Done, too, when it exists already; it stays as it is
        #[arg(long)]
        if_not_exists: bool,
    },
    /// List topics by name
    #[command(alias = "ls")]
    List {
        /// Dead-letter topics, too
        #[arg(long)]
        all: bool,
        /// At most so many
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Begin after this name
        #[arg(long, default_value = "")]
        after: String,
    },
    /// Show a topic with its queues
    #[command(alias = "get")]
    Describe { name: String },
    /// List the lite topics of a topic of type lite
    Lite {
        name: String,
        /// Begin after this lite topic
        #[arg(long, default_value = "")]
        after: String,
        /// At most so many
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Change a topic; what is not given stays
    Update {
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Delete a topic and its messages
    #[command(alias = "rm")]
    Delete {
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// Only say what would be lost
        #[arg(long)]
        dry_run: bool,
        /// Done, too, when there is none
        #[arg(long)]
        if_exists: bool,
    },
}

#[derive(Args, Debug)]
struct Settings {
    /// What it accepts; normal unless given
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    /// How many queues; only grows
    #[arg(long, value_name = "N")]
    queues: Option<u32>,
    /// What clients may do
    #[arg(long, value_enum)]
    permission: Option<Access>,
    /// How long messages are kept; 0: as long as the server says
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    retention: Option<Duration>,
    /// Messages older than this are passed over; 0: never
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    ttl: Option<Duration>,
    /// A message id seen within this time is not stored again; 0: off
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    dedupe: Option<Duration>,
    /// A lite topic without new messages for so long is deleted: 15m to 30d; 0: never
    #[arg(long, value_name = "TIME", value_parser = lite_expiry)]
    lite_expiry: Option<Duration>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Normal,
    Fifo,
    Delay,
    Transaction,
    Lite,
    Priority,
    Mixed,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Access {
    Rw,
    R,
    W,
    None,
}

/// Runs `centaur topic`.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    let remote = &command.remote;
    match command.verb {
        Verb::Create { name, settings, if_not_exists } => {
            match put(remote, settings.request(name.clone(), Mode::Create)).await {
                Err(failure)
                    if if_not_exists && failure.code.as_deref() == Some(Reason::AlreadyExists.as_str_name()) =>
                {
                    remote.output.done(&format!("topic {name} exists already"), &json!({ "created": false }))
                }
                done => done,
            }
        }
        Verb::Update { name, settings } => {
            if let Some(queues) = settings.queues {
                warn_of_new_queues(remote, &name, queues).await?;
            }
            put(remote, settings.request(name, Mode::Update)).await
        }
        Verb::List { all, limit, after } => list(remote, ListTopicsRequest { include_system: all, limit, after }).await,
        Verb::Describe { name } => describe(remote, name).await,
        Verb::Lite { name, after, limit } => {
            list_lite(remote, ListLiteTopicsRequest { topic: name, after, limit }).await
        }
        Verb::Delete { name, yes, dry_run, if_exists } => delete(remote, name, yes, dry_run, if_exists).await,
    }
}

impl Settings {
    fn request(self, name: String, mode: Mode) -> PutTopicRequest {
        PutTopicRequest {
            name,
            r#type: self.kind.map_or(TopicType::Unspecified, TopicType::from).into(),
            queues: self.queues,
            permission: self.permission.map(|access| Permission::from(access).into()),
            mode: mode.into(),
            implicit: false,
            retention_ms: self.retention.map(millis),
            ttl_ms: self.ttl.map(millis),
            dedupe_ms: self.dedupe.map(millis),
            lite_expiry_ms: self.lite_expiry.map(millis),
        }
    }
}

async fn put(remote: &Remote, request: PutTopicRequest) -> Result<(), Failure> {
    let answer =
        remote.connect().await?.put_topic(request).await.map_err(|status| admin::failure(&status))?.into_inner();
    let topic = answer.topic.unwrap_or_default();
    let done = if answer.created { "created" } else { "updated" };
    let sentence = format!("topic {} {done}: {}, {} queues", topic.name, kind_word(&topic), topic.queues);
    remote.output.done(&sentence, &json!({ "created": answer.created, "topic": topic_json(&topic) }))
}

/// Says what more queues do to messages in order: which queue is a message group's depends on how
/// many there are.
async fn warn_of_new_queues(remote: &Remote, name: &str, queues: u32) -> Result<(), Failure> {
    let request = DescribeTopicRequest { name: name.to_owned() };
    let answer = remote.connect().await?.describe_topic(request).await.map_err(|status| admin::failure(&status))?;
    let topic = answer.into_inner().topic.unwrap_or_default();
    if matches!(topic.r#type(), TopicType::Fifo | TopicType::Mixed) && queues > topic.queues {
        eprintln!(
            "warning: with {queues} queues instead of {}, message groups of topic {name} go to other queues: what is sent \
             from now on may be delivered before what was sent, until that is consumed",
            topic.queues
        );
    }
    Ok(())
}

fn name_of(summary: &TopicSummary) -> &str {
    summary.topic.as_ref().map_or("", |topic| topic.name.as_str())
}

fn lite_name_of(lite: &LiteTopic) -> &str {
    &lite.name
}

async fn list(remote: &Remote, request: ListTopicsRequest) -> Result<(), Failure> {
    let mut admin = remote.connect().await?;
    let ListTopicsRequest { include_system, limit, after } = request;
    let mut total = 0;
    let (topics, next) = admin::listed(limit, after, name_of, async |after, limit| {
        let request = ListTopicsRequest { include_system, limit, after };
        let answer = admin.list_topics(request).await.map_err(|status| admin::failure(&status))?.into_inner();
        total = answer.total;
        Ok(answer.topics)
    })
    .await?;
    let mut table = Table::new(&["TOPIC", "TYPE", "QUEUES", "PERM", "MESSAGES", "LAST-WRITE"]);
    for TopicSummary { topic, messages, last_stored_ms } in &topics {
        let topic = topic.clone().unwrap_or_default();
        let (kind, access) = (kind_word(&topic).to_owned(), access_word(&topic).to_owned());
        table.row(vec![
            topic.name,
            kind,
            topic.queues.to_string(),
            access,
            messages.to_string(),
            output::time(*last_stored_ms),
        ]);
    }
    let shown: Vec<Value> = topics.iter().map(summary_json).collect();
    let json = json!({ "topics": shown, "total": total, "next": admin::next_json(&next) });
    remote.output.print(&table, &json)?;
    admin::say_more(remote, topics.len(), total, "--after", &next);
    Ok(())
}

async fn list_lite(remote: &Remote, request: ListLiteTopicsRequest) -> Result<(), Failure> {
    let mut admin = remote.connect().await?;
    let ListLiteTopicsRequest { topic, limit, after } = request;
    let mut total = 0;
    let (lite_topics, next) = admin::listed(limit, after, lite_name_of, async |after, limit| {
        let request = ListLiteTopicsRequest { topic: topic.clone(), limit, after };
        let answer = admin.list_lite_topics(request).await.map_err(|status| admin::failure(&status))?.into_inner();
        total = answer.total;
        Ok(answer.lite_topics)
    })
    .await?;
    let mut table = Table::new(&["LITE-TOPIC", "START", "END", "SUBSCRIBERS", "LAST-WRITE"]);
    let mut shown = Vec::new();
    for LiteTopic { name, state, subscribers } in lite_topics {
        let state = state.unwrap_or_default();
        let places = [state.start, state.end, subscribers.into()].map(|number| number.to_string());
        let written = output::time(state.last_stored_ms);
        table.row([name.clone()].into_iter().chain(places).chain([written]).collect());
        shown.push(json!({ "name": name, "subscribers": subscribers, "queue": queue_json(&state) }));
    }
    let count = shown.len();
    let json = json!({ "lite_topics": shown, "total": total, "next": admin::next_json(&next) });
    remote.output.print(&table, &json)?;
    admin::say_more(remote, count, total, "--after", &next);
    Ok(())
}

async fn describe(remote: &Remote, name: String) -> Result<(), Failure> {
    let request = DescribeTopicRequest { name };
    let answer =
        remote.connect().await?.describe_topic(request).await.map_err(|status| admin::failure(&status))?.into_inner();
    let DescribeTopicResponse { topic, queues, groups } = answer;
    let topic = topic.unwrap_or_default();
    let mut table = Table::new(&["QUEUE", "START", "END", "MESSAGES", "LAST-WRITE"]);
    for QueueState { queue, start, end, last_stored_ms } in &queues {
        let messages = end.saturating_sub(*start);
        table.row(vec![
            queue.to_string(),
            start.to_string(),
            end.to_string(),
            messages.to_string(),
            output::time(*last_stored_ms),
        ]);
    }
    if remote.output == output::Output::Table {
        let lite_expiry = match topic.r#type() {
            TopicType::Lite => format!("lite expiry {}\n", span(topic.lite_expiry_ms, "never")),
            _ => String::new(),
        };
        output::line(&format!(
            "topic       {}\ntype        {}\npermission  {}\nretention   {}\nttl         {}\ndedupe      {}\n{}created     {}\ngroups      {}\n",
            topic.name,
            kind_word(&topic),
            access_word(&topic),
            span(topic.retention_ms, "default"),
            span(topic.ttl_ms, "never"),
            span(topic.dedupe_ms, "off"),
            lite_expiry,
            output::time(topic.created_ms),
            if groups.is_empty() { "-".to_owned() } else { groups.join(", ") },
        ))?;
    }
    let queues: Vec<Value> = queues.iter().map(queue_json).collect();
    remote.output.print(&table, &json!({ "topic": topic_json(&topic), "queues": queues, "groups": groups }))
}

async fn delete(remote: &Remote, name: String, yes: bool, dry_run: bool, if_exists: bool) -> Result<(), Failure> {
    let mut client = remote.connect().await?;
    let request = DeleteTopicRequest { name: name.clone(), dry_run: true };
    let loss = match client.delete_topic(request).await {
        Err(status) if status.code() == Code::NotFound && if_exists => {
            return remote.output.done(&format!("topic {name} does not exist"), &json!({ "deleted": false }));
        }
        answer => answer.map_err(|status| admin::failure(&status))?.into_inner(),
    };
    let what = format!("{} messages, {} groups with a position in it", loss.messages, loss.groups.len());
    let facts = |deleted: bool| json!({ "deleted": deleted, "messages": loss.messages, "groups": loss.groups });
    if dry_run {
        return remote.output.done(&format!("topic {name} would be deleted: {what}"), &facts(false));
    }
    admin::confirm(&format!("Delete topic {name} ({what})?"), yes)?;
    let request = DeleteTopicRequest { name: name.clone(), dry_run: false };
    client.delete_topic(request).await.map_err(|status| admin::failure(&status))?;
    remote.output.done(&format!("topic {name} deleted: {what}"), &facts(true))
}

/// Reads how long lite topics are kept. The store has the last word.
fn lite_expiry(text: &str) -> Result<Duration, String> {
    let (least, most) = (Duration::from_secs(15 * 60), Duration::from_secs(30 * 24 * 3600));
    match values::duration(text)? {
        Duration::ZERO => Ok(Duration::ZERO),
        _ => values::duration_within(text, least, most).map_err(|error| format!("{error}; or 0, for never")),
    }
}

/// A span of time, or what none means.
fn span(ms: u64, none: &str) -> String {
    if ms == 0 { none.to_owned() } else { Format::duration(Duration::from_millis(ms)) }
}

fn topic_json(topic: &Topic) -> Value {
    json!({
        "name": topic.name,
        "type": kind_word(topic),
        "queues": topic.queues,
        "permission": access_word(topic),
        "retention_ms": topic.retention_ms,
        "ttl_ms": topic.ttl_ms,
        "dedupe_ms": topic.dedupe_ms,
        "lite_expiry_ms": topic.lite_expiry_ms,
        "created": output::time_json(topic.created_ms),
        "version": topic.version,
    })
}

fn summary_json(summary: &TopicSummary) -> Value {
    let topic = summary.topic.clone().unwrap_or_default();
    json!({
        "topic": topic_json(&topic),
        "messages": summary.messages,
        "last_write": output::time_json(summary.last_stored_ms),
    })
}

fn queue_json(queue: &QueueState) -> Value {
    json!({
        "queue": queue.queue,
        "start": queue.start,
        "end": queue.end,
        "last_write": output::time_json(queue.last_stored_ms),
    })
}

fn kind_word(topic: &Topic) -> &'static str {
    match topic.r#type() {
        TopicType::Unspecified => "?",
        TopicType::Normal => "normal",
        TopicType::Fifo => "fifo",
        TopicType::Delay => "delay",
        TopicType::Transaction => "transaction",
        TopicType::Lite => "lite",
        TopicType::Priority => "priority",
        TopicType::Mixed => "mixed",
    }
}

fn access_word(topic: &Topic) -> &'static str {
    match topic.permission() {
        Permission::ReadWrite => "rw",
        Permission::Read => "r",
        Permission::Write => "w",
        Permission::None => "none",
    }
}

impl From<Kind> for TopicType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Normal => Self::Normal,
            Kind::Fifo => Self::Fifo,
            Kind::Delay => Self::Delay,
            Kind::Transaction => Self::Transaction,
            Kind::Lite => Self::Lite,
            Kind::Priority => Self::Priority,
            Kind::Mixed => Self::Mixed,
        }
    }
}

impl From<Access> for Permission {
    fn from(access: Access) -> Self {
        match access {
            Access::Rw => Self::ReadWrite,
            Access::R => Self::Read,
            Access::W => Self::Write,
            Access::None => Self::None,
        }
    }
}
