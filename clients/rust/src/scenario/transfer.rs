//! The two halves of an exchange between languages: send numbered messages, read messages of anybody.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::arguments::Arguments;
use crate::output::{InStep, StepResult, success};
use crate::{clients, kinds, messages};

const POLL: Duration = Duration::from_secs(6);
const INVISIBLE: Duration = Duration::from_secs(30);

pub async fn send(arguments: &Arguments) -> StepResult<()> {
    let producer = clients::producer(arguments, &[arguments.topic()]).await.in_step("start")?;
    let first = arguments.number("first", 0);
    for number in first..first + arguments.number("count", 1) {
        success("sent", kinds::send_in_turn(arguments, &producer, number).await?);
    }
    producer.shutdown().await.in_step("stop")?;
    success("end", json!({}));
    Ok(())
}

pub async fn read(arguments: &Arguments) -> StepResult<()> {
    let consumer = clients::simple_consumer(arguments, POLL).await.in_step("start")?;
    success("ready", json!({}));
    let deadline = Instant::now() + arguments.seconds("timeout_s", 60);
    let mut ids = HashSet::new();
    while ids.len() < arguments.number("expect", 1) && Instant::now() < deadline {
        for message in clients::receive(&consumer, arguments.topic(), INVISIBLE).await.in_step("read")? {
            consumer.ack(&message).await.in_step("ack")?;
            ids.insert(message.message_id().to_owned());
            success("read", json!({ "message": messages::fields(&message) }));
        }
    }
    consumer.shutdown().await.in_step("stop")?;
    success("end", json!({ "count": ids.len() }));
    Ok(())
}
