//! The commands against a running server: what they print, and how they end.

#[path = "../harness/mod.rs"]
mod harness;

mod catalog;
mod clients;
mod dead_letters;
mod errors;
mod messages;
mod transactions;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use centaur_apis::v2::{
    Code, Publishing, Resource, Settings, Status, Subscription, TelemetryCommand, VerifyMessageCommand,
    VerifyMessageResult, messaging_service_client::MessagingServiceClient, settings, telemetry_command,
};
use harness::{Options, PATIENCE, Server, command, in_time, text, wait_until};
use serde_json::{Value, json as object};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(json).collect()
}

fn exit_code(server: &Server, arguments: &[&str]) -> Option<i32> {
    server.centaur(arguments).status.code()
}
