//! `centaur dlq redrive`: a page of dead letters at a time, no faster than asked. What was sent is
//! noted by the store: interrupted and started again, nothing is sent twice.

use std::{num::NonZeroU32, time::Duration};

use centaur_apis::{
    admin::admin_client::AdminClient,
    store::{
        Place, QueryMessagesRequest, QueryOffsetRequest, ReadRequest, RedriveRequest, RedriveResult,
        query_messages_request::By, query_offset_request::At, redrive_result::Outcome,
    },
};
use clap::Args;
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tonic::transport::Channel;

use super::{PAGE_BYTES, end_of_letters, topic_of};
use crate::{
    admin::{self, Remote, times},
    exit::{Exit, Failure},
    output::{self, Output},
};

/// Dead letters of one call.
pub(super) const PAGE: u32 = 32;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The consumer group that could not consume them
    group: String,
    /// Only these message ids
    #[arg(long = "id", value_name = "ID", required_unless_present_any = ["from", "all"], conflicts_with_all = ["from", "to", "all"])]
    ids: Vec<String>,
    /// Only those that died at or after: 30m (ago), 2026-05-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = times::time)]
    from: Option<u64>,
    /// Only those that died before
    #[arg(long, value_name = "TIME", value_parser = times::time, requires = "from")]
    to: Option<u64>,
    /// All of them
    #[arg(long, conflicts_with = "from")]
    all: bool,
    /// Messages a second, at most
    #[arg(long, value_name = "N", default_value = "100")]
    rate: NonZeroU32,
    /// Messages in all, at most
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
}

/// How many came to what.
#[derive(Default)]
struct Tally {
    sent: u64,
    already: u64,
    refused: u64,
    /// Ids that no dead letter of the group has.
    absent: u64,
}

/// Sends dead letters again and says for each what came of it.
pub(super) async fn run(remote: &Remote, arguments: Arguments) -> Result<(), Failure> {
    let client = remote.connect().await?;
    let mut run = Run { output: remote.output, client, tally: Tally::default(), next: Instant::now(), arguments };
    let has_letters = end_of_letters(&mut run.client, &run.arguments.group).await?.is_some();
    if !run.arguments.ids.is_empty() {
        run.by_id(has_letters).await?;
    } else if has_letters {
        run.by_offset().await?;
    }
    run.finish()
}

struct Run {
    output: Output,
    client: AdminClient<Channel>,
    arguments: Arguments,
    tally: Tally,
    /// When the next page may be sent.
    next: Instant,
}

impl Run {
    async fn by_id(&mut self, has_letters: bool) -> Result<(), Failure> {
        for id in self.arguments.ids.clone() {
            if !self.wants_more() {
                break;
            }
            let mut places = if has_letters { self.places_of(&id).await? } else { Vec::new() };
            if places.is_empty() {
                self.tell_absent(&id)?;
            }
            // More than one, when it died more than once.
            while !places.is_empty() && self.wants_more() {
                let rest = places.split_off(places.len().min(self.page() as usize));
                self.send(places).await?;
                places = rest;
            }
        }
        Ok(())
    }

    /// Where the dead letters with a message id are.
    async fn places_of(&mut self, id: &str) -> Result<Vec<Place>, Failure> {
        let request = QueryMessagesRequest {
            topic: topic_of(&self.arguments.group),
            by: Some(By::MessageId(id.to_owned())),
            limit: 0,
        };
        let found = self.client.query_messages(request).await.map_err(|status| admin::failure(&status))?.into_inner();
        let letters = found.messages.iter().filter(|letter| !letter.unplaced);
        Ok(letters.map(|letter| Place { queue: letter.queue, offset: letter.offset }).collect())
    }

    fn wants_more(&self) -> bool {
        self.arguments.limit.is_none_or(|limit| self.tally.sent < limit)
    }

    async fn by_offset(&mut self) -> Result<(), Failure> {
        let from = self.arguments.from.map_or(At::Earliest(true), At::FromMs);
        let mut offset = self.offset_of(from).await?;
        let end = self.offset_of(self.arguments.to.map_or(At::Latest(true), At::FromMs)).await?;
        while offset < end && self.wants_more() {
            let request = ReadRequest {
                topic: topic_of(&self.arguments.group),
                offset,
                messages_max: self.page(),
                bytes_max: PAGE_BYTES,
                ..Default::default()
            };
            let page = self.client.read(request).await.map_err(|status| admin::failure(&status))?.into_inner();
            let places = page.messages.iter().map(|m| Place { queue: m.queue, offset: m.offset });
            let places: Vec<Place> = places.filter(|place| place.offset < end).collect();
            if !places.is_empty() {
                self.send(places).await?;
            }
            if page.next_offset <= offset {
                break;
            }
            offset = page.next_offset;
        }
        Ok(())
    }

    async fn offset_of(&mut self, at: At) -> Result<u64, Failure> {
        let request = QueryOffsetRequest { topic: topic_of(&self.arguments.group), queue: 0, at: Some(at) };
        let answer = self.client.query_offset(request).await.map_err(|status| admin::failure(&status))?;
        Ok(answer.into_inner().offset)
    }

    /// Dead letters of the next call: no more than a second's worth, or than are still wanted.
    fn page(&self) -> u32 {
        let wanted = self.arguments.limit.map_or(PAGE, |limit| u32::try_from(limit - self.tally.sent).unwrap_or(PAGE));
        PAGE.min(self.arguments.rate.get()).min(wanted)
    }

    async fn send(&mut self, places: Vec<Place>) -> Result<(), Failure> {
        sleep_until(self.next).await;
        let request = RedriveRequest {
            group: self.arguments.group.clone(),
            places: places.clone(),
            dry_run: self.arguments.dry_run,
        };
        let answer = self.client.redrive(request).await.map_err(|status| admin::failure(&status))?.into_inner();
        let sent_before = self.tally.sent;
        for (place, result) in places.iter().zip(&answer.results) {
            self.tell(*place, result)?;
        }
        // Only what was sent counts: looking, and going over what was sent before, is quick.
        if !self.arguments.dry_run {
            let sent = u32::try_from(self.tally.sent - sent_before).unwrap_or(u32::MAX);
            self.next = Instant::now() + Duration::from_secs(1) * sent / self.arguments.rate.get();
        }
        Ok(())
    }

    fn tell(&mut self, place: Place, result: &RedriveResult) -> Result<(), Failure> {
        let refusal = result.error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
        let (count, word) = match result.outcome() {
            Outcome::Sent if self.arguments.dry_run => (&mut self.tally.sent, "would be sent"),
            Outcome::Sent => (&mut self.tally.sent, "sent"),
            Outcome::Already => (&mut self.tally.already, "sent before"),
            Outcome::Refused => (&mut self.tally.refused, "refused"),
        };
        *count += 1;
        match self.output {
            Output::Json => output::line(
                &json!({
                    "id": result.message_id,
                    "dead_letter_offset": place.offset,
                    "outcome": result.outcome().as_str_name(),
                    "topic": result.topic,
                    "queue": result.queue,
                    "offset": result.offset,
                    "error": result.error.as_ref().map(|error| &error.message),
                })
                .to_string(),
            ),
            Output::Table if refusal.is_empty() => {
                output::line(&format!("{}  {word}  {} queue {}", result.message_id, result.topic, result.queue))
            }
            Output::Table => output::line(&format!("{}  {word}: {refusal}", result.message_id)),
        }
    }

    fn tell_absent(&mut self, id: &str) -> Result<(), Failure> {
        self.tally.absent += 1;
        let sentence = format!("{id}  not found: group {} has no such dead letter", self.arguments.group);
        self.output.done(&sentence, &json!({ "id": id, "outcome": "NOT_FOUND" }))
    }

    fn finish(self) -> Result<(), Failure> {
        let Tally { sent, already, refused, absent } = self.tally;
        let verb = if self.arguments.dry_run { "would be sent" } else { "sent" };
        if self.output == Output::Table {
            let absent = if absent > 0 { format!(", {absent} not found") } else { String::new() };
            eprintln!("{sent} {verb}, {already} sent before, {refused} refused{absent}");
        }
        let sentence = match (refused, absent) {
            (0, 0) => return Ok(()),
            (_, 0) => format!("{refused} dead letters were refused"),
            (0, _) => format!("{absent} dead letters were not found"),
            _ => format!("{refused} dead letters were refused and {absent} not found"),
        };
        Err(match (sent + already, refused) {
            (0, 0) => Failure::new(Exit::NotFound, sentence).code("MESSAGE_NOT_FOUND"),
            (0, _) => Failure::new(Exit::Precondition, sentence),
            _ => Failure::new(Exit::Partly, sentence),
        })
    }
}
