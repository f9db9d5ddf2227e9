"""Lite topics that belong to one subscriber at a time."""

import time

from runner.scenarios.lite import QUIET_S, ROOMS, prepare
from runner.stage import LOOK_S, await_steps, finish

# Longer than the time after which every client tells the server all of its subscriptions again.
SYNC_S = 33
# Until a client that was told of its loss no longer lists the lite topic.
TOLD_S_MAX = 20


def lite_exclusive(run, clients):
    """The next subscriber of an exclusive lite topic gets all of it, and keeps it."""

    def judge(client):
        name = f"lite-exclusive {client.name}"
        place = prepare(run, "lite-exclusive", client, exclusive=True)
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
                run.check_settled(f"{name} has acknowledged", place["group"])
                for listener in (former, latter):
                    listener.say("stop")
                for listener in (former, latter):
                    finish(listener)
                in_room = lambda number: ROOMS[0]
                first = f"{name} receives until the next subscribes"
                run.check_received(first, client, before, former.steps("attempt"), lite_topic=in_room)
                second = f"{name} receives from then on alone"
                run.check_received(second, client, after, latter.steps("attempt"), lite_topic=in_room)

    run.each("lite-exclusive", clients, 4, judge)


def _judge_loss(run, name, former, latter):
    """The client was told that the lite topic is no longer its own."""

    def listed(listener):
        count = len(listener.steps("listed"))
        listener.say("list")
        return await_steps(listener, "listed", count + 1)[-1]["lite_topics"]

    deadline = time.monotonic() + TOLD_S_MAX
    while listed(former) and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    run.report.check(f"{name} is told of its loss", listed(former) == [], f"{listed(former)}")
    run.report.check(f"{name} knows what it has", listed(latter) == ROOMS[:1], f"{listed(latter)}")
