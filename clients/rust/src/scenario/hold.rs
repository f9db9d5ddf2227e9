//! A simple consumer that takes messages one by one and keeps them, until it is given no more.
//!
//! Then it settles the first of them and looks for what that sets free.

use std::time::Duration;

use serde_json::json;

use crate::arguments::Arguments;
use crate::output::{InStep, StepFailed, StepResult, success};
use crate::{clients, messages};

const POLL: Duration = Duration::from_secs(6);
const INVISIBLE: Duration = Duration::from_secs(60);

pub async fn run(arguments: &Arguments) -> StepResult<()> {
    let consumer = clients::simple_consumer(arguments, POLL).await.in_step("start")?;
    let receive_one = async || clients::receive_up_to(&consumer, arguments.topic(), 1, INVISIBLE).await;
    let mut held = Vec::new();
    while let Some(message) = receive_one().await.in_step("held")?.pop() {
        success("held", json!({ "message": messages::fields(&message) }));
        held.push(message);
    }
    success("empty", json!({}));
    let first = held.first().ok_or_else(|| StepFailed::new("held", "nothing was received"))?;
    consumer.ack(first).await.in_step("ack")?;
    success("ack", json!({ "id": first.message_id() }));
    for message in receive_one().await.in_step("freed")? {
        success("freed", json!({ "message": messages::fields(&message) }));
    }
    consumer.shutdown().await.in_step("stop")?;
    success("end", json!({}));
    Ok(())
}
