//! `centaur transaction`: half messages whose outcome is not known yet.

use centaur_apis::{
    log::Resolution,
    store::{EndTransactionRequest, ListTransactionsRequest, Transaction},
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    admin::{self, Remote},
    exit::{Exit, Failure},
    output::{self, Table},
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
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Make the message of a transaction visible
    Commit(Chosen),
    /// Drop the message of a transaction: nobody gets it
    Drop(Chosen),
}

#[derive(Args, Debug)]
struct Chosen {
    /// Transaction id, or message id
    id: String,
    #[arg(short, long)]
    topic: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Runs `centaur transaction`.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    let remote = &command.remote;
    match command.verb {
        Verb::List { topic, discarded, limit } => {
            list(remote, ListTransactionsRequest { topic, discarded_only: discarded, limit }).await
        }
        Verb::Commit(chosen) => end(remote, chosen, Resolution::Committed).await,
        Verb::Drop(chosen) => end(remote, chosen, Resolution::RolledBack).await,
    }
}

async fn list(remote: &Remote, request: ListTransactionsRequest) -> Result<(), Failure> {
    let answer = remote.connect().await?.list_transactions(request).await.map_err(|status| admin::failure(&status))?;
    let answer = answer.into_inner();
    let mut table = Table::new(&["STORED", "TOPIC", "MESSAGE-ID", "CHECKS", "NEXT-CHECK", "SIZE", "TRANSACTION-ID"]);
    for transaction in &answer.transactions {
        table.row(row(transaction));
    }
    let transactions: Vec<Value> = answer.transactions.iter().map(transaction_json).collect();
    remote.output.print(&table, &json!({ "transactions": transactions, "total": answer.total }))?;
    if (answer.transactions.len() as u64) < answer.total && remote.output == output::Output::Table {
        eprintln!("{} of {} shown; raise --limit to see more", answer.transactions.len(), answer.total);
    }
    Ok(())
}

async fn end(remote: &Remote, chosen: Chosen, resolution: Resolution) -> Result<(), Failure> {
    let Chosen { id, topic, yes } = chosen;
    let verb = if resolution == Resolution::Committed { "Commit" } else { "Drop" };
    admin::confirm(&format!("{verb} transaction {id} of topic {topic}? Its producer may think otherwise."), yes)?;
    let request =
        EndTransactionRequest { topic, ticket: id.clone(), message_id: id.clone(), resolution: resolution.into() };
    let answer = remote.connect().await?.end_transaction(request).await.map_err(|status| admin::failure(&status))?;
    let stands = answer.into_inner().resolution();
    if stands != resolution {
        let sentence = format!("transaction {id} was {} before; that stands", word(stands));
        return Err(Failure::new(Exit::Precondition, sentence));
    }
    remote.output.done(&format!("transaction {id} {}", word(stands)), &json!({ "resolution": word(stands) }))
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
