//! Transactions with the ends in `ends`, in turn.
//!
//! Those named `open-…` are left to the server, which asks until standard input says `stop`; `open-unknown` is
//! settled by the second question only.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use rocketmq::model::message::MessageView;
use rocketmq::model::transaction::{Transaction, TransactionResolution};
use serde_json::json;

use crate::arguments::Arguments;
use crate::output::{InStep, StepFailed, StepResult, success};
use crate::{clients, input, messages};

const ENDS: &str = "commit,rollback,open-commit,open-rollback,open-unknown";

pub async fn run(arguments: &Arguments) -> StepResult<()> {
    let ends = arguments.words("ends", ENDS);
    let checker = checker(&ends);
    let producer = clients::checked_producer(arguments, &[arguments.topic()], checker).await.in_step("start")?;
    for (number, end) in ends.into_iter().enumerate() {
        let builder = messages::numbered(arguments.topic(), arguments.prefix(), number);
        let message = builder.enable_transaction().build().in_step("sent")?;
        let transaction = producer.send_transaction_message(message).await.in_step("sent")?;
        success("sent", json!({ "number": number, "id": transaction.message_id(), "end": end }));
        match end {
            "commit" => transaction.commit().await.in_step("commit")?,
            "rollback" => transaction.rollback().await.in_step("rollback")?,
            "open-commit" | "open-rollback" | "open-unknown" => {}
            other => return Err(StepFailed::new("end", format!("a transaction cannot end with {other}"))),
        }
    }
    input::stopped().await;
    producer.shutdown().await.in_step("stop")?;
    success("end", json!({}));
    Ok(())
}

/// Answers each question about a message, and counts those that were asked.
fn checker(ends: &[&str]) -> impl Fn(&MessageView) -> TransactionResolution + Send + Sync + use<> {
    let ends: Vec<String> = ends.iter().map(|end| (*end).to_owned()).collect();
    let asked = Mutex::new(HashMap::<usize, usize>::new());
    move |message| {
        success("checked", json!({ "message": messages::fields(message) }));
        let number = message.properties().get("number").and_then(|number| number.parse().ok()).unwrap_or(usize::MAX);
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        let before = asked.entry(number).or_default();
        *before += 1;
        match (ends.get(number).map(String::as_str), *before) {
            (Some("open-commit"), _) => TransactionResolution::COMMIT,
            (Some("open-rollback"), _) => TransactionResolution::ROLLBACK,
            (Some("open-unknown"), 2..) => TransactionResolution::COMMIT,
            _ => TransactionResolution::UNKNOWN,
        }
    }
}
