"""A simple consumer that gives a message back soon, takes it again, and acknowledges it."""

import client
import messages
from output import StepFailed, step, success

AWAIT_S = 12
INVISIBLE_S = 60
RETURNED_S = 2


def run(arguments):
    with step("start"):
        consumer = client.simple_consumer(arguments, AWAIT_S)
    _retry(consumer)


def lite(arguments):
    """The same for the lite topics in `subscribe`."""
    with step("start"):
        consumer = client.lite_simple_consumer(arguments, AWAIT_S)
    client.subscribe_lite(consumer, arguments)
    success("ready")
    _retry(consumer)


def _retry(consumer):
    message = _attempt(consumer)
    with step("returned"):
        consumer.change_invisible_duration(message, RETURNED_S)
        success("returned")
    message = _attempt(consumer)
    with step("ack"):
        consumer.ack(message)
        success("ack")
    with step("stop"):
        consumer.shutdown()
    success("end")


def _attempt(consumer):
    with step("attempt"):
        received = consumer.receive(1, INVISIBLE_S)
    if not received:
        raise StepFailed("attempt") from ValueError("nothing was received")
    success("attempt", message=messages.fields(received[0]))
    return received[0]
