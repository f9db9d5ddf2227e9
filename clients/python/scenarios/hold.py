"""A simple consumer that takes messages one by one and keeps them, until it is given no more.

Then it settles the first of them and looks for what that sets free.
"""

import client
import messages
from output import StepFailed, step, success

AWAIT_S = 6
INVISIBLE_S = 60


def run(arguments):
    with step("start"):
        consumer = client.simple_consumer(arguments, AWAIT_S)
    held = []
    while received := _receive_one(consumer):
        held += received
        success("held", message=messages.fields(received[0]))
    if not held:
        raise StepFailed("held") from ValueError("nothing was received")
    success("empty")
    with step("ack"):
        consumer.ack(held[0])
        success("ack", id=held[0].message_id)
    for message in _receive_one(consumer):
        success("freed", message=messages.fields(message))
    with step("stop"):
        consumer.shutdown()
    success("end")


def _receive_one(consumer):
    with step("receive"):
        return consumer.receive(1, INVISIBLE_S) or []
