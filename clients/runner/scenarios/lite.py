"""Lite topics: small ordered topics inside one, to which each consumer subscribes by itself."""

import time

from runner.messages import differences
from runner.stage import await_steps, finish, number_of, stop, turn

LITE_TOPICS = ["one", "two", "three"]
SUBSCRIBED = LITE_TOPICS[:2]
KIND = {"kinds": "lite", "lites": ",".join(LITE_TOPICS)}
# Four messages for each lite topic, and again after the end of a subscription.
COUNT = 4 * len(LITE_TOPICS)
AT = turn(LITE_TOPICS)
# How long nothing more must come, after everything that must.
QUIET_S = 3
# The Python client subscribes to each letter of a name, and to the name itself only with its next
# synchronisation, half a minute later. Names of one letter have nobody wait for it.
ROOMS = ["a", "b"]


def prepare(run, scenario, client, **group):
    """A topic of lite topics and a group of them, for one client in one scenario: the settings that name them."""
    name = f"{scenario}-{client.name}"
    run.server.create_topic(name, "lite")
    run.server.create_group(name, lite_topic=name, **group)
    return {"topic": name, "group": name}


def lite(run, clients):
    """A push consumer is called for what it subscribes to, in order, until it subscribes no more."""

    def judge(client):
        place = prepare(run, "lite", client)
        with run.program(client, "listen-lite", subscribe=",".join(SUBSCRIBED), **place) as listener:
            await_steps(listener, "ready", 1)
            before = run.send(client, topic=place["topic"], count=COUNT, **KIND)
            await_steps(listener, "attempt", len(_of(before, SUBSCRIBED)))
            ended, kept = SUBSCRIBED
            listener.say(f"unsubscribe {ended}")
            await_steps(listener, "unsubscribed", 1)
            after = run.send(client, topic=place["topic"], first=COUNT, count=COUNT, **KIND)
            wanted = {**_of(before, SUBSCRIBED), **_of(after, [kept])}
            await_steps(listener, "attempt", len(wanted))
            time.sleep(QUIET_S)
            stop(listener)
            _judge(run, f"lite {client.name}", client, wanted, listener.steps("attempt"))

    run.each("lite", clients, 2, judge)


def lite_simple(run, clients):
    """The same for a simple consumer, which never ends a subscription."""

    def judge(client):
        place = prepare(run, "lite-simple", client)
        expect = COUNT * len(SUBSCRIBED) // len(LITE_TOPICS)
        with run.program(client, "read-lite", subscribe=",".join(SUBSCRIBED), expect=expect, **place) as reader:
            await_steps(reader, "ready", 1)
            sent = run.send(client, topic=place["topic"], count=COUNT, **KIND)
            finish(reader)
            _judge(run, f"lite-simple {client.name}", client, _of(sent, SUBSCRIBED), reader.steps("read"))
        run.check_settled(f"lite-simple {client.name} has acknowledged", place["group"])
        _judge_return(run, client)

    run.each("lite-simple", clients, 2, judge)


def _judge_return(run, client):
    """What the simple consumer gives back it receives again."""
    place = prepare(run, "lite-retry", client)
    with run.program(client, "retry-lite", subscribe=ROOMS[0], **place) as program:
        await_steps(program, "ready", 1)
        sent = run.send(client, topic=place["topic"], kinds="lite", lites=ROOMS[0])
        finish(program)
        attempts = [step["message"] for step in program.steps("attempt")]
    wrong = []
    for number, message in enumerate(attempts, 1):
        wrong += differences(message, client.name, 0, sent[0]["id"], attempt=number, lite_topic=ROOMS[0])
    name = f"lite-simple {client.name} receives again what it gives back"
    run.report.check(name, len(attempts) == 2 and not wrong, "; ".join(wrong))
    run.check_settled(f"lite-simple {client.name} has acknowledged the second attempt", place["group"])


def _of(sent, lite_topics):
    """Those of the sent messages that are in some lite topics."""
    return {number: step for number, step in sent.items() if AT(number) in lite_topics}


def _judge(run, name, client, wanted, steps):
    run.check_received(f"{name} receives what it subscribes to", client, wanted, steps, lite_topic=AT)
    orders = {lite_topic: [n for n in map(number_of, steps) if AT(n) == lite_topic] for lite_topic in SUBSCRIBED}
    is_sorted = all(order == sorted(order) for order in orders.values())
    run.report.check(f"{name} receives in order", is_sorted, f"{orders}")
