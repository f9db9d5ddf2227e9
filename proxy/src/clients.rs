//! What operators have clients do: show their threads, handle a message, connect anew.

use std::{sync::Arc, time::Duration};

use centaur_apis::{
    admin::{
        PrintStackRequest, PrintStackResponse, ReconnectClientsRequest, ReconnectClientsResponse, VerifyMessageRequest,
        VerifyMessageResponse,
    },
    store::{Error, Place, QueryMessagesRequest, Reason, query_messages_request::By},
    v2::{
        PrintThreadStackTraceCommand, ReconnectEndpointsCommand, TelemetryCommand, VerifyMessageCommand,
        telemetry_command::Command,
    },
};
use tonic::Status;

use crate::{
    Inner, convert,
    sessions::{Answer, Session, Unanswered, Unheard},
    stores::Client,
};

/// Longest time over which clients are told to connect anew.
const SPREAD_MAX: Duration = Duration::from_secs(60 * 60);
/// Shortest pause between two clients; within it, several are told at once.
const STEP: Duration = Duration::from_millis(10);

/// Asks a client what its threads are doing.
pub(crate) async fn print_stack(proxy: &Inner, request: PrintStackRequest) -> Result<PrintStackResponse, Status> {
    let question = |nonce| Command::PrintThreadStackTraceCommand(PrintThreadStackTraceCommand { nonce });
    let answer = ask(proxy, &request.client, question).await?;
    Ok(PrintStackResponse { status: said(&answer), text: answer.text })
}

/// Has a consumer handle one message that exists.
pub(crate) async fn verify_message(
    proxy: &Inner,
    request: VerifyMessageRequest,
) -> Result<VerifyMessageResponse, Status> {
    // A client that is not there is told of before a message is read.
    connected(proxy, &request.client)?;
    let message = Some(read(proxy, &request).await?);
    let question = |nonce| Command::VerifyMessageCommand(VerifyMessageCommand { nonce, message });
    let answer = ask(proxy, &request.client, question).await?;
    let message = answer.status.as_ref().map(|status| status.message.clone()).unwrap_or_default();
    Ok(VerifyMessageResponse { status: said(&answer), message })
}

/// Tells clients to connect anew, one after the other; comes back before the last was told.
pub(crate) fn reconnect(proxy: &Inner, request: &ReconnectClientsRequest) -> ReconnectClientsResponse {
    let sessions = proxy.sessions.reachable(&request.clients);
    let told = u32::try_from(sessions.len()).unwrap_or(u32::MAX);
    send_away(proxy, sessions, Duration::from_millis(request.spread_ms));
    ReconnectClientsResponse { told }
}

/// Tells these clients to connect anew, spread over a time. Every official client takes or ignores
/// the command; none breaks.
pub(crate) fn send_away(proxy: &Inner, sessions: Vec<Arc<Session>>, over: Duration) {
    let over = over.min(SPREAD_MAX);
    let commands: Vec<_> = sessions.into_iter().map(|session| (session, proxy.questions.nonce())).collect();
    let Some(each) = u32::try_from(commands.len()).ok().and_then(|count| over.checked_div(count)) else { return };
    tokio::spawn(async move {
        let mut waited = Duration::ZERO;
        for (session, nonce) in commands {
            let command = Command::ReconnectEndpointsCommand(ReconnectEndpointsCommand { nonce });
            // One that went away, or does not read, is beyond telling.
            let _ = session.command(TelemetryCommand { status: None, command: Some(command) });
            waited += each;
            if waited >= STEP {
                tokio::time::sleep(std::mem::take(&mut waited)).await;
            }
        }
    });
}

async fn ask(proxy: &Inner, client: &str, question: impl FnOnce(String) -> Command) -> Result<Answer, Status> {
    let session = connected(proxy, client)?;
    proxy.questions.ask(client, &session, question).await.map_err(|unanswered| match unanswered {
        Unanswered::Unheard(Unheard::NoStream) => not_connected(client),
        Unanswered::Unheard(Unheard::Full) => {
            Status::unavailable(format!("client {client:?} does not read what it is sent; try again later"))
        }
        Unanswered::Unheard(Unheard::AllFull) => {
            Status::unavailable("too many clients do not read what they are sent; try again later")
        }
        Unanswered::Silent => {
            Status::deadline_exceeded(format!("client {client:?} did not answer within 5 s; not every client does"))
        }
        Unanswered::Busy => Status::resource_exhausted("too many clients are being asked; try again in a few seconds"),
    })
}

fn connected(proxy: &Inner, client: &str) -> Result<Arc<Session>, Status> {
    proxy.sessions.find(client).filter(|session| session.has_stream()).ok_or_else(|| not_connected(client))
}

fn not_connected(client: &str) -> Status {
    Status::not_found(format!("client {client:?} has no open stream to this proxy; see who has with: client list"))
}

async fn read(proxy: &Inner, request: &VerifyMessageRequest) -> Result<centaur_apis::v2::Message, Status> {
    let place = Place { queue: request.queue, offset: request.offset };
    let query = QueryMessagesRequest { topic: request.topic.clone(), by: Some(By::Place(place)), limit: 1 };
    let call = |mut store: Client| {
        let query = query.clone();
        async move { store.query_messages(query).await }
    };
    let found = proxy.stores.call(call).await?.messages;
    let message = convert::to_public(found, proxy.config.store_group.as_str())
        .map_err(|error| Status::from(Error::new(Reason::Damaged, format!("the message cannot be read: {error}"))))?;
    message.into_iter().next().ok_or_else(|| {
        let (topic, queue, offset) = (&request.topic, request.queue, request.offset);
        Error::new(Reason::MessageNotFound, format!("queue {queue} of topic {topic:?} has no message {offset}")).into()
    })
}

/// What the client said of it, in the words of the public contract; some say nothing.
fn said(answer: &Answer) -> String {
    answer.status.as_ref().map(|status| status.code().as_str_name().to_owned()).unwrap_or_default()
}
