//! `centaur group reset`.

use centaur_apis::store::{ResetGroupRequest, ResetQueue, reset_group_request::To};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    admin::{self, Remote, times},
    exit::Failure,
    output::Table,
};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    group: String,
    /// Only in this topic; all it reads unless given
    #[arg(short, long)]
    topic: Option<String>,
    /// Only in this queue of --topic
    #[arg(long, value_name = "N", requires = "topic")]
    queue: Option<u32>,
    /// Where to: earliest, latest, or messages stored from a time on: 30m (ago), 2026-05-01T12:00:00Z
    #[arg(long, value_name = "PLACE", value_parser = place, required_unless_present = "to_offset")]
    to: Option<Place>,
    /// Where to: this offset, or the nearest there is
    #[arg(long, value_name = "OFFSET", conflicts_with = "to", requires = "topic")]
    to_offset: Option<u64>,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Earliest,
    Latest,
    From(u64),
}

/// Says what a reset does, asks, and does it.
pub(super) async fn run(remote: &Remote, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { group, topic, queue, to, to_offset, dry_run, yes } = arguments;
    let to = match (to, to_offset) {
        (_, Some(offset)) => To::Offset(offset),
        (Some(Place::Latest), None) => To::Latest(true),
        (Some(Place::From(ms)), None) => To::FromMs(ms),
        (Some(Place::Earliest) | None, None) => To::Earliest(true),
    };
    let request = ResetGroupRequest {
        group: group.clone(),
        topic: topic.unwrap_or_default(),
        queue,
        to: Some(to),
        dry_run: true,
        ..Default::default()
    };
    let mut client = remote.connect().await?;
    let foreseen = client.reset_group(request.clone()).await.map_err(|status| admin::failure(&status))?.into_inner();
    if dry_run {
        return print(remote, &foreseen.queues, false);
    }
    let (again, skipped) =
        foreseen.queues.iter().fold((0, 0), |(again, skipped), one| (again + one.again, skipped + one.skipped));
    let question = format!("Reset group {group}: {again} messages come again, {skipped} are skipped?");
    admin::confirm(&question, yes)?;
    let request = ResetGroupRequest { dry_run: false, ..request };
    let done = client.reset_group(request).await.map_err(|status| admin::failure(&status))?.into_inner();
    print(remote, &done.queues, true)
}

fn print(remote: &Remote, queues: &[ResetQueue], done: bool) -> Result<(), Failure> {
    let mut table = Table::new(&["TOPIC", "QUEUE", "BEFORE", "AFTER", "AGAIN", "SKIPPED", "IN-HAND"]);
    for queue in queues {
        let numbers =
            [queue.before, queue.after, queue.again, queue.skipped, queue.released].map(|number| number.to_string());
        table.row([queue.topic.clone(), queue.queue.to_string()].into_iter().chain(numbers).collect());
    }
    let json = |queue: &ResetQueue| {
        json!({
            "topic": queue.topic,
            "queue": queue.queue,
            "before": queue.before,
            "after": queue.after,
            "again": queue.again,
            "skipped": queue.skipped,
            "in_hand": queue.released,
        })
    };
    let queues: Vec<Value> = queues.iter().map(json).collect();
    remote.output.print(&table, &json!({ "done": done, "queues": queues }))
}

fn place(text: &str) -> Result<Place, String> {
    match text {
        "earliest" => Ok(Place::Earliest),
        "latest" => Ok(Place::Latest),
        time => times::time(time).map(Place::From).map_err(|error| format!("{error}; or earliest, or latest")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        assert_eq!(place("earliest"), Ok(Place::Earliest));
        assert_eq!(place("1777636800000"), Ok(Place::From(1_777_636_800_000)));
        assert!(place("somewhere").is_err());
    }
}
