"""Sending to a topic that does not exist must fail at once.

This client hides the code from its caller and tells it only to its log, so the log is part of the result.
"""

import logging
import time

import client
import messages
from output import StepFailed, ms_since, step, success


def run(arguments):
    remembered = _Remembered()
    logging.getLogger("rocketmq-python-client").addHandler(remembered)
    with step("start"):
        producer = client.producer(arguments, [])
    start = time.monotonic()
    try:
        producer.send(messages.numbered(arguments.topic, arguments.prefix, 0))
    except Exception as expected:
        success("unknown", ms=ms_since(start), text="; ".join([str(expected), *remembered.errors]))
        return
    raise StepFailed("unknown") from AssertionError("the message was accepted")


class _Remembered(logging.Handler):
    """Keeps the errors that the client logs."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.errors = []

    def emit(self, record):
        self.errors.append(record.getMessage())
