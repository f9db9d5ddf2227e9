"""Listeners of lite topics that do not take a message at once."""

import time

from runner.messages import differences
from runner.scenarios.dead_letter import read_dead_letters, take_death
from runner.scenarios.fifo import check_order
from runner.scenarios.lite import QUIET_S, ROOMS, prepare
from runner.stage import await_steps, number_of, stop

# Four messages in each lite topic; the second of the first fails, or has its lite topic wait so long.
FAILING = {"kinds": "lite", "lites": ",".join(ROOMS), "count": 8}
BAD, OTHERS_OF_BAD = 2, [0, 4, 6]
ALWAYS = 100
SUSPEND_MS, SUSPENSIONS = 1000, 3


def lite_fail(run, clients):
    """A message whose listener fails is called again, in order; if it always does, it ends as a dead letter."""

    def judge(client):
        name = f"lite-fail {client.name}"
        once = prepare(run, "lite-fail", client)
        settled = f"{name} has acknowledged after a failure"
        attempts = _listen(run, client, settled, once, FAILING["count"] + 1, times=1)
        again = f"{name} is called again before the successors"
        check_order(run, again, client, attempts, ROOMS, FAILING["count"], {BAD: 2})
        always = prepare(run, "lite-poison", client, max_attempts=2)
        settled = f"{name} has nothing left after a dead letter"
        attempts = _listen(run, client, settled, always, FAILING["count"] + 1, times=ALWAYS)
        goes_on = f"{name} goes on after the last attempt"
        check_order(run, goes_on, client, attempts, ROOMS, FAILING["count"], {BAD: 2})
        _judge_dead_letter(run, client, always["group"], attempts)
        if client.suspends:
            _judge_suspension(run, client)

    run.each("lite-fail", clients, 4, judge)


def _listen(run, client, settled, place, count, **settings):
    """The calls of a listener that does not take one message at once; it must be called `count` times.

    `settled` is the check that nothing is left then.
    """
    with run.program(client, "listen-lite", subscribe=",".join(ROOMS), fail=BAD, **settings, **place) as listener:
        await_steps(listener, "ready", 1)
        run.send(client, topic=place["topic"], **FAILING)
        await_steps(listener, "attempt", count)
        time.sleep(QUIET_S)
        run.check_settled(settled, place["group"])
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
    place = prepare(run, "lite-suspend", client, max_attempts=2)
    count = FAILING["count"] + SUSPENSIONS
    settled = f"{name} has acknowledged after suspensions"
    attempts = _listen(run, client, settled, place, count, times=SUSPENSIONS, suspend_ms=SUSPEND_MS)
    order = [number_of(step) for step in attempts if number_of(step) in [BAD, *OTHERS_OF_BAD]]
    wanted = [OTHERS_OF_BAD[0], *[BAD] * (1 + SUSPENSIONS), *OTHERS_OF_BAD[1:]]
    run.report.check(f"{name} is called again after each suspension", order == wanted, f"{order}")
    numbers = {step["message"]["attempt"] for step in attempts}
    run.report.check(f"{name} counts no suspended attempt", numbers == {1}, f"{numbers}")
    run.report.check(f"{name} has no dead letter", not run.server.has_topic(f"%DLQ%{place['group']}"))
