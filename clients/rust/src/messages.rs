//! The numbered test messages, the same in every language, and what a received one looks like in the output.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rocketmq::model::message::{MessageBuilder, MessageView};
use serde_json::{Value, json};

/// Message `number` of a run: text beyond ASCII everywhere, and every byte value in the odd bodies.
pub fn numbered(topic: &str, prefix: &str, number: usize) -> MessageBuilder {
    numbered_with(topic, prefix, number, 0)
}

/// The same; a body that is shorter than `body_bytes` is filled up with every byte value in turn.
pub fn numbered_with(topic: &str, prefix: &str, number: usize, body_bytes: usize) -> MessageBuilder {
    MessageBuilder::builder()
        .set_topic(topic)
        .set_body(body(prefix, number, body_bytes))
        .set_tag(format!("tag-{number}"))
        .set_keys(vec![format!("{prefix}-key-{number}"), format!("{prefix}-schlüssel-{number}")])
        .set_properties(HashMap::from([
            ("number".to_owned(), number.to_string()),
            ("sender".to_owned(), format!("{prefix} Grüße 世界")),
        ]))
}

fn body(prefix: &str, number: usize, body_bytes: usize) -> Vec<u8> {
    let mut body = format!("{prefix}-{number}: Grüße, 世界, 🚀").into_bytes();
    if number % 2 == 1 {
        body.extend(0..=u8::MAX);
    }
    let missing = body_bytes.saturating_sub(body.len());
    body.extend((0..=u8::MAX).cycle().take(missing));
    body
}

/// Every field of a received message that a sender can set or a server must add, as far as this client shows it.
pub fn fields(message: &MessageView) -> Value {
    json!({
        "id": message.message_id(),
        "body": STANDARD.encode(message.body()),
        "tag": message.tag(),
        "keys": message.keys(),
        "properties": message.properties(),
        "born_host": message.born_host(),
        "attempt": message.delivery_attempt(),
        "group": message.message_group(),
        "due_ms": message.delivery_timestamp().map(|seconds| seconds * 1000),
    })
}
