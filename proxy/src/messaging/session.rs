//! Heartbeat and NotifyClientTermination: signs of a client's life and its last word.

use std::time::Duration;

use centaur_apis::{
    store::EndSessionRequest,
    v2::{
        ClientType, Code, HeartbeatRequest, HeartbeatResponse, NotifyClientTerminationRequest,
        NotifyClientTerminationResponse,
    },
};

use tokio::time::timeout;

use super::{lite, receive::too_many_clients};
use crate::{
    Inner,
    caller::Caller,
    refusal::{self, Refusal},
    sessions::Sign,
    stores::{Client, Stores},
    validate,
};

/// A client says goodbye while its last acks are still on their way, so what it holds stays with it
/// for a moment; source: public contract, auto-renew.
const LINGER_MS: u64 = 1_000;
/// How long a heartbeat waits for the store: clients wait 3 s for its answer.
const STORE_PATIENCE: Duration = Duration::from_millis(500);

/// Keeps a client alive. One without settings is taken at its heartbeat's word.
pub(crate) async fn heartbeat(
    proxy: &Inner,
    caller: &Caller<'_>,
    request: &HeartbeatRequest,
) -> Result<HeartbeatResponse, Refusal> {
    // Before the store is asked anything: how long it takes says nothing about the client.
    proxy.sessions.touch(caller.client, Sign::Active);
    let known = proxy.sessions.find(caller.client).map_or(ClientType::Unspecified, |session| session.kind());
    let kind = if known == ClientType::Unspecified { request.client_type() } else { known };
    let group = match kind {
        ClientType::Unspecified => {
            let text = format!("client_type is {}; give the type of this client", request.client_type);
            return Err(Refusal::new(Code::UnrecognizedClientType, text));
        }
        ClientType::Producer => "",
        ClientType::PushConsumer
        | ClientType::SimpleConsumer
        | ClientType::PullConsumer
        | ClientType::LitePushConsumer
        | ClientType::LiteSimpleConsumer => validate::group(request.group.as_ref())?,
    };
    if !group.is_empty() {
        // A store that is away or slow is no reason to call a living client dead.
        let stored = timeout(STORE_PATIENCE, proxy.routes.group(group)).await;
        lite::fits(kind, stored.ok().and_then(Result::ok).flatten().as_deref())?;
    }
    let Some(session) = proxy.sessions.enter(caller, Sign::Active) else { return Err(too_many_clients(proxy)) };
    if known == ClientType::Unspecified {
        session.introduce(kind, group);
    }
    Ok(HeartbeatResponse { status: Some(refusal::ok()) })
}

/// Forgets a client and makes what it holds visible to others, a moment later.
pub(crate) async fn terminate(
    proxy: &Inner,
    caller: &Caller<'_>,
    request: &NotifyClientTerminationRequest,
) -> Result<NotifyClientTerminationResponse, Refusal> {
    if request.group.as_ref().is_some_and(|group| !group.name.is_empty()) {
        validate::group(request.group.as_ref())?;
    }
    proxy.sessions.leave(caller.client);
    end(&proxy.stores, caller.client).await;
    Ok(NotifyClientTerminationResponse { status: Some(refusal::ok()) })
}

/// Tells the stores that a client is gone. If they cannot be told they find out by its silence.
pub(crate) async fn end(stores: &Stores, client: &str) {
    let request = EndSessionRequest { client: client.to_owned(), group: String::new(), linger_ms: LINGER_MS };
    let call = |mut store: Client| {
        let request = request.clone();
        async move { store.end_session(request).await }
    };
    if let Err(error) = stores.call(call).await {
        tracing::debug!(client, error = error.message, "session left to run out");
    }
}
