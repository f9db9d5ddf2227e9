"""Push consumers that report every call of their listener until standard input says `stop`.

The listener fails message `fail` the first `times` times and takes everything else.
"""

import threading

from rocketmq import ConsumeResult

import client
import messages
import standard_input
from output import step, success


def run(arguments):
    with step("start"):
        consumer = client.push_consumer(arguments, _Listener(arguments).take)
    success("ready")
    standard_input.await_stop()
    _stop(consumer)


def lite(arguments):
    """The same for the lite topics in `subscribe`; a line `unsubscribe <lite topic>` ends one of them."""
    with step("start"):
        consumer = client.lite_push_consumer(arguments, _Listener(arguments).take)
    client.subscribe_lite(consumer, arguments)
    success("ready")
    for _, lite_topic in standard_input.commands():
        with step("unsubscribed"):
            consumer.unsubscribe_lite(lite_topic)
            success("unsubscribed", lite_topic=lite_topic)
    _stop(consumer)


def _stop(consumer):
    with step("stop"):
        consumer.shutdown()
    success("end")


class _Listener:
    def __init__(self, arguments):
        self._fail = arguments.settings.get("fail", "none")
        self._times = arguments.number("times", 1)
        self._lock = threading.Lock()

    def take(self, message):
        success("attempt", message=messages.fields(message))
        return ConsumeResult.FAILURE if self._must_fail(message) else ConsumeResult.SUCCESS

    def _must_fail(self, message):
        if message.properties.get("number") != self._fail:
            return False
        with self._lock:
            self._times -= 1
            return self._times >= 0
