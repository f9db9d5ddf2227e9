"""The two halves of an exchange between languages: send numbered messages, read messages of anybody."""

import time

import client
import kinds
import messages
from output import step, success

AWAIT_S = 6
INVISIBLE_S = 30


def send(arguments):
    with step("start"):
        producer = client.producer(arguments, [arguments.topic])
    first = arguments.number("first", 0)
    for number in range(first, first + arguments.number("count", 1)):
        with step("sent"):
            success("sent", **kinds.send(producer, arguments, number))
    with step("stop"):
        producer.shutdown()
    success("end")


def read(arguments):
    with step("start"):
        consumer = client.simple_consumer(arguments, AWAIT_S)
        success("ready")
    _read_all(arguments, consumer)


def read_lite(arguments):
    """The same for the lite topics in `subscribe`."""
    with step("start"):
        consumer = client.lite_simple_consumer(arguments, AWAIT_S)
    client.subscribe_lite(consumer, arguments)
    success("ready")
    _read_all(arguments, consumer)


def _read_all(arguments, consumer):
    deadline = time.monotonic() + arguments.number("timeout_s", 60)
    ids = set()
    while len(ids) < arguments.number("expect", 1) and time.monotonic() < deadline:
        with step("read"):
            received = consumer.receive(16, INVISIBLE_S) or []
        for message in received:
            with step("ack"):
                consumer.ack(message)
            ids.add(message.message_id)
            success("read", message=messages.fields(message))
    with step("stop"):
        consumer.shutdown()
    success("end", count=len(ids))
