"""Delayed messages are recalled: one in time, the same once more, and one when it has been delivered."""

import math
import time

import client
import messages
import standard_input
from output import StepFailed, step, success

LONG_S, SHORT_S = 20, 2


def run(arguments):
    with step("start"):
        producer = client.producer(arguments, [arguments.topic])
    handle = _send(producer, arguments, 0, LONG_S)
    with step("recalled"):
        success("recalled", id=producer.recall_message(arguments.topic, handle))
    with step("again"):
        success("again", id=producer.recall_message(arguments.topic, handle))
    handle = _send(producer, arguments, 1, SHORT_S)
    # The runner says so when somebody has received it.
    standard_input.await_stop()
    _recall_too_late(producer, arguments, handle)
    with step("stop"):
        producer.shutdown()
    success("end")


def _send(producer, arguments, number, delay_s):
    """Sends a message that is due in `delay_s`; returns its recall handle."""
    with step("sent"):
        message = messages.numbered(arguments.topic, arguments.prefix, number)
        # This client knows whole seconds only.
        message.delivery_timestamp = math.ceil(time.time() + delay_s)
        receipt = producer.send(message)
        success("sent", number=number, id=receipt.message_id, due_ms=message.delivery_timestamp * 1000)
        return receipt.recall_handle


def _recall_too_late(producer, arguments, handle):
    try:
        producer.recall_message(arguments.topic, handle)
    except Exception as expected:
        success("late", text=str(expected))
        return
    raise StepFailed("late") from AssertionError("the message was recalled")
