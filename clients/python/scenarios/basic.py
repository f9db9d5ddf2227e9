"""One message there and back through a producer and a simple consumer, every call once."""

import time

import client
import messages
from output import ms_since, step, success

INVISIBLE_S = 10
EXTENDED_S = 60


def run(arguments):
    with step("start"):
        start = time.monotonic()
        producer = client.producer(arguments, [arguments.topic])
        success("start", ms=ms_since(start))
    with step("send"):
        start = time.monotonic()
        receipt = producer.send(messages.numbered(arguments.topic, arguments.prefix, 0))
        success("send", id=receipt.message_id, ms=ms_since(start))
    with step("consumer"):
        consumer = client.simple_consumer(arguments, arguments.number("await_s", 12))
    message = _receive_and_extend(consumer)
    with step("empty"):
        start = time.monotonic()
        nothing = consumer.receive(16, INVISIBLE_S)
        success("empty", ms=ms_since(start), count=len(nothing or []))
    with step("ack"):
        consumer.ack(message)
        success("ack")
    with step("stop"):
        start = time.monotonic()
        consumer.shutdown()
        producer.shutdown()
        success("stop", ms=ms_since(start))


def _receive_and_extend(consumer):
    with step("receive"):
        received = consumer.receive(16, INVISIBLE_S)
        if len(received or []) != 1:
            raise ValueError(f"expected one message, got {len(received or [])}")
        message = received[0]
        success("receive", message=messages.fields(message))
    with step("extend"):
        consumer.change_invisible_duration(message, EXTENDED_S)
        success("extend")
    return message
