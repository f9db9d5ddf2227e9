//! `centaur group`.

mod reset;
mod settings;

use std::time::Duration;

use centaur_apis::{
    log::{Group, Lite, group},
    store::{
        Backlog, DeleteGroupRequest, DescribeGroupRequest, GroupSummary, ListGroupsRequest, Mode, PutGroupRequest,
        QueueProgress, Reason, TopicProgress,
    },
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    admin::{self, Remote},
    config::values::Format,
    exit::Failure,
    output::{self, Table},
};

use settings::Settings;

/// Consumer groups: make, list, look at, change, delete
#[derive(Args, Debug)]
pub(crate) struct Command {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Make a consumer group
    Create {
        name: String,
        #[command(flatten)]
        settings: Settings,
        /// Done, too, when it exists already; it stays as it is
        #[arg(long)]
        if_not_exists: bool,
    },
    /// List consumer groups by name, with their backlog
    #[command(alias = "ls")]
    List {
        /// At most so many
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Begin after this name
        #[arg(long, default_value = "")]
        after: String,
    },
    /// Show a group, with its progress in every queue
    #[command(alias = "get")]
    Describe { name: String },
    /// Change a group; what is not given stays
    Update {
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Put a group somewhere else; what it has in hand is void
    Reset(reset::Arguments),
    /// Delete a group and its positions
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

/// Runs `centaur group`.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    let remote = &command.remote;
    match command.verb {
        Verb::Create { name, settings, if_not_exists } => {
            match put(remote, settings.request(name.clone(), Mode::Create, None)).await {
                Err(failure)
                    if if_not_exists && failure.code.as_deref() == Some(Reason::AlreadyExists.as_str_name()) =>
                {
                    remote.output.done(&format!("group {name} exists already"), &json!({ "created": false }))
                }
                done => done,
            }
        }
        Verb::Update { name, settings } => {
            let known = if settings.is_lite() { known_lite(remote, &name).await? } else { None };
            put(remote, settings.request(name, Mode::Update, known)).await
        }
        Verb::Reset(arguments) => reset::run(remote, arguments).await,
        Verb::List { limit, after } => list(remote, ListGroupsRequest { limit, after }).await,
        Verb::Describe { name } => describe(remote, name).await,
        Verb::Delete { name, yes, dry_run, if_exists } => delete(remote, name, yes, dry_run, if_exists).await,
    }
}

async fn put(remote: &Remote, request: PutGroupRequest) -> Result<(), Failure> {
    let answer =
        remote.connect().await?.put_group(request).await.map_err(|status| admin::failure(&status))?.into_inner();
    let group = answer.group.unwrap_or_default();
    let done = if answer.created { "created" } else { "updated" };
    let sentence =
        format!("group {} {done}: {}, at most {} attempts", group.name, order_word(&group), group.max_attempts);
    remote.output.done(&sentence, &json!({ "created": answer.created, "group": group_json(&group) }))
}

/// What a group does with lite topics so far.
async fn known_lite(remote: &Remote, name: &str) -> Result<Option<Lite>, Failure> {
    let request = DescribeGroupRequest { name: name.to_owned() };
    let answer = remote.connect().await?.describe_group(request).await.map_err(|status| admin::failure(&status))?;
    Ok(answer.into_inner().group.and_then(|group| group.lite))
}

fn name_of(summary: &GroupSummary) -> &str {
    summary.group.as_ref().map_or("", |group| group.name.as_str())
}

async fn list(remote: &Remote, request: ListGroupsRequest) -> Result<(), Failure> {
    let mut admin = remote.connect().await?;
    let ListGroupsRequest { limit, after } = request;
    let mut total = 0;
    let (groups, next) = admin::listed(limit, after, name_of, async |after, limit| {
        let request = ListGroupsRequest { limit, after };
        let answer = admin.list_groups(request).await.map_err(|status| admin::failure(&status))?.into_inner();
        total = answer.total;
        Ok(answer.groups)
    })
    .await?;
    let mut table = Table::new(&["GROUP", "ORDER", "ATTEMPTS", "LAG", "READY", "IN-FLIGHT", "WAITING"]);
    for GroupSummary { group, backlog } in &groups {
        let (group, backlog) = (group.clone().unwrap_or_default(), backlog.unwrap_or_default());
        let (order, attempts) = (order_word(&group).to_owned(), group.max_attempts.to_string());
        let [lag, ready, in_flight, waiting] = backlog_cells(&backlog);
        table.row(vec![group.name, order, attempts, lag, ready, in_flight, waiting]);
    }
    let shown: Vec<Value> = groups.iter().map(summary_json).collect();
    let json = json!({ "groups": shown, "total": total, "next": admin::next_json(&next) });
    remote.output.print(&table, &json)?;
    admin::say_more(remote, groups.len(), total, "--after", &next);
    Ok(())
}

async fn describe(remote: &Remote, name: String) -> Result<(), Failure> {
    let request = DescribeGroupRequest { name };
    let answer =
        remote.connect().await?.describe_group(request).await.map_err(|status| admin::failure(&status))?.into_inner();
    let group = answer.group.unwrap_or_default();
    let mut table =
        Table::new(&["TOPIC", "QUEUE", "COMMITTED", "FETCHED", "END", "LAG", "READY", "IN-FLIGHT", "WAITING"]);
    for topic in &answer.topics {
        for QueueProgress { queue, end, committed, fetch, backlog } in &topic.queues {
            let [lag, ready, in_flight, waiting] = backlog_cells(&backlog.unwrap_or_default());
            let places = [queue.to_string(), committed.to_string(), fetch.to_string(), end.to_string()];
            let row = [topic.topic.clone()].into_iter().chain(places).chain([lag, ready, in_flight, waiting]);
            table.row(row.collect());
        }
    }
    if remote.output == output::Output::Table {
        let consume = if group.consume_disabled { "disabled" } else { "enabled" };
        output::line(&format!(
            "group     {}\norder     {}\nattempts  {}\nexhausted {}\nbackoff   {}\nshared    {} %\n{}consume   {consume}\ncreated   {}\nclients   {}\n",
            group.name,
            order_word(&group),
            group.max_attempts,
            exhausted_word(&group),
            backoff_word(&group),
            group.shared_percent,
            group.lite.as_ref().map(lite_line).unwrap_or_default(),
            output::time(group.created_ms),
            if answer.clients.is_empty() { "-".to_owned() } else { answer.clients.join(", ") },
        ))?;
    }
    let topics: Vec<Value> = answer.topics.iter().map(topic_json).collect();
    remote.output.print(&table, &json!({ "group": group_json(&group), "topics": topics, "clients": answer.clients }))
}

async fn delete(remote: &Remote, name: String, yes: bool, dry_run: bool, if_exists: bool) -> Result<(), Failure> {
    let mut client = remote.connect().await?;
    let found = match client.describe_group(DescribeGroupRequest { name: name.clone() }).await {
        Err(status) if status.code() == Code::NotFound && if_exists => {
            return remote.output.done(&format!("group {name} does not exist"), &json!({ "deleted": false }));
        }
        answer => answer.map_err(|status| admin::failure(&status))?.into_inner(),
    };
    let what = format!("positions in {} topics", found.topics.len());
    if dry_run {
        return remote.output.done(&format!("group {name} would be deleted: {what}"), &json!({ "deleted": false }));
    }
    admin::confirm(&format!("Delete group {name} ({what})?"), yes)?;
    client.delete_group(DeleteGroupRequest { name: name.clone() }).await.map_err(|status| admin::failure(&status))?;
    remote.output.done(&format!("group {name} deleted: {what}"), &json!({ "deleted": true }))
}

fn backlog_cells(backlog: &Backlog) -> [String; 4] {
    [lag(backlog), backlog.ready, backlog.in_flight, backlog.waiting].map(|count| count.to_string())
}

fn lag(backlog: &Backlog) -> u64 {
    backlog.ready + backlog.in_flight + backlog.waiting
}

fn backlog_json(backlog: Option<Backlog>) -> Value {
    let backlog = backlog.unwrap_or_default();
    json!({
        "lag": lag(&backlog),
        "ready": backlog.ready,
        "in_flight": backlog.in_flight,
        "waiting": backlog.waiting,
        "blocked": backlog.blocked,
        "oldest": output::time_json(backlog.oldest_ms),
    })
}

fn group_json(group: &Group) -> Value {
    json!({
        "name": group.name,
        "order": order_word(group),
        "max_attempts": group.max_attempts,
        "backoff": backoff_word(group),
        "consume": if group.consume_disabled { "disabled" } else { "enabled" },
        "when_exhausted": exhausted_word(group),
        "shared_percent": group.shared_percent,
        "lite": group.lite.as_ref().map(lite_json),
        "created": output::time_json(group.created_ms),
        "version": group.version,
    })
}

fn lite_json(lite: &Lite) -> Value {
    json!({
        "topic": lite.topic,
        "exclusive": lite.exclusive,
        "wildcard": lite.wildcard,
        "client_quota": lite.client_quota,
        "reset_when_moved": lite.reset_when_moved,
        "reset_when_left": lite.reset_when_left,
    })
}

fn summary_json(summary: &GroupSummary) -> Value {
    let group = summary.group.clone().unwrap_or_default();
    json!({ "group": group_json(&group), "backlog": backlog_json(summary.backlog) })
}

fn topic_json(topic: &TopicProgress) -> Value {
    let queue = |queue: &QueueProgress| {
        json!({
            "queue": queue.queue,
            "committed": queue.committed,
            "fetched": queue.fetch,
            "end": queue.end,
            "backlog": backlog_json(queue.backlog),
        })
    };
    let queues: Vec<Value> = topic.queues.iter().map(queue).collect();
    json!({ "topic": topic.topic, "backlog": backlog_json(topic.backlog), "queues": queues, "waiting_receives": topic.polls })
}

fn order_word(group: &Group) -> &'static str {
    match (&group.lite, group.fifo) {
        (Some(_), _) => "lite",
        (None, true) => "fifo",
        (None, false) => "concurrent",
    }
}

fn exhausted_word(group: &Group) -> &'static str {
    if group.blocks_when_exhausted { "block" } else { "dead-letter" }
}

/// What a group does with lite topics, in one line.
fn lite_line(lite: &Lite) -> String {
    let flags = [
        (lite.exclusive, "exclusive"),
        (lite.wildcard, "wildcard"),
        (lite.reset_when_moved, "reset when moved"),
        (lite.reset_when_left, "reset when left"),
    ];
    let flags: Vec<_> = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| *name).collect();
    let quota =
        if lite.client_quota == 0 { "default quota".to_owned() } else { format!("quota {}", lite.client_quota) };
    let all = [&[lite.topic.as_str(), &quota][..], &flags].concat();
    format!("lite      {}\n", all.join(", "))
}

fn backoff_word(group: &Group) -> String {
    let span = |ms: u64| Format::duration(Duration::from_millis(ms));
    match &group.backoff {
        None => "default".to_owned(),
        Some(group::Backoff::Exponential(exponential)) => {
            let (initial, max) = (span(exponential.initial_ms), span(exponential.max_ms));
            format!("exponential:{initial}..{max}*{}", exponential.multiplier)
        }
        Some(group::Backoff::Customized(customized)) => {
            let steps: Vec<_> = customized.next_ms.iter().map(|ms| span(*ms)).collect();
            format!("custom:{}", steps.join(","))
        }
    }
}
