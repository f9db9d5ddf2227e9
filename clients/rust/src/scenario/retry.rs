//! A simple consumer that lets the lease of a message run out, takes it again, and acknowledges it.
//!
//! This client cannot give a message back sooner.

use std::time::Duration;

use rocketmq::SimpleConsumer;
use rocketmq::model::message::MessageView;
use serde_json::json;

use crate::arguments::Arguments;
use crate::output::{InStep, StepFailed, StepResult, success};
use crate::{clients, messages};

/// Longer than the lease.
const POLL: Duration = Duration::from_secs(15);
const INVISIBLE: Duration = Duration::from_secs(10);

pub async fn run(arguments: &Arguments) -> StepResult<()> {
    let consumer = clients::simple_consumer(arguments, POLL).await.in_step("start")?;
    attempt(arguments, &consumer).await?;
    let second = attempt(arguments, &consumer).await?;
    consumer.ack(&second).await.in_step("ack")?;
    success("ack", json!({}));
    consumer.shutdown().await.in_step("stop")?;
    success("end", json!({}));
    Ok(())
}

async fn attempt(arguments: &Arguments, consumer: &SimpleConsumer) -> StepResult<MessageView> {
    let received = clients::receive_up_to(consumer, arguments.topic(), 1, INVISIBLE).await.in_step("attempt")?;
    let message = received.into_iter().next().ok_or_else(|| StepFailed::new("attempt", "nothing was received"))?;
    success("attempt", json!({ "message": messages::fields(&message) }));
    Ok(message)
}
