"""Producers and consumers for one server, started when they are returned."""

import time

from rocketmq import (
    ClientConfiguration,
    Credentials,
    FilterExpression,
    LitePushConsumer,
    LiteSimpleConsumer,
    MessageListener,
    Producer,
    PushConsumer,
    SimpleConsumer,
    TransactionChecker,
    TransactionResolution,
)
from rocketmq.v5.exception import LiteSubscriptionQuotaExceededException

from output import step

SETTINGS_S = 5
PAUSE_S = 0.02


def _configuration(arguments):
    return ClientConfiguration(arguments.endpoint, Credentials())


def producer(arguments, topics, check=lambda message: TransactionResolution.COMMIT):
    """A producer that answers the server's questions about its transactions with what `check(message)` gives."""
    started = Producer(_configuration(arguments), topics, _Checker(check), tls_enable=arguments.tls)
    started.startup()
    return started


def simple_consumer(arguments, await_s):
    started = SimpleConsumer(
        _configuration(arguments),
        arguments.group,
        {arguments.topic: FilterExpression()},
        await_duration=await_s,
        tls_enable=arguments.tls,
    )
    started.startup()
    return started


def push_consumer(arguments, take):
    """A push consumer that calls `take(message)` and returns its ConsumeResult."""
    started = PushConsumer(
        _configuration(arguments),
        arguments.group,
        _Listener(take),
        {arguments.topic: FilterExpression()},
        tls_enable=arguments.tls,
    )
    started.startup()
    return started


def lite_push_consumer(arguments, take):
    """The same for lite topics, of which none is subscribed to yet."""
    started = LitePushConsumer(
        _configuration(arguments),
        arguments.group,
        arguments.topic,
        _Listener(take),
        tls_enable=arguments.tls,
    )
    started.startup()
    return started


def lite_simple_consumer(arguments, await_s):
    started = LiteSimpleConsumer(
        arguments.topic,
        _configuration(arguments),
        arguments.group,
        await_duration=await_s,
        tls_enable=arguments.tls,
    )
    started.startup()
    return started


def subscribe_lite(consumer, arguments):
    """Subscribes to the lite topics in `subscribe`."""
    with step("subscribe"):
        for lite_topic in arguments.words("subscribe"):
            _subscribe(consumer, lite_topic)


def _subscribe(consumer, lite_topic):
    """Subscribes, again while a simple consumer knows no quota: its start does not wait for the server's settings."""
    deadline = time.monotonic() + SETTINGS_S
    while True:
        try:
            return consumer.subscribe_lite(lite_topic)
        except LiteSubscriptionQuotaExceededException:
            if time.monotonic() > deadline:
                raise
        time.sleep(PAUSE_S)


class _Checker(TransactionChecker):
    def __init__(self, check):
        self._check = check

    def check(self, message):
        return self._check(message)


class _Listener(MessageListener):
    def __init__(self, take):
        self._take = take

    def consume(self, message):
        return self._take(message)
