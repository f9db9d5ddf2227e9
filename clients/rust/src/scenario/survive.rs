//! Sends and consumes until standard input says `stop`, whatever becomes of the server meanwhile.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rocketmq::{Producer, SimpleConsumer};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::arguments::Arguments;
use crate::output::{InStep, StepResult, success};
use crate::{clients, input, messages};

const PAUSE: Duration = Duration::from_millis(20);
const POLL: Duration = Duration::from_secs(6);
const INVISIBLE: Duration = Duration::from_secs(15);

type Ids = Arc<Mutex<HashSet<String>>>;

pub async fn run(arguments: &Arguments) -> StepResult<()> {
    let producer = clients::producer(arguments, &[arguments.topic()]).await.in_step("start")?;
    let consumer = clients::simple_consumer(arguments, POLL).await.in_step("consumer")?;
    success("ready", json!({}));
    let taken = Ids::default();
    let consuming = tokio::spawn(consume(Arc::new(consumer), arguments.topic().to_owned(), Arc::clone(&taken)));
    let sent = send_until_stopped(arguments, Arc::new(producer)).await;
    let deadline = Instant::now() + arguments.seconds("drain_s", 60);
    while !with(&taken, |taken| sent.is_subset(taken)) && Instant::now() < deadline {
        sleep(PAUSE).await;
    }
    consuming.abort();
    success("end", json!({ "sent": sent.len(), "acked": with(&taken, |taken| taken.len()) }));
    Ok(())
}

async fn send_until_stopped(arguments: &Arguments, producer: Arc<Producer>) -> HashSet<String> {
    let stopped = stop_signal();
    let mut sent = HashSet::new();
    for number in 0.. {
        if *stopped.borrow() {
            break;
        }
        match send_one(arguments, &producer, number).await {
            Ok(id) => {
                success("sent", json!({ "id": id }));
                sent.insert(id);
            }
            Err(error) => retry(error),
        }
        sleep(PAUSE).await;
    }
    sent
}

/// This client panics where it cannot reach the server, so every call is a task of its own.
async fn send_one(arguments: &Arguments, producer: &Arc<Producer>, number: usize) -> Result<String, String> {
    let message = messages::numbered(arguments.topic(), arguments.prefix(), number).build();
    let message = message.map_err(|error| error.to_string())?;
    let producer = Arc::clone(producer);
    let sent = tokio::spawn(async move { producer.send(message).await });
    let receipt = sent.await.map_err(|panic| panic.to_string())?.map_err(|error| error.to_string())?;
    Ok(receipt.message_id().to_owned())
}

async fn consume(consumer: Arc<SimpleConsumer>, topic: String, taken: Ids) {
    loop {
        let round = tokio::spawn(take_once(Arc::clone(&consumer), topic.clone(), Arc::clone(&taken)));
        let result = round.await.map_err(|panic| panic.to_string()).and_then(|result| result);
        if let Err(error) = result {
            retry(error);
            sleep(PAUSE).await;
        }
    }
}

async fn take_once(consumer: Arc<SimpleConsumer>, topic: String, taken: Ids) -> Result<(), String> {
    let received = clients::receive(&consumer, &topic, INVISIBLE).await.map_err(|error| error.to_string())?;
    for message in received {
        // Whether an ack that failed was heard is unknown: what was received counts.
        success("acked", json!({ "id": message.message_id() }));
        with(&taken, |taken| taken.insert(message.message_id().to_owned()));
        consumer.ack(&message).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Becomes true when standard input says `stop` or ends.
fn stop_signal() -> watch::Receiver<bool> {
    let (tell, stopped) = watch::channel(false);
    tokio::spawn(async move {
        input::stopped().await;
        tell.send_replace(true);
    });
    stopped
}

fn with<T>(ids: &Ids, look: impl FnOnce(&mut HashSet<String>) -> T) -> T {
    look(&mut ids.lock().unwrap_or_else(PoisonError::into_inner))
}

fn retry(error: impl Display) {
    success("retry", json!({ "error": error.to_string() }));
}
