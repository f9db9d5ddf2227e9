//! Commands of operators: one file per noun, each thin over the admin service.

pub(crate) mod client;
pub(crate) mod dlq;
pub(crate) mod group;
pub(crate) mod message;
pub(crate) mod times;
pub(crate) mod topic;
pub(crate) mod transaction;

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use centaur_apis::{
    admin::admin_client::AdminClient,
    store::{Error, Reason},
};
use clap::Args;
use serde_json::Value;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    exit::{Exit, Failure},
    output::Output,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// One answer may list thousands of topics, or messages with large bodies.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Entries of a list in one answer.
const PAGE_MAX: usize = 1000;

/// Which server is asked, and how its answer is printed.
#[derive(Args, Clone, Debug)]
pub(crate) struct Remote {
    /// Operators' port of any server
    #[arg(
        short,
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "CENTAUR_ADDRESS",
        default_value = "127.0.0.1:8082"
    )]
    address: String,
    /// How results are printed
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(crate) output: Output,
}

impl Remote {
    /// Connects to the admin service.
    ///
    /// Errors: exit 6 when nobody answers.
    pub(crate) async fn connect(&self) -> Result<AdminClient<Channel>, Failure> {
        let channel = dial(&self.address, CALL_TIMEOUT).await;
        let channel =
            channel.map_err(|failure| failure.hint(format!("{NOT_RUNNING} operators' port with -a HOST:PORT")))?;
        Ok(AdminClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX))
    }
}

const NOT_RUNNING: &str = "is the server running? start one with: centaur serve --dev; or name its";

/// Opens a plaintext connection.
///
/// Errors: exit 2 for an address that is none, exit 6 when nobody answers.
pub(crate) async fn dial(address: &str, call_timeout: Duration) -> Result<Channel, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = endpoint
        .map_err(|_| Failure::new(Exit::Usage, format!("{address:?} is not an address; write it like host:port")))?;
    let connected = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(call_timeout).tcp_nodelay(true).connect().await;
    connected.map_err(|error| {
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        Failure::new(Exit::Unreachable, format!("cannot connect to {address}: {cause}"))
    })
}

/// Runs a command that needs the network.
pub(crate) fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, format!("threads cannot be started: {error}")))?;
    runtime.block_on(command)
}

/// What a refusal means for the command.
pub(crate) fn failure(status: &Status) -> Failure {
    // Only a failure on this side has a source: the connection broke, or never was one.
    // What code it gets depends on how far the connection came.
    if status.code() != Code::DeadlineExceeded
        && let Some(cause) = deepest(status)
    {
        return Failure::new(Exit::Unreachable, format!("the connection was lost: {cause}")).hint(
            "look at the server's log; with proxy.tls.mode=required it takes no plaintext, and this command speaks nothing else",
        );
    }
    let error = Error::from_status(status);
    let exit = match status.code() {
        Code::NotFound => Exit::NotFound,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Exit::Precondition,
        Code::Unauthenticated | Code::PermissionDenied => Exit::Forbidden,
        Code::Unavailable => Exit::Unreachable,
        Code::DeadlineExceeded | Code::Cancelled => Exit::TimedOut,
        Code::InvalidArgument | Code::OutOfRange => Exit::Invalid,
        Code::ResourceExhausted => Exit::Overloaded,
        Code::Unimplemented => Exit::Unsupported,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Exit::Failed,
    };
    let message = if error.message.is_empty() {
        format!("the server answered {:?}", status.code())
    } else {
        error.message.clone()
    };
    let failure = Failure::new(exit, message);
    let failure = if status.details().is_empty() { failure } else { failure.code(error.reason().as_str_name()) };
    match (error.reason(), hint_for(exit)) {
        (Reason::TopicNotFound, _) => {
            failure.hint("centaur topic list shows what exists; centaur topic create NAME makes one")
        }
        (Reason::GroupNotFound, _) => {
            failure.hint("centaur group list shows what exists; centaur group create NAME makes one")
        }
        (_, Some(hint)) => failure.hint(hint),
        (_, None) => failure,
    }
}

/// The first cause of a failure.
fn deepest(status: &Status) -> Option<String> {
    let mut cause = std::error::Error::source(status)?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause.to_string())
}

fn hint_for(exit: Exit) -> Option<&'static str> {
    match exit {
        Exit::Unsupported => Some("the server is older than this command, or the address is not its operators' port"),
        Exit::Overloaded => Some("try again in a moment"),
        Exit::TimedOut => Some("it may have been done all the same: look before trying again"),
        _ => None,
    }
}

/// How many entries of a list are asked for at once, of those that are still wanted; at least 1, as
/// 0 would mean the server's own number.
pub(crate) fn page(wanted: usize) -> u32 {
    u32::try_from(wanted.clamp(1, PAGE_MAX)).unwrap_or(1)
}

/// A list of at most `limit` entries, asked for page by page, and after which of them it goes on;
/// `fetch` gives entries after a name, at most so many.
pub(crate) async fn listed<T>(
    limit: u32,
    mut after: String,
    name: impl Fn(&T) -> &str,
    mut fetch: impl AsyncFnMut(String, u32) -> Result<Vec<T>, Failure>,
) -> Result<(Vec<T>, String), Failure> {
    let limit = limit as usize;
    let mut found = Vec::new();
    // One more than wanted shows whether there is more.
    while found.len() <= limit {
        let wanted = page(limit + 1 - found.len());
        let some = fetch(after, wanted).await?;
        let is_last = some.len() < wanted as usize;
        after = some.last().map(|last| name(last).to_owned()).unwrap_or_default();
        found.extend(some);
        if is_last {
            break;
        }
    }
    let is_cut = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| is_cut).map(|last| name(last).to_owned()).unwrap_or_default();
    Ok((found, next))
}

/// Where a list goes on, for programs; null: nowhere.
pub(crate) fn next_json(next: &str) -> Value {
    if next.is_empty() { Value::Null } else { next.into() }
}

/// Says how to see the rest of a list that was cut off.
pub(crate) fn say_more(remote: &Remote, shown: usize, total: u64, option: &str, next: &str) {
    if !next.is_empty() && remote.output == Output::Table {
        eprintln!("{shown} of {total} shown; go on with {option} {next}");
    }
}

/// Asks before something is lost; without a terminal, only `--yes` is an answer.
///
/// Errors: exit 10 when it is not confirmed.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let refused =
        |cause: &str| Err(Failure::new(Exit::Unconfirmed, cause).hint("add --yes to do it without a question"));
    if !io::stdin().is_terminal() {
        return refused("not confirmed: there is no terminal to ask on");
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    let asked = io::stderr().flush().and_then(|()| io::stdin().read_line(&mut answer));
    if asked.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    refused("not confirmed")
}
