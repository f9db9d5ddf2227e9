//! `centaur client`.

use std::time::Duration;

use centaur_apis::{
    admin::{Client, ListClientsRequest, PrintStackRequest, ReconnectClientsRequest, VerifyMessageRequest},
    v2::Code,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    admin::{self, Remote, times::millis},
    config::values::{self, Format},
    exit::{Exit, Failure},
    output::Table,
};

/// Connected clients: list them, ask them something
#[derive(Args, Debug)]
pub(crate) struct Command {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List who is connected
    #[command(alias = "ls")]
    List {
        /// Only consumers of this group
        #[arg(long)]
        group: Option<String>,
        /// Only clients of this topic
        #[arg(long)]
        topic: Option<String>,
    },
    /// Show what a client's threads are doing
    Stack { id: String },
    /// Have a push consumer handle one message, outside of any lease
    Verify {
        id: String,
        #[arg(short, long)]
        topic: String,
        #[arg(long, value_name = "N")]
        queue: u32,
        #[arg(long, value_name = "N")]
        offset: u64,
    },
    /// Have clients connect anew, to be spread over the servers there are
    Reconnect {
        /// Which ones; all unless given
        ids: Vec<String>,
        /// Over so much time
        #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "30s")]
        spread: Duration,
    },
}

/// Runs `centaur client`.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    let remote = &command.remote;
    match command.verb {
        Verb::List { group, topic } => list(remote, group, topic).await,
        Verb::Stack { id } => stack(remote, PrintStackRequest { client: id }).await,
        Verb::Verify { id, topic, queue, offset } => {
            verify(remote, VerifyMessageRequest { client: id, topic, queue, offset }).await
        }
        Verb::Reconnect { ids, spread } => {
            reconnect(remote, ReconnectClientsRequest { clients: ids, spread_ms: millis(spread) }).await
        }
    }
}

async fn list(remote: &Remote, group: Option<String>, topic: Option<String>) -> Result<(), Failure> {
    let mut admin = remote.connect().await?;
    let answer = admin.list_clients(ListClientsRequest {}).await.map_err(|status| admin::failure(&status))?;
    let mut clients = answer.into_inner().clients;
    clients.retain(|client| group.as_ref().is_none_or(|group| client.group == *group));
    clients.retain(|client| topic.as_ref().is_none_or(|topic| client.topics.contains(topic)));
    let mut table = Table::new(&["CLIENT", "KIND", "GROUP", "TOPICS", "ADDRESS", "LANGUAGE", "VERSION", "LAST-SEEN"]);
    for client in &clients {
        table.row(row(client));
    }
    let clients: Vec<Value> = clients.iter().map(client_json).collect();
    remote.output.print(&table, &json!({ "clients": clients }))
}

async fn stack(remote: &Remote, request: PrintStackRequest) -> Result<(), Failure> {
    let answer = remote.connect().await?.print_stack(request).await.map_err(|status| admin::failure(&status))?;
    let answer = answer.into_inner();
    let said = if answer.text.is_empty() { format!("the client says {}", answer.status) } else { answer.text.clone() };
    remote.output.done(&said, &json!({ "status": answer.status, "text": answer.text }))
}

async fn verify(remote: &Remote, request: VerifyMessageRequest) -> Result<(), Failure> {
    let answer = remote.connect().await?.verify_message(request).await.map_err(|status| admin::failure(&status))?;
    let answer = answer.into_inner();
    let said = match answer.status.as_str() {
        "" => "the client answered, and did not say what came of it".to_owned(),
        status => format!("the client says {status} {}", answer.message).trim_end().to_owned(),
    };
    remote.output.done(&said, &json!({ "status": answer.status, "message": answer.message }))?;
    match Code::from_str_name(&answer.status) {
        Some(Code::Ok) => Ok(()),
        Some(Code::FailedToConsumeMessage | Code::MessageCorrupted) => {
            Err(Failure::new(Exit::Failed, "the client could not consume the message").code(answer.status))
        }
        // It says that it cannot do this, or says nothing.
        _ => Err(Failure::new(Exit::Unsupported, "nothing is known of whether the client can consume the message")
            .hint("not every client, and no producer, tries a message: see the language in client list")),
    }
}

async fn reconnect(remote: &Remote, request: ReconnectClientsRequest) -> Result<(), Failure> {
    let named = request.clients.len() as u64;
    let answer = remote.connect().await?.reconnect_clients(request).await.map_err(|status| admin::failure(&status))?;
    let told = answer.into_inner().told;
    remote.output.done(&format!("{told} clients are told to connect anew"), &json!({ "told": told }))?;
    let missed = named.saturating_sub(told.into());
    if missed == 0 {
        return Ok(());
    }
    let exit = if told == 0 { Exit::NotFound } else { Exit::Partly };
    Err(Failure::new(exit, format!("{missed} of the clients have no open stream to this proxy"))
        .hint("see who has with: client list"))
}

fn row(client: &Client) -> Vec<String> {
    let seen = Format::duration(Duration::from_secs(client.last_seen_ms_ago / 1000));
    let texts = [
        &client.id,
        &client.kind,
        &client.group,
        &client.topics.join(","),
        &client.address,
        &client.language,
        &client.version,
    ];
    texts.into_iter().cloned().chain([format!("{seen} ago")]).collect()
}

fn client_json(client: &Client) -> Value {
    json!({
        "id": client.id,
        "kind": client.kind,
        "group": client.group,
        "topics": client.topics,
        "address": client.address,
        "language": client.language,
        "version": client.version,
        "last_seen_ms_ago": client.last_seen_ms_ago,
    })
}
