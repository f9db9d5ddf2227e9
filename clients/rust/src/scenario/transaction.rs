//! Transactions with the ends in `ends`, in turn: commit, rollback, open.
//!
//! An open one is left to the server, which asks until standard input says `stop`.

use rocketmq::model::transaction::Transaction;
use serde_json::json;

use crate::arguments::Arguments;
use crate::output::{InStep, StepFailed, StepResult, success};
use crate::{clients, input, messages};

pub async fn run(arguments: &Arguments) -> StepResult<()> {
    let report = |message: &_| success("checked", json!({ "message": messages::fields(message) }));
    let producer = clients::checked_producer(arguments, &[arguments.topic()], report).await.in_step("start")?;
    for (number, end) in arguments.words("ends", "commit,rollback,open").into_iter().enumerate() {
        let builder = messages::numbered(arguments.topic(), arguments.prefix(), number);
        let message = builder.enable_transaction().build().in_step("sent")?;
        let transaction = producer.send_transaction_message(message).await.in_step("sent")?;
        success("sent", json!({ "number": number, "id": transaction.message_id(), "end": end }));
        match end {
            "commit" => transaction.commit().await.in_step("commit")?,
            "rollback" => transaction.rollback().await.in_step("rollback")?,
            "open" => {}
            other => return Err(StepFailed::new("end", format!("a transaction cannot end with {other}"))),
        }
    }
    input::stopped().await;
    producer.shutdown().await.in_step("stop")?;
    success("end", json!({}));
    Ok(())
}
