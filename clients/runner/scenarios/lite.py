"""Lite topics: small ordered topics inside one, to which each consumer subscribes by itself."""

import time

from runner.messages import differences
from runner.scenarios.dead_letter import read_dead_letters, take_death
from runner.scenarios.fifo import check_order
from runner.stage import LOOK_S, await_steps, finish, number_of, stop, turn

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


def lite(run, clients):
    """A push consumer is called for what it subscribes to, in order, until it subscribes no more."""

    def judge(client):
        place = _prepare(run, "lite", client)
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
        place = _prepare(run, "lite-simple", client)
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
    place = _prepare(run, "lite-retry", client)
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


# Of a consumer that fails: the lite topics it subscribes to, four messages in each, the second of the first
# lite topic, and how long that one waits when the consumer does not fail but suspends it.
FAILING = {"kinds": "lite", "lites": ",".join(ROOMS), "count": 8}
BAD, OTHERS_OF_BAD = 2, [0, 4, 6]
ALWAYS = 100
SUSPEND_MS, SUSPENSIONS = 1000, 3


def lite_fail(run, clients):
    """A message whose listener fails is called again, in order; if it always does, it ends as a dead letter."""

    def judge(client):
        name = f"lite-fail {client.name}"
        once = _prepare(run, "lite-fail", client)
        attempts = _listen(run, client, once, FAILING["count"] + 1, times=1)
        again = f"{name} is called again before the successors"
        check_order(run, again, client, attempts, ROOMS, FAILING["count"], {BAD: 2})
        run.check_settled(f"{name} has acknowledged after a failure", once["group"])
        always = _prepare(run, "lite-poison", client, max_attempts=2)
        attempts = _listen(run, client, always, FAILING["count"] + 1, times=ALWAYS)
        goes_on = f"{name} goes on after the last attempt"
        check_order(run, goes_on, client, attempts, ROOMS, FAILING["count"], {BAD: 2})
        _judge_dead_letter(run, client, always["group"], attempts)
        run.check_settled(f"{name} has nothing left after a dead letter", always["group"])
        if client.suspends:
            _judge_suspension(run, client)

    run.each("lite-fail", clients, 4, judge)


def _listen(run, client, place, count, **settings):
    """The calls of a listener that does not take one message at once; it must be called `count` times."""
    with run.program(client, "listen-lite", subscribe=",".join(ROOMS), fail=BAD, **settings, **place) as listener:
        await_steps(listener, "ready", 1)
        run.send(client, topic=place["topic"], **FAILING)
        await_steps(listener, "attempt", count)
        time.sleep(QUIET_S)
        stop(listener)
        return listener.steps("attempt")


def _judge_dead_letter(run, client, group, attempts):
    dead = [step["message"] for step in read_dead_letters(run, client, group)]
    for message in dead:
        take_death(message)
    died = next(step["message"]["id"] for step in attempts if number_of(step) == BAD)
    wrong = [differences(message, client.name, BAD, died, lite_topic=ROOMS[0]) for message in dead]
    name = f"lite-fail {client.name} finds the dead letter as it was sent"
    run.report.check(name, wrong == [[]], f"{len(dead)} dead letters; {'; '.join(sum(wrong, []))}")


def _judge_suspension(run, client):
    """A suspended message has its lite topic wait, and no other, and does not come nearer to its end."""
    name = f"lite-fail {client.name}"
    place = _prepare(run, "lite-suspend", client, max_attempts=2)
    count = FAILING["count"] + SUSPENSIONS
    attempts = _listen(run, client, place, count, times=SUSPENSIONS, suspend_ms=SUSPEND_MS)
    order = [number_of(step) for step in attempts if number_of(step) in [BAD, *OTHERS_OF_BAD]]
    wanted = [OTHERS_OF_BAD[0], *[BAD] * (1 + SUSPENSIONS), *OTHERS_OF_BAD[1:]]
    run.report.check(f"{name} is called again after each suspension", order == wanted, f"{order}")
    numbers = {step["message"]["attempt"] for step in attempts}
    run.report.check(f"{name} counts no suspended attempt", numbers == {1}, f"{numbers}")
    run.report.check(f"{name} has no dead letter", not run.server.has_topic(f"%DLQ%{place['group']}"))
    run.check_settled(f"{name} has acknowledged after suspensions", place["group"])


# Longer than the time after which every client tells the server all of its subscriptions again.
SYNC_S = 33


def lite_exclusive(run, clients):
    """The next subscriber of an exclusive lite topic gets all of it, and keeps it."""

    def judge(client):
        name = f"lite-exclusive {client.name}"
        place = _prepare(run, "lite-exclusive", client, exclusive=True)
        room = {"kinds": "lite", "lites": ROOMS[0], "topic": place["topic"], "count": 4}
        with run.program(client, "listen-lite", subscribe=ROOMS[0], **place) as former:
            await_steps(former, "ready", 1)
            before = run.send(client, **room)
            await_steps(former, "attempt", len(before))
            with run.program(client, "listen-lite", subscribe=ROOMS[0], **place) as latter:
                await_steps(latter, "ready", 1)
                after = run.send(client, first=4, **room)
                await_steps(latter, "attempt", len(after))
                if client.lists_lite_topics:
                    _judge_loss(run, name, former, latter)
                time.sleep(SYNC_S)
                after |= run.send(client, first=8, **room)
                await_steps(latter, "attempt", len(after))
                time.sleep(QUIET_S)
                stop(former)
                stop(latter)
                in_room = lambda number: ROOMS[0]
                first = f"{name} receives until the next subscribes"
                run.check_received(first, client, before, former.steps("attempt"), lite_topic=in_room)
                second = f"{name} receives from then on alone"
                run.check_received(second, client, after, latter.steps("attempt"), lite_topic=in_room)
        run.check_settled(f"{name} has acknowledged", place["group"])

    run.each("lite-exclusive", clients, 4, judge)


def _judge_loss(run, name, former, latter):
    """The client was told that the lite topic is no longer its own."""

    def listed(listener):
        count = len(listener.steps("listed"))
        listener.say("list")
        return await_steps(listener, "listed", count + 1)[-1]["lite_topics"]

    deadline = time.monotonic() + QUIET_S
    while listed(former) and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    run.report.check(f"{name} is told of its loss", listed(former) == [], f"{listed(former)}")
    run.report.check(f"{name} knows what it has", listed(latter) == ROOMS[:1], f"{listed(latter)}")


def _prepare(run, scenario, client, **group):
    name = f"{scenario}-{client.name}"
    run.server.create_topic(name, "lite")
    run.server.create_group(name, lite_topic=name, **group)
    return {"topic": name, "group": name}


def _of(sent, lite_topics):
    """Those of the sent messages that are in some lite topics."""
    return {number: step for number, step in sent.items() if AT(number) in lite_topics}


def _judge(run, name, client, wanted, steps):
    run.check_received(f"{name} receives what it subscribes to", client, wanted, steps, lite_topic=AT)
    orders = {lite_topic: [n for n in map(number_of, steps) if AT(n) == lite_topic] for lite_topic in SUBSCRIBED}
    is_sorted = all(order == sorted(order) for order in orders.values())
    run.report.check(f"{name} receives in order", is_sorted, f"{orders}")
