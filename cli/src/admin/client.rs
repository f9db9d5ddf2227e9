//! `centaur client`.

use std::time::Duration;

use centaur_apis::admin::{Client, ListClientsRequest};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    admin::{self, Remote},
    config::values::Format,
    exit::Failure,
    output::Table,
};

/// Connected clients
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
}

/// Runs `centaur client`.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    let Verb::List { group, topic } = command.verb;
    let mut admin = command.remote.connect().await?;
    let answer = admin.list_clients(ListClientsRequest {}).await.map_err(|status| admin::failure(&status))?;
    let mut clients = answer.into_inner().clients;
    clients.retain(|client| group.as_ref().is_none_or(|group| client.group == *group));
    clients.retain(|client| topic.as_ref().is_none_or(|topic| client.topics.contains(topic)));
    let mut table = Table::new(&["CLIENT", "KIND", "GROUP", "TOPICS", "ADDRESS", "LANGUAGE", "VERSION", "LAST-SEEN"]);
    for client in &clients {
        table.row(row(client));
    }
    let clients: Vec<Value> = clients.iter().map(client_json).collect();
    command.remote.output.print(&table, &json!({ "clients": clients }))
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
