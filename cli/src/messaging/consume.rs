//! `centaur consume`: receives messages through the public API, and acknowledges them.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use centaur_apis::v2::{
    AckMessageEntry, AckMessageRequest, ClientType, Code, FilterExpression, FilterType, HeartbeatRequest,
    LiteSubscriptionAction, Message, MessageQueue, NotifyClientTerminationRequest, QueryRouteRequest,
    ReceiveMessageRequest, Settings, Subscription, SubscriptionEntry, SyncLiteSubscriptionRequest,
    receive_message_response::Content, settings::PubSub,
};
use clap::Args;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout_at};

use crate::{
    admin,
    config::values,
    exit::{Exit, Failure},
    messaging::{self, CALL_TIMEOUT, Client, Remote, progress::Progress},
    output::{self, Output},
};

/// How long one receive waits on the server.
const POLL: Duration = Duration::from_secs(20);
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);

/// An empty answer that comes sooner was not waited for.
const POLL_MIN: Duration = Duration::from_secs(1);

/// Between two tries to reach a server that went away.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// Receive messages of a consumer group and print their bodies, one per line
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  centaur consume hello --group demo              everything there is, then end
  centaur consume hello --group demo --follow     go on until Ctrl-C
  centaur consume orders --group audit --filter 'paid || sent' -o json
  centaur consume orders --group large --sql \"amount > 1000 AND country IN ('FR', 'IT')\"")]
pub(crate) struct Command {
    topic: String,
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Consumer group
    #[arg(short, long, default_value = "centaur-cli")]
    group: String,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Wait for more messages until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Without --follow: end when nothing came for so long
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "2s")]
    wait: Duration,
    /// Do not acknowledge: messages come again after --invisible
    #[arg(long)]
    no_ack: bool,
    /// Only messages with one of these tags, such as 'a || b'
    #[arg(long, value_name = "TAGS", default_value = "*")]
    filter: String,
    /// Subscribe to this lite topic; for groups bound to a topic of type lite; may be given again
    #[arg(long, value_name = "NAME")]
    lite_topic: Vec<String>,
    /// Only messages whose properties meet this condition in SQL92, such as "a > 5 AND b = 'x'"
    #[arg(long, value_name = "CONDITION", conflicts_with = "filter")]
    sql: Option<String>,
    /// Messages asked for at a time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(i32).range(1..=32))]
    batch: i32,
    /// How long a message is hidden from others until it is acknowledged
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "30s")]
    invisible: Duration,
    /// Print no bodies, only the summary
    #[arg(short, long)]
    quiet: bool,
}

/// Runs `centaur consume`.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    let mut client = command.remote.connect().await?;
    let queue = find_queue(&mut client, &command.topic).await?;
    let _session = client.introduce(command.settings()).await?;
    if !command.lite_topic.is_empty() {
        subscribe_lite(&mut client, &command).await?;
    }
    let mut progress = Progress::begin(command.count);
    let outcome = {
        let mut beats = interval(HEARTBEAT_INTERVAL);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let receiving = receive_all(client.clone(), &command, &queue, &mut progress);
        let mut receiving = std::pin::pin!(receiving);
        loop {
            tokio::select! {
                outcome = receiving.as_mut() => break outcome,
                _ = tokio::signal::ctrl_c() => break Ok(()),
                _ = beats.tick() => heartbeat(client.clone(), &command),
            }
        }
    };
    terminate(&mut client, &command.group).await;
    let (line, json) = progress.finish("received");
    match command.remote.output {
        Output::Table => eprintln!("{line}"),
        Output::Json => output::json(&json!({ "summary": json }))?,
    }
    outcome
}

impl Command {
    fn settings(&self) -> Settings {
        let entry =
            SubscriptionEntry { topic: Some(messaging::resource(&self.topic)), expression: Some(self.expression()) };
        let subscription = Subscription {
            group: Some(messaging::resource(&self.group)),
            subscriptions: vec![entry],
            ..Subscription::default()
        };
        Settings {
            client_type: Some(self.kind().into()),
            pub_sub: Some(PubSub::Subscription(subscription)),
            ..Settings::default()
        }
    }

    fn kind(&self) -> ClientType {
        if self.lite_topic.is_empty() { ClientType::SimpleConsumer } else { ClientType::LiteSimpleConsumer }
    }

    fn expression(&self) -> FilterExpression {
        let (kind, expression) = match &self.sql {
            Some(condition) => (FilterType::Sql, condition),
            None => (FilterType::Tag, &self.filter),
        };
        FilterExpression { r#type: kind.into(), expression: expression.clone() }
    }

    /// How many messages to ask for now; 0 when enough came.
    fn wanted(&self, received: u64) -> i32 {
        let left = self.count.map_or(u64::MAX, |count| count.saturating_sub(received));
        i32::try_from(left).unwrap_or(i32::MAX).min(self.batch)
    }
}

async fn find_queue(client: &mut Client, topic: &str) -> Result<MessageQueue, Failure> {
    let request = QueryRouteRequest { topic: Some(messaging::resource(topic)), endpoints: Some(client.endpoints()) };
    let request = client.request(request, CALL_TIMEOUT);
    let answer = client.service.query_route(request).await.map_err(|status| admin::failure(&status))?.into_inner();
    messaging::check(answer.status.as_ref())?;
    let first = answer.message_queues.into_iter().next();
    first.ok_or_else(|| Failure::new(Exit::Failed, format!("topic {topic} has no queue")))
}

async fn receive_all(
    mut client: Client,
    command: &Command,
    queue: &MessageQueue,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut until = tokio::time::Instant::now() + command.wait;
    loop {
        let wanted = command.wanted(progress.count());
        if wanted == 0 {
            return Ok(());
        }
        let receiving = receive(&mut client, command, queue, wanted);
        let began = Instant::now();
        let messages = if command.follow {
            match receiving.await {
                Err(failure) if failure.exit == Exit::Unreachable => {
                    // It restarts, or another takes its place: the connection comes back by itself.
                    sleep(RECONNECT_PAUSE).await;
                    continue;
                }
                received => received?,
            }
        } else {
            match timeout_at(until, receiving).await {
                Ok(messages) => messages?,
                Err(_) => return Ok(()),
            }
        };
        let latency = began.elapsed();
        if messages.is_empty() {
            if latency < POLL_MIN {
                // The server does not let anybody wait: it is about to go.
                sleep(RECONNECT_PAUSE).await;
            }
            continue;
        }
        for message in &messages {
            progress.done(message.body.len(), latency);
            if !command.quiet {
                show(command.remote.output, message)?;
            }
        }
        if !command.no_ack {
            acknowledge(&mut client, command, &messages).await?;
        }
        until = tokio::time::Instant::now() + command.wait;
    }
}

async fn receive(
    client: &mut Client,
    command: &Command,
    queue: &MessageQueue,
    batch_size: i32,
) -> Result<Vec<Message>, Failure> {
    let request = ReceiveMessageRequest {
        group: Some(messaging::resource(&command.group)),
        message_queue: Some(queue.clone()),
        filter_expression: Some(command.expression()),
        batch_size,
        invisible_duration: prost_types::Duration::try_from(command.invisible).ok(),
        auto_renew: false,
        long_polling_timeout: prost_types::Duration::try_from(POLL).ok(),
        attempt_id: None,
    };
    let request = client.request(request, POLL + CALL_TIMEOUT);
    let mut frames =
        client.service.receive_message(request).await.map_err(|status| admin::failure(&status))?.into_inner();
    let mut messages = Vec::new();
    while let Some(frame) = frames.message().await.map_err(|status| admin::failure(&status))? {
        match frame.content {
            Some(Content::Message(message)) => messages.push(message),
            Some(Content::Status(status)) if status.code() != Code::MessageNotFound => messaging::check(Some(&status))?,
            Some(Content::Status(_) | Content::DeliveryTimestamp(_)) | None => {}
        }
    }
    Ok(messages)
}

async fn acknowledge(client: &mut Client, command: &Command, messages: &[Message]) -> Result<(), Failure> {
    let entry = |message: &Message| {
        let system = message.system_properties.clone().unwrap_or_default();
        AckMessageEntry {
            message_id: system.message_id,
            receipt_handle: system.receipt_handle.unwrap_or_default(),
            lite_topic: None,
        }
    };
    let request = AckMessageRequest {
        group: Some(messaging::resource(&command.group)),
        topic: Some(messaging::resource(&command.topic)),
        entries: messages.iter().map(entry).collect(),
    };
    let request = client.request(request, CALL_TIMEOUT);
    let answer = client.service.ack_message(request).await.map_err(|status| admin::failure(&status))?.into_inner();
    messaging::check(answer.status.as_ref())
}

/// Says which lite topics the client consumes.
async fn subscribe_lite(client: &mut Client, command: &Command) -> Result<(), Failure> {
    let request = client.request(lite_request(command, LiteSubscriptionAction::PartialAdd), CALL_TIMEOUT);
    let answer = client.service.sync_lite_subscription(request).await.map_err(|status| admin::failure(&status))?;
    messaging::check(answer.into_inner().status.as_ref())
}

fn lite_request(command: &Command, action: LiteSubscriptionAction) -> SyncLiteSubscriptionRequest {
    SyncLiteSubscriptionRequest {
        action: action.into(),
        topic: Some(messaging::resource(&command.topic)),
        group: Some(messaging::resource(&command.group)),
        lite_topic_set: command.lite_topic.clone(),
        ..Default::default()
    }
}

/// Says that the client lives and what it consumes, beside what it is doing.
fn heartbeat(mut client: Client, command: &Command) {
    let request =
        HeartbeatRequest { group: Some(messaging::resource(&command.group)), client_type: command.kind().into() };
    let lite = lite_request(command, LiteSubscriptionAction::CompleteAdd);
    // A lost one is made up for by the next.
    tokio::spawn(async move {
        let beat = client.service.heartbeat(client.request(request, CALL_TIMEOUT)).await.map(drop);
        if !lite.lite_topic_set.is_empty() {
            client.service.sync_lite_subscription(client.request(lite, CALL_TIMEOUT)).await?;
        }
        beat
    });
}

/// Says good-bye, so that nothing waits for this client.
async fn terminate(client: &mut Client, group: &str) {
    let request = NotifyClientTerminationRequest { group: Some(messaging::resource(group)) };
    let request = client.request(request, CALL_TIMEOUT);
    // The server would find out by itself a little later.
    let _ = client.service.notify_client_termination(request).await;
}

fn show(output: Output, message: &Message) -> Result<(), Failure> {
    match output {
        Output::Table => output::body(&message.body),
        Output::Json => output::json(&message_json(message)),
    }
}

fn message_json(message: &Message) -> Value {
    let system = message.system_properties.clone().unwrap_or_default();
    let text = std::str::from_utf8(&message.body).ok();
    json!({
        "id": system.message_id,
        "topic": message.topic.as_ref().map(|topic| &topic.name),
        "queue": system.queue_id,
        "offset": system.queue_offset.map(|offset| offset.to_string()),
        "attempt": system.delivery_attempt,
        "stored": system.store_timestamp.as_ref().map(ToString::to_string),
        "tag": system.tag,
        "keys": system.keys,
        "message_group": system.message_group,
        "lite_topic": system.lite_topic,
        "properties": message.user_properties,
        "body": text,
        "body_base64": text.is_none().then(|| STANDARD.encode(&message.body)),
    })
}
