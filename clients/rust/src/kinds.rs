//! Messages of every kind this client knows: what makes a numbered message one of a kind, and how it is sent.

use std::time::{SystemTime, UNIX_EPOCH};

use rocketmq::Producer;
use rocketmq::model::transaction::Transaction;
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::messages;
use crate::output::{InStep, StepFailed, StepResult};

const STEP: &str = "sent";

/// Sends message `number` as the kind whose turn it is; returns the fields of its step.
pub async fn send_in_turn(arguments: &Arguments, producer: &Producer, number: usize) -> StepResult<Value> {
    let body_bytes = arguments.number("body_bytes", 0);
    let mut builder = messages::numbered_with(arguments.topic(), arguments.prefix(), number, body_bytes);
    let mut due_ms = None;
    match arguments.turn("kinds", number, "normal") {
        "normal" => {}
        "fifo" => builder = builder.set_message_group(arguments.turn("groups", number, "")),
        "delay" => {
            let due_s = due_s(arguments.turn("delays_s", number, "").parse().in_step(STEP)?);
            builder = builder.set_delivery_timestamp(due_s);
            due_ms = Some(due_s * 1000);
        }
        "transaction" => {
            let message = builder.enable_transaction().build().in_step(STEP)?;
            let transaction = producer.send_transaction_message(message).await.in_step(STEP)?;
            let id = transaction.message_id().to_owned();
            transaction.commit().await.in_step(STEP)?;
            return Ok(json!({ "number": number, "id": id }));
        }
        other => return Err(StepFailed::new(STEP, format!("this client does not know the kind {other}"))),
    }
    let receipt = producer.send(builder.build().in_step(STEP)?).await.in_step(STEP)?;
    Ok(json!({ "number": number, "id": receipt.message_id(), "due_ms": due_ms }))
}

/// The whole second `delay_s` from now, or the next one: this client knows no parts of seconds.
fn due_s(delay_s: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_add(1).saturating_add(delay_s)
}
