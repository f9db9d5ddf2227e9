//! One message there and back through a producer and a simple consumer. This client cannot extend a lease.

use std::time::{Duration, Instant};

use rocketmq::{Producer, SimpleConsumer};
use serde_json::json;

use crate::arguments::Arguments;
use crate::output::{InStep, StepFailed, StepResult, ms_since, success};
use crate::{clients, messages};

const INVISIBLE: Duration = Duration::from_secs(10);

pub async fn run(arguments: &Arguments) -> StepResult<()> {
    let starting = Instant::now();
    let producer = clients::producer(arguments, &[arguments.topic()]).await.in_step("start")?;
    success("start", json!({ "ms": ms_since(starting) }));
    send(arguments, &producer).await?;
    let poll = arguments.seconds("await_s", 12);
    let consumer = clients::simple_consumer(arguments, poll).await.in_step("consumer")?;
    receive_and_settle(arguments, &consumer).await?;
    receive_nothing(arguments, &consumer).await?;
    let stopping = Instant::now();
    consumer.shutdown().await.in_step("stop")?;
    producer.shutdown().await.in_step("stop")?;
    success("stop", json!({ "ms": ms_since(stopping) }));
    Ok(())
}

async fn send(arguments: &Arguments, producer: &Producer) -> StepResult<()> {
    let sending = Instant::now();
    let message = messages::numbered(arguments.topic(), arguments.prefix(), 0).build().in_step("send")?;
    let receipt = producer.send(message).await.in_step("send")?;
    success("send", json!({ "id": receipt.message_id(), "ms": ms_since(sending) }));
    Ok(())
}

async fn receive_and_settle(arguments: &Arguments, consumer: &SimpleConsumer) -> StepResult<()> {
    let received = clients::receive(consumer, arguments.topic(), INVISIBLE).await.in_step("receive")?;
    let [message] = received.as_slice() else {
        return Err(StepFailed::new("receive", format!("expected one message, got {}", received.len())));
    };
    success("receive", json!({ "message": messages::fields(message) }));
    consumer.ack(message).await.in_step("ack")?;
    success("ack", json!({}));
    Ok(())
}

async fn receive_nothing(arguments: &Arguments, consumer: &SimpleConsumer) -> StepResult<()> {
    let waiting = Instant::now();
    let received = clients::receive(consumer, arguments.topic(), INVISIBLE).await.in_step("empty")?;
    success("empty", json!({ "ms": ms_since(waiting), "count": received.len() }));
    Ok(())
}
