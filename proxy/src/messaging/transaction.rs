//! EndTransaction: what becomes of a half message.

use centaur_apis::{
    log::Resolution,
    store,
    v2::{Code, EndTransactionRequest, EndTransactionResponse, TransactionResolution},
};

use crate::{
    Inner,
    caller::Caller,
    refusal::{self, Refusal},
    sessions::Sign,
    validate,
};

/// Decides a transaction. The first decision stands, and a later one is told that all is well.
pub(crate) async fn end(
    proxy: &Inner,
    caller: &Caller<'_>,
    request: EndTransactionRequest,
) -> Result<EndTransactionResponse, Refusal> {
    proxy.sessions.touch(caller.client, Sign::Seen);
    let topic = validate::topic(request.topic.as_ref())?.to_owned();
    if request.transaction_id.trim().is_empty() {
        let text = "transaction_id is blank; give the one that came with the answer to the send";
        return Err(Refusal::new(Code::InvalidTransactionId, text));
    }
    let resolution = match request.resolution() {
        TransactionResolution::Commit => Resolution::Committed,
        TransactionResolution::Rollback => Resolution::RolledBack,
        // The producer does not know either: it is asked again.
        TransactionResolution::Unspecified => return Ok(EndTransactionResponse { status: Some(refusal::ok()) }),
    };
    let end = store::EndTransactionRequest {
        topic,
        ticket: request.transaction_id,
        message_id: request.message_id,
        resolution: resolution.into(),
    };
    proxy.stores.end_transaction(end).await?;
    Ok(EndTransactionResponse { status: Some(refusal::ok()) })
}
