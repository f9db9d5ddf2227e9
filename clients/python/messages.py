"""The numbered test messages, the same in every language, and what a received one looks like in the output."""

import base64

from rocketmq import Message


def numbered(topic, prefix, number, body_bytes=0):
    """Message `number` of a run: text beyond ASCII everywhere, and every byte value in the odd bodies.

    A body that is shorter than `body_bytes` is filled up with every byte value in turn.
    """
    message = Message()
    message.topic = topic
    message.body = body(prefix, number, body_bytes)
    message.tag = f"tag-{number}"
    # Each assignment adds one key.
    message.keys = f"{prefix}-key-{number}"
    message.keys = f"{prefix}-schlüssel-{number}"
    message.add_property("number", str(number))
    message.add_property("sender", f"{prefix} Grüße 世界")
    return message


def body(prefix, number, body_bytes):
    text = f"{prefix}-{number}: Grüße, 世界, 🚀".encode()
    short = text + bytes(range(256)) if number % 2 == 1 else text
    return short + bytes(at % 256 for at in range(body_bytes - len(short)))


def fields(message):
    """Every field of a received message that a sender can set or a server must add."""
    return {
        "id": message.message_id,
        "body": base64.b64encode(message.body).decode(),
        "tag": message.tag,
        "keys": sorted(message.keys),
        "properties": dict(message.properties),
        "born_host": message.born_host,
        "attempt": message.delivery_attempt,
        "group": message.message_group,
        "due_ms": message.delivery_timestamp,
        "priority": message.priority,
        "lite_topic": message.lite_topic,
    }
