//! `centaur transaction`: half messages whose outcome is not known yet.

use centaur_apis::{
    admin::admin_client::AdminClient,
    log::Resolution,
    store::{EndTransactionRequest, ListTransactionsRequest, ListTransactionsResponse, Transaction},
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::{
    admin::{self, Remote},
    exit::{Exit, Failure},
    output::{self, Output, Table},
};

/// Transactions: list the undecided ones, decide them
#[derive(Args, Debug)]
pub(crate) struct Command {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List undecided transactions, the oldest first
    #[command(alias = "ls")]
    List {
        /// Only of this topic
        #[arg(short, long, default_value = "")]
        topic: String,
        /// Only those whose producers are not asked any more
        #[arg(long)]
        discarded: bool,
        /// At most so many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Go on where a list before ended: what it named as the next
        #[arg(long, value_name = "PLACE", default_value = "")]
        after: String,
    },
    /// Make the messages of transactions visible
    Commit {
        /// Transaction ids, or message ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        #[arg(short, long)]
        topic: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Drop the messages of transactions: nobody gets them
    Drop {
        /// Transaction ids, or message ids
        #[arg(required_unless_present = "discarded", requires = "topic", value_name = "ID")]
        ids: Vec<String>,
        /// Their topic; with --discarded, all unless given
        #[arg(short, long)]
        topic: Option<String>,
        /// All whose producers are not asked any more
        #[arg(long, conflicts_with = "ids")]
        discarded: bool,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// Runs `centaur transaction`.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    let remote = &command.remote;
    match command.verb {
        Verb::List { topic, discarded, limit, after } => {
            list(remote, ListTransactionsRequest { topic, discarded_only: discarded, limit, after }).await
        }
        Verb::Commit { ids, topic, yes } => end(remote, ids, topic, Resolution::Committed, yes).await,
        Verb::Drop { topic, discarded: true, yes, .. } => drop_discarded(remote, topic.unwrap_or_default(), yes).await,
        Verb::Drop { ids, topic, yes, .. } => {
            end(remote, ids, topic.unwrap_or_default(), Resolution::RolledBack, yes).await
        }
    }
}

async fn list(remote: &Remote, mut request: ListTransactionsRequest) -> Result<(), Failure> {
    let mut client = remote.connect().await?;
    let mut table = Table::new(&["STORED", "TOPIC", "MESSAGE-ID", "CHECKS", "NEXT-CHECK", "SIZE", "TRANSACTION-ID"]);
    let mut shown = Vec::new();
    let wanted = request.limit as usize;
    let (total, next) = loop {
        request.limit = admin::page(wanted - shown.len());
        let page = page(&mut client, &request).await?;
        for transaction in &page.transactions {
            table.row(row(transaction));
            shown.push(transaction_json(transaction));
        }
        if page.next.is_empty() || shown.len() >= wanted {
            break (page.total, page.next);
        }
        request.after = page.next;
    };
    let count = shown.len();
    remote.output.print(&table, &json!({ "transactions": shown, "total": total, "next": admin::next_json(&next) }))?;
    admin::say_more(remote, count, total, "--after", &next);
    Ok(())
}

async fn page(
    client: &mut AdminClient<Channel>,
    request: &ListTransactionsRequest,
) -> Result<ListTransactionsResponse, Failure> {
    let answer = client.list_transactions(request.clone()).await.map_err(|status| admin::failure(&status))?;
    Ok(answer.into_inner())
}

async fn end(
    remote: &Remote,
    ids: Vec<String>,
    topic: String,
    resolution: Resolution,
    yes: bool,
) -> Result<(), Failure> {
    let verb = if resolution == Resolution::Committed { "Commit" } else { "Drop" };
    let what = match ids.as_slice() {
        [id] => format!("transaction {id}"),
        ids => format!("{} transactions", ids.len()),
    };
    admin::confirm(&format!("{verb} {what} of topic {topic}? Its producer may think otherwise."), yes)?;
    let mut run = Run::new(remote, resolution).await?;
    if let [id] = ids.as_slice() {
        return run.end(&topic, id).await;
    }
    for id in ids {
        run.end_one_of_many(&topic, &id).await?;
    }
    run.finish()
}

/// Drops what no producer is asked about any more, a page at a time.
async fn drop_discarded(remote: &Remote, topic: String, yes: bool) -> Result<(), Failure> {
    let mut run = Run::new(remote, Resolution::RolledBack).await?;
    let limit = admin::page(usize::MAX);
    let mut request = ListTransactionsRequest { topic, discarded_only: true, limit, after: String::new() };
    let mut found = page(&mut run.client, &request).await?;
    if found.total == 0 {
        return remote.output.done("no transaction is discarded", &json!({ "dropped": 0 }));
    }
    admin::confirm(&format!("Drop {} discarded transactions? Nobody gets their messages.", found.total), yes)?;
    loop {
        for transaction in found.transactions {
            run.end_one_of_many(&transaction.topic, &transaction.ticket).await?;
        }
        if found.next.is_empty() {
            return run.finish();
        }
        request.after = found.next;
        found = page(&mut run.client, &request).await?;
    }
}

/// Decides transactions one after the other, all in the same way.
struct Run {
    output: Output,
    client: AdminClient<Channel>,
    resolution: Resolution,
    done: u64,
    /// How many were not, and how the first of them ended.
    failed: u64,
    first: Option<Exit>,
}

impl Run {
    async fn new(remote: &Remote, resolution: Resolution) -> Result<Self, Failure> {
        let client = remote.connect().await?;
        Ok(Self { output: remote.output, client, resolution, done: 0, failed: 0, first: None })
    }

    async fn end(&mut self, topic: &str, id: &str) -> Result<(), Failure> {
        let request = EndTransactionRequest {
            topic: topic.to_owned(),
            ticket: id.to_owned(),
            message_id: id.to_owned(),
            resolution: self.resolution.into(),
        };
        let answer = self.client.end_transaction(request).await.map_err(|status| admin::failure(&status))?;
        let stands = answer.into_inner().resolution();
        if stands != self.resolution {
            let sentence = format!("transaction {id} was {} before; that stands", word(stands));
            return Err(Failure::new(Exit::Precondition, sentence));
        }
        let facts = json!({ "transaction_id": id, "resolution": word(stands) });
        self.output.done(&format!("transaction {id} {}", word(stands)), &facts)
    }

    /// The same; what becomes of one does not keep the others from their turn, unless nobody answers.
    async fn end_one_of_many(&mut self, topic: &str, id: &str) -> Result<(), Failure> {
        let failure = match self.end(topic, id).await {
            Ok(()) => {
                self.done += 1;
                return Ok(());
            }
            Err(failure) if matches!(failure.exit, Exit::NotFound | Exit::Precondition | Exit::Invalid) => failure,
            Err(failure) => return Err(failure),
        };
        self.failed += 1;
        self.first.get_or_insert(failure.exit);
        let facts = json!({ "transaction_id": id, "error": failure.cause });
        self.output.done(&format!("transaction {id} is not {}: {}", word(self.resolution), failure.cause), &facts)
    }

    fn finish(self) -> Result<(), Failure> {
        let Some(first) = self.first else { return Ok(()) };
        let exit = if self.done > 0 { Exit::Partly } else { first };
        let (failed, all) = (self.failed, self.done + self.failed);
        Err(Failure::new(exit, format!("{failed} of {all} transactions were not {}", word(self.resolution))))
    }
}

fn word(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Undecided => "undecided",
        Resolution::Committed => "committed",
        Resolution::RolledBack => "dropped",
    }
}

fn row(transaction: &Transaction) -> Vec<String> {
    let next = if transaction.discarded { "never".to_owned() } else { output::time(transaction.next_check_ms) };
    vec![
        output::time(transaction.stored_ms),
        transaction.topic.clone(),
        transaction.message_id.clone(),
        transaction.checks.to_string(),
        next,
        transaction.body_bytes.to_string(),
        transaction.ticket.clone(),
    ]
}

fn transaction_json(transaction: &Transaction) -> Value {
    json!({
        "transaction_id": transaction.ticket,
        "message_id": transaction.message_id,
        "topic": transaction.topic,
        "stored": output::time_json(transaction.stored_ms),
        "checks": transaction.checks,
        "next_check": output::time_json(if transaction.discarded { 0 } else { transaction.next_check_ms }),
        "discarded": transaction.discarded,
        "bytes": transaction.body_bytes,
    })
}
