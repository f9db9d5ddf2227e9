//! Sending to a topic that does not exist must fail at once; the text holds the code.

use std::time::Instant;

use serde_json::json;

use crate::arguments::Arguments;
use crate::output::{InStep, StepFailed, StepResult, ms_since, success};
use crate::{clients, messages};

pub async fn run(arguments: &Arguments) -> StepResult<()> {
    let producer = clients::producer(arguments, &[]).await.in_step("start")?;
    let message = messages::numbered(arguments.topic(), arguments.prefix(), 0).build().in_step("unknown")?;
    let sending = Instant::now();
    match producer.send(message).await {
        Ok(_) => Err(StepFailed::new("unknown", "the message was accepted")),
        Err(expected) => {
            success("unknown", json!({ "ms": ms_since(sending), "text": expected.to_string() }));
            Ok(())
        }
    }
}
