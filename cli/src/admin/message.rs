//! `centaur message`: looks at messages without taking them from anybody.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use centaur_apis::{
    store::{
        Delivery, ListScheduledRequest, Place, QueryMessagesRequest, RecallRequest, Scheduled,
        query_messages_request::By,
    },
    v2::{Message, SystemProperties},
};
use clap::{Args, Subcommand};
use prost::Message as _;
use serde_json::{Value, json};

use crate::{
    admin::{self, Remote, times::time},
    exit::{Exit, Failure},
    output::{self, Output, Table},
};

/// Messages: find and look at, without consuming
#[derive(Args, Debug)]
pub(crate) struct Command {
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Show one message by its id
    Get {
        id: String,
        /// Topic it was sent to
        #[arg(short, long)]
        topic: String,
    },
    /// List messages of a topic
    #[command(alias = "ls")]
    List {
        topic: String,
        /// Only messages with this key
        #[arg(long, conflicts_with_all = ["from", "offset"])]
        key: Option<String>,
        /// Stored at or after: 30m (ago), 2026-05-01T12:00:00Z, or ms since 1970
        #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "offset")]
        from: Option<u64>,
        /// Only the one at this offset of --queue
        #[arg(long, value_name = "N", requires = "queue")]
        offset: Option<u64>,
        /// With --offset: the queue
        #[arg(long, value_name = "N", requires = "offset")]
        queue: Option<u32>,
        /// At most so many
        #[arg(long, default_value_t = 32)]
        limit: u32,
    },
    /// List messages that wait for their time, the next due first
    Delayed {
        /// Only of this topic
        #[arg(short, long, default_value = "")]
        topic: String,
        /// At most so many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Go on where a list before ended: what it named as the next
        #[arg(long, value_name = "PLACE", default_value = "")]
        after: String,
    },
    /// Take a delayed message back before it is delivered
    Recall {
        /// Its recall handle, as `message delayed` shows it
        handle: String,
        /// Topic it was sent to
        #[arg(short, long)]
        topic: String,
    },
}

/// Runs `centaur message`.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    let remote = &command.remote;
    match command.verb {
        Verb::Get { id, topic } => get(remote, id, topic).await,
        Verb::List { topic, key, from, offset, queue, limit } => {
            let by = match (key, queue, offset) {
                (Some(key), ..) => By::Key(key),
                (None, Some(queue), Some(offset)) => By::Place(Place { queue, offset }),
                _ => By::FromMs(from.unwrap_or(0)),
            };
            list(remote, QueryMessagesRequest { topic, by: Some(by), limit }).await
        }
        Verb::Delayed { topic, limit, after } => delayed(remote, ListScheduledRequest { topic, limit, after }).await,
        Verb::Recall { handle, topic } => recall(remote, RecallRequest { topic, ticket: handle }).await,
    }
}

async fn get(remote: &Remote, id: String, topic: String) -> Result<(), Failure> {
    let request = QueryMessagesRequest { topic: topic.clone(), by: Some(By::MessageId(id.clone())), limit: 1 };
    let (messages, _) = query(remote, request).await?;
    let Some(message) = messages.first() else {
        return Err(
            Failure::new(Exit::NotFound, format!("topic {topic} has no message {id}")).code("MESSAGE_NOT_FOUND")
        );
    };
    match remote.output {
        Output::Json => output::json(&message.json()),
        Output::Table => output::line(&message.card()),
    }
}

async fn list(remote: &Remote, request: QueryMessagesRequest) -> Result<(), Failure> {
    let (messages, complete) = query(remote, request).await?;
    let mut table = Table::new(&["STORED", "QUEUE", "OFFSET", "ID", "TAG", "KEYS", "SIZE", "BODY"]);
    for message in &messages {
        table.row(message.row());
    }
    let shown: Vec<Value> = messages.iter().map(Found::json).collect();
    remote.output.print(&table, &json!({ "messages": shown, "complete": complete }))?;
    if !complete && remote.output == Output::Table {
        eprintln!("{} shown, there may be more: raise --limit, or begin later with --from", messages.len());
    }
    Ok(())
}

async fn delayed(remote: &Remote, mut request: ListScheduledRequest) -> Result<(), Failure> {
    let mut client = remote.connect().await?;
    let mut table = Table::new(&["DUE", "TOPIC", "ID", "STORED", "SIZE", "RECALL-HANDLE"]);
    let mut shown = Vec::new();
    let wanted = request.limit as usize;
    let (total, next) = loop {
        request.limit = admin::page(wanted - shown.len());
        let answer = client.list_scheduled(request.clone()).await.map_err(|status| admin::failure(&status))?;
        let page = answer.into_inner();
        for message in page.messages {
            shown.push(scheduled_json(&message));
            table.row(scheduled_row(message));
        }
        if page.next.is_empty() || shown.len() >= wanted {
            break (page.total, page.next);
        }
        request.after = page.next;
    };
    let count = shown.len();
    remote.output.print(&table, &json!({ "messages": shown, "total": total, "next": admin::next_json(&next) }))?;
    admin::say_more(remote, count, total, "--after", &next);
    Ok(())
}

fn scheduled_row(message: Scheduled) -> Vec<String> {
    let Scheduled { topic, message_id, due_ms, stored_ms, body_bytes, ticket } = message;
    vec![output::time(due_ms), topic, message_id, output::time(stored_ms), body_bytes.to_string(), ticket]
}

fn scheduled_json(message: &Scheduled) -> Value {
    json!({
        "id": message.message_id,
        "topic": message.topic,
        "due": output::time_json(message.due_ms),
        "stored": output::time_json(message.stored_ms),
        "bytes": message.body_bytes,
        "recall_handle": message.ticket,
    })
}

async fn recall(remote: &Remote, request: RecallRequest) -> Result<(), Failure> {
    let answer = remote.connect().await?.recall(request).await.map_err(|status| admin::failure(&status))?;
    let id = answer.into_inner().message_id;
    remote.output.done(&format!("message {id} recalled"), &json!({ "id": id }))
}

async fn query(remote: &Remote, request: QueryMessagesRequest) -> Result<(Vec<Found>, bool), Failure> {
    let answer = remote.connect().await?.query_messages(request).await.map_err(|status| admin::failure(&status))?;
    let answer = answer.into_inner();
    let messages = answer.messages.into_iter().map(Found::read).collect::<Result<_, _>>()?;
    Ok((messages, answer.complete))
}

/// A message as it was stored.
struct Found {
    message: Message,
    system: SystemProperties,
    delivery: Delivery,
}

impl Found {
    fn read(delivery: Delivery) -> Result<Self, Failure> {
        let message = Message::decode(delivery.head.clone());
        let system = SystemProperties::decode(delivery.properties.clone());
        match (message, system) {
            (Ok(message), Ok(system)) => Ok(Self { message, system, delivery }),
            _ => {
                let (queue, offset) = (delivery.queue, delivery.offset);
                Err(Failure::new(Exit::Failed, format!("the message at queue {queue} offset {offset} cannot be read")))
            }
        }
    }

    fn row(&self) -> Vec<String> {
        const SHOWN: usize = 40;
        let body = self.body_text().map_or_else(|| "(binary)".to_owned(), |text| text.chars().take(SHOWN).collect());
        vec![
            output::time(self.delivery.stored_ms),
            self.delivery.queue.to_string(),
            self.offset().map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
            self.system.message_id.clone(),
            self.system.tag.clone().unwrap_or_default(),
            self.system.keys.join(","),
            self.delivery.body.len().to_string(),
            body.replace('\n', " "),
        ]
    }

    fn card(&self) -> String {
        let topic = self.message.topic.as_ref().map(|topic| topic.name.as_str()).unwrap_or_default();
        let properties: Vec<_> =
            self.message.user_properties.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let body = self.body_text().map_or_else(|| format!("(binary, base64) {}", self.body_base64()), str::to_owned);
        let rows = [
            ("id", self.system.message_id.clone()),
            ("topic", topic.to_owned()),
            ("place", self.place()),
            ("stored", output::time(self.delivery.stored_ms)),
            ("born", self.born()),
            ("tag", self.system.tag.clone().unwrap_or_default()),
            ("keys", self.system.keys.join(", ")),
            ("group", self.system.message_group.clone().unwrap_or_default()),
            ("lite topic", self.system.lite_topic.clone().unwrap_or_default()),
            ("origin", self.origin()),
            ("properties", properties.join(", ")),
            ("size", format!("{} bytes", self.delivery.body.len())),
        ];
        let lines: Vec<_> = rows
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name:<11}{value}"))
            .collect();
        format!("{}\n\n{body}", lines.join("\n"))
    }

    fn json(&self) -> Value {
        json!({
            "id": self.system.message_id,
            "topic": self.message.topic.as_ref().map(|topic| &topic.name),
            "queue": self.delivery.queue,
            "offset": self.offset().map(|offset| offset.to_string()),
            "stored": output::time_json(self.delivery.stored_ms),
            "born_host": self.system.born_host,
            "tag": self.system.tag,
            "keys": self.system.keys,
            "message_group": self.system.message_group,
            "lite_topic": self.system.lite_topic,
            "origin": self.system.dead_letter_queue.as_ref().map(|origin| {
                json!({ "topic": origin.topic, "id": origin.message_id })
            }),
            "properties": self.message.user_properties,
            "body": self.body_text(),
            "body_base64": self.body_text().is_none().then(|| self.body_base64()),
        })
    }

    /// Its offset, unless it had none when it was stored.
    fn offset(&self) -> Option<u64> {
        (!self.delivery.unplaced).then_some(self.delivery.offset)
    }

    fn place(&self) -> String {
        let queue = self.delivery.queue;
        match self.offset() {
            Some(offset) => format!("queue {queue} offset {offset}"),
            None => format!("queue {queue}, offset unknown: it was stored before it was due or committed"),
        }
    }

    /// Where a dead letter came from.
    fn origin(&self) -> String {
        let origin = self.system.dead_letter_queue.as_ref();
        origin.map(|origin| format!("{} {}", origin.topic, origin.message_id)).unwrap_or_default()
    }

    fn born(&self) -> String {
        let time = self.system.born_timestamp.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{time} {}", self.system.born_host).trim().to_owned()
    }

    fn body_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.delivery.body).ok()
    }

    fn body_base64(&self) -> String {
        STANDARD.encode(&self.delivery.body)
    }
}
