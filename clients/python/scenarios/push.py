"""A push consumer whose listener fails the first attempt and takes the second."""

import itertools
import threading

from rocketmq import ConsumeResult

import client
import messages
from output import step, success


def run(arguments):
    calls = itertools.count(1)
    taken = threading.Event()

    def take(message):
        first = next(calls) == 1
        success("attempt", message=messages.fields(message))
        if first:
            return ConsumeResult.FAILURE
        taken.set()
        return ConsumeResult.SUCCESS

    with step("start"):
        producer = client.producer(arguments, [arguments.topic])
    with step("consumer"):
        consumer = client.push_consumer(arguments, take)
    with step("send"):
        receipt = producer.send(messages.numbered(arguments.topic, arguments.prefix, 0))
        success("send", id=receipt.message_id)
    with step("attempt"):
        timeout_s = arguments.number("timeout_s", 60)
        if not taken.wait(timeout_s):
            raise TimeoutError(f"the listener was called {next(calls) - 1} times in {timeout_s} s")
    with step("stop"):
        consumer.shutdown()
        producer.shutdown()
    success("end")
