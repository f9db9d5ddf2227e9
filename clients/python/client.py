"""Producers and consumers for one server, started when they are returned."""

from rocketmq import (
    ClientConfiguration,
    Credentials,
    FilterExpression,
    MessageListener,
    Producer,
    PushConsumer,
    SimpleConsumer,
)


def _configuration(arguments):
    return ClientConfiguration(arguments.endpoint, Credentials())


def producer(arguments, topics):
    started = Producer(_configuration(arguments), topics, tls_enable=arguments.tls)
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


class _Listener(MessageListener):
    def __init__(self, take):
        self._take = take

    def consume(self, message):
        return self._take(message)
