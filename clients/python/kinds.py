"""Messages of every kind: what makes a numbered message one of a kind, and how it is sent."""

import math
import time

import messages


def send(producer, arguments, number):
    """Sends message `number` as the kind whose turn it is; returns the fields of its step."""
    kind = arguments.turn("kinds", number, "normal")
    body_bytes = arguments.number("body_bytes", 0)
    message = messages.numbered(arguments.topic, arguments.prefix, number, body_bytes)
    transaction, fields = None, {"number": number}
    if kind == "fifo":
        message.message_group = arguments.turn("groups", number)
    elif kind == "delay":
        # This client knows whole seconds only.
        message.delivery_timestamp = math.ceil(time.time() + int(arguments.turn("delays_s", number)))
        fields["due_ms"] = message.delivery_timestamp * 1000
    elif kind == "priority":
        message.priority = int(arguments.turn("priorities", number))
    elif kind == "lite":
        message.lite_topic = arguments.turn("lites", number)
    elif kind == "transaction":
        transaction = producer.begin_transaction()
    elif kind != "normal":
        raise ValueError(f"there is no kind named {kind}")
    receipt = producer.send(message, transaction)
    if transaction is not None:
        transaction.commit()
    return {**fields, "id": receipt.message_id}
