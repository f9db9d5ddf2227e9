"""Sends and consumes until standard input says `stop`, whatever becomes of the server meanwhile.

It consumes with a push consumer, or with `consume=simple` with a simple one.
"""

import itertools
import threading
import time

from rocketmq import ConsumeResult

import client
import messages
import standard_input
from output import step, success

PAUSE_S = 0.02
AWAIT_S = 6
INVISIBLE_S = 15


def run(arguments):
    taken = set()
    with step("start"):
        producer = client.producer(arguments, [arguments.topic])
    with step("consumer"):
        consumer = _consumer(arguments, taken)
    success("ready")
    sent = _send_until_stopped(arguments, producer)
    deadline = time.monotonic() + arguments.number("drain_s", 60)
    while not sent <= taken and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
    success("end", sent=len(sent), acked=len(taken))
    with step("stop"):
        consumer.shutdown()
        producer.shutdown()


def _consumer(arguments, taken):
    """A consumer that adds the id of each message that it has consumed to `taken`."""

    def take(message):
        success("acked", id=message.message_id)
        taken.add(message.message_id)
        return ConsumeResult.SUCCESS

    if arguments.settings.get("consume", "push") == "push":
        return client.push_consumer(arguments, take)
    consumer = client.simple_consumer(arguments, AWAIT_S)
    threading.Thread(target=_receive, args=(consumer, take), daemon=True).start()
    return consumer


def _receive(consumer, take):
    while True:
        try:
            for message in consumer.receive(16, INVISIBLE_S) or []:
                # Whether an ack that failed was heard is unknown: what was received counts.
                take(message)
                consumer.ack(message)
        except Exception as error:
            success("retry", error=f"{type(error).__name__}: {error}")
            time.sleep(PAUSE_S)


def _send_until_stopped(arguments, producer):
    stopped = threading.Event()
    threading.Thread(target=_await_stop, args=(stopped,), daemon=True).start()
    sent = set()
    for number in itertools.count():
        try:
            receipt = producer.send(messages.numbered(arguments.topic, arguments.prefix, number))
            sent.add(receipt.message_id)
            success("sent", id=receipt.message_id)
        except Exception as error:
            success("retry", error=f"{type(error).__name__}: {error}")
        if stopped.wait(PAUSE_S):
            return sent


def _await_stop(stopped):
    standard_input.await_stop()
    stopped.set()
