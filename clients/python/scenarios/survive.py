"""Sends and consumes until standard input says `stop`, whatever becomes of the server meanwhile."""

import itertools
import threading
import time

from rocketmq import ConsumeResult

import client
import messages
import standard_input
from output import step, success

PAUSE_S = 0.02


def run(arguments):
    taken = set()

    def take(message):
        success("acked", id=message.message_id)
        taken.add(message.message_id)
        return ConsumeResult.SUCCESS

    with step("start"):
        producer = client.producer(arguments, [arguments.topic])
    with step("consumer"):
        consumer = client.push_consumer(arguments, take)
    success("ready")
    sent = _send_until_stopped(arguments, producer)
    deadline = time.monotonic() + arguments.number("drain_s", 60)
    while not sent <= taken and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
    success("end", sent=len(sent), acked=len(taken))
    with step("stop"):
        consumer.shutdown()
        producer.shutdown()


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
