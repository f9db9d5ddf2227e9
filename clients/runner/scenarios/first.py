"""The least that a client must be able to do, and what it must be told when it asks for the impossible."""

import subprocess

from runner import toolchains
from runner.messages import differences
from runner.stage import Trouble, await_steps, finish, number_of, stop

# Longer than the first lease of the message that the program extends.
AWAIT_S = 12
# A receive that finds nothing may end this much before or after its time: the Rust client's deadline is
# that very time, so it must be answered earlier; Go and Java 5.0.3 do not say how long they want to wait,
# and the server derives 1.5 s more from their deadline.
AWAIT_EARLY_MS, AWAIT_LATE_MS = 500, 2000
UNKNOWN_MS_MAX = 5000


def descriptors(run):
    """Our protos against those inside the Python package."""
    environment = {"HOME": str(run.folder)}
    command = [str(toolchains.python()), str(toolchains.SOURCES / "python" / "check_descriptors.py")]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    run.report.check("descriptors", result.returncode == 0, (result.stdout + result.stderr).strip())


def basic(run, clients):
    """One message there and back, field by field; two at once, as start times are measured."""

    def judge(client):
        place = run.prepare("basic", client)
        with run.program(client, "basic", prefix=client.name, await_s=AWAIT_S, **place) as program:
            finish(program)
            steps = {step["step"]: step for step in program.steps()}
        start, empty = steps["start"]["ms"], steps["empty"]["ms"]
        run.report.check(f"basic {client.name} starts fast", start < client.start_ms_max, f"{start} ms")
        wrong = differences(steps["receive"]["message"], client.name, 0, steps["send"]["id"])
        run.report.check(f"basic {client.name} receives what was sent", not wrong, "; ".join(wrong))
        in_time = AWAIT_S * 1000 - AWAIT_EARLY_MS <= empty <= AWAIT_S * 1000 + AWAIT_LATE_MS
        detail = f"{steps['empty']['count']} messages after {empty} ms"
        # A lease that had not been extended would end meanwhile.
        name = f"basic {client.name} waits when empty{' past the first lease' if client.extends_lease else ''}"
        run.report.check(name, in_time and steps["empty"]["count"] == 0, detail)
        run.check_settled(f"basic {client.name} has acknowledged", place["group"])

    run.each("basic", clients, 2, judge)


def push(run, clients):
    """A listener that fails once is called again with the same message, as attempt 2."""

    def judge(client):
        place = run.prepare("push", client)
        with run.program(client, "listen", fail=0, **place) as listener:
            await_steps(listener, "ready", 1)
            sent = run.send(client, topic=place["topic"])
            await_steps(listener, "attempt", 2)
            run.check_settled(f"push {client.name} has acknowledged", place["group"])
            stop(listener)
            attempts = [(number_of(step), step["message"]["attempt"]) for step in listener.steps("attempt")]
            ids = {step["message"]["id"] for step in listener.steps("attempt")}
        is_again = attempts == [(0, 1), (0, 2)] and ids == {sent[0]["id"]}
        run.report.check(f"push {client.name} is called again as attempt 2", is_again, f"{attempts}")

    run.each("push", clients, 3, judge)


def unknown(run, clients):
    """Sending to a topic that does not exist fails at once with TOPIC_NOT_FOUND."""

    def judge(client):
        with run.program(client, "unknown", topic="nowhere", group="nobody") as program:
            finish(program)
            steps = program.steps("unknown")
        if not steps:
            raise Trouble("no result")
        text, ms = steps[0]["text"], steps[0]["ms"]
        is_told = ("40402" in text or "TOPIC_NOT_FOUND" in text) and ms < UNKNOWN_MS_MAX
        run.report.check(f"unknown {client.name} is told TOPIC_NOT_FOUND", is_told, f"{ms} ms, {text[:300]}")

    run.each("unknown", clients, 3, judge)
