"""Order within message groups, for simple consumers and for listeners that fail."""

from runner.scenarios.dead_letter import read_dead_letters
from runner.stage import await_steps, finish, number_of, stop, turn

COUNT = 40
GROUPS = ["red", "green", "blue", "white"]
KIND = {"kinds": "fifo", "groups": ",".join(GROUPS)}
# The second message of the second message group.
BAD = len(GROUPS) + 1
ALWAYS = 100


def fifo(run, clients):
    """A simple consumer gets each message group in order, and one message of a group at a time."""

    def judge(client):
        place = run.prepare("fifo", client, "fifo", fifo=True)
        sent = run.send(client, topic=place["topic"], count=COUNT, **KIND)
        received = run.read(client, expect=COUNT, **place)
        name = f"fifo {client.name}"
        run.check_received(f"{name} receives what was sent", client, sent, received, group=turn(GROUPS))
        check_order(run, f"{name} receives in order", client, received, GROUPS, COUNT)
        run.check_settled(f"{name} has acknowledged", place["group"])
        _judge_lock(run, client, name)

    run.each("fifo", clients, 3, judge)


def _judge_lock(run, client, name):
    # In one queue, so that only the message group can keep messages apart.
    place = run.prepare("fifo-hold", client, "fifo", queues=1, fifo=True)
    run.send(client, topic=place["topic"], count=2 * len(GROUPS), **KIND)
    with run.program(client, "hold", **place) as program:
        finish(program)
        held = [number_of(step) for step in program.steps("held")]
        freed = [number_of(step) for step in program.steps("freed")]
    firsts = list(range(len(GROUPS)))
    run.report.check(f"{name} holds one message of each group", sorted(held) == firsts, f"{held}")
    is_next = bool(held) and freed == [held[0] + len(GROUPS)]
    run.report.check(f"{name} gets the next of a group after the ack", is_next, f"{freed} after {held[:1]}")


def fifo_push(run, clients):
    """A listener that fails keeps its message group waiting, and no other."""

    def judge(client):
        name = f"fifo-push {client.name}"
        once = run.prepare("fifo-push", client, "fifo", fifo=True)
        attempts = _listen(run, client, f"{name} has acknowledged", once, times=1)
        check_order(run, f"{name} is called again before the successors", client, attempts, GROUPS, COUNT, {BAD: 2})
        always = run.prepare("fifo-poison", client, "fifo", fifo=True, max_attempts=2)
        attempts = _listen(run, client, f"{name} has nothing left after a dead letter", always, times=ALWAYS)
        check_order(run, f"{name} goes on after the last attempt", client, attempts, GROUPS, COUNT, {BAD: 2})
        dead = [number_of(step) for step in read_dead_letters(run, client, always["group"])]
        run.report.check(f"{name} finds the dead letter", dead == [BAD], f"{dead}")

    run.each("fifo-push", clients, 3, judge)


def _listen(run, client, settled, place, times):
    """The calls of a listener that fails one message so many times; `settled` is the check that nothing is left."""
    with run.program(client, "listen", fail=BAD, times=times, **place) as listener:
        await_steps(listener, "ready", 1)
        run.send(client, topic=place["topic"], count=COUNT, **KIND)
        await_steps(listener, "attempt", COUNT + 1)
        run.check_settled(settled, place["group"])
        stop(listener)
        return listener.steps("attempt")


def check_order(run, name, client, steps, groups, count, calls=None):
    """Checks that of `count` messages sent to `groups` in turn those of each came in order.

    Each came once, if `calls` does not say how often it came. A client that does not wait for what failed
    is judged by its first calls, and by how many came.
    """
    wrong = []
    for first, group in enumerate(groups):
        numbers = range(first, count, len(groups))
        wanted = [number for number in numbers for _ in range((calls or {}).get(number, 1))]
        seen = [number_of(step) for step in steps if number_of(step) % len(groups) == first]
        if not client.waits_for_failed:
            is_complete = sorted(seen) == sorted(wanted)
            seen, wanted = (list(dict.fromkeys(order)) for order in (seen, wanted)) if is_complete else (seen, wanted)
        if seen != wanted:
            wrong.append(f"{group}: {seen}, not {wanted}")
    run.report.check(name, not wrong, "; ".join(wrong))
