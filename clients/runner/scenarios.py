"""What the programs are made to do, and what must come of it: one function per scenario.

Each takes the run and the clients that know the scenario, and reports its checks.
"""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from runner import toolchains
from runner.messages import differences
from runner.program import Program
from runner.report import Report
from runner.server import Server

AWAIT_S = 6
# A receive that finds nothing may end this much before or after its time: the Rust client's deadline is
# that very time, so it must be answered earlier; Go and Java 5.0.3 do not say how long they want to wait,
# and the server derives 1.5 s more from their deadline.
AWAIT_EARLY_MS, AWAIT_LATE_MS = 500, 2000
UNKNOWN_MS_MAX = 5000
MATRIX_COUNT = 4
END_S = 90


@dataclass(frozen=True)
class Run:
    server: Server
    report: Report
    folder: Path

    def program(self, client, scenario, **settings):
        """Starts a program of `client` against the server."""
        return Program(client, self.server.endpoint, scenario, {**client.settings, **settings}, self.folder)

    def prepare(self, scenario, client):
        """A topic and a group for one client in one scenario: the settings that name them."""
        name = f"{scenario}-{client.name.replace('.', '-')}"
        self.server.create_topic(name)
        self.server.create_group(name)
        return {"topic": name, "group": name}


def each(clients, at_once, judge):
    """Calls `judge` for every client, a few at the same time."""
    with ThreadPoolExecutor(at_once) as pool:
        for result in [pool.submit(judge, client) for client in clients]:
            result.result()


def descriptors(run):
    """Our protos against those inside the Python package."""
    environment = {"HOME": str(run.folder)}
    command = [str(toolchains.python()), str(toolchains.SOURCES / "python" / "check_descriptors.py")]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    run.report.check("descriptors", result.returncode == 0, (result.stdout + result.stderr).strip())


def basic(run, clients):
    """One message there and back, field by field; two at once, as start times are measured."""

    def judge(client):
        with run.program(client, "basic", prefix=client.name, await_s=AWAIT_S, **run.prepare("basic", client)) as program:
            trouble = program.finish(END_S)
            steps = {step["step"]: step for step in program.steps()}
        if not run.report.check(f"basic {client.name} runs through", trouble is None, trouble or ""):
            return
        start, empty = steps["start"]["ms"], steps["empty"]["ms"]
        run.report.check(f"basic {client.name} starts fast", start < client.start_ms_max, f"{start} ms")
        wrong = differences(steps["receive"]["message"], client.name, 0, steps["send"]["id"])
        run.report.check(f"basic {client.name} receives what was sent", not wrong, "; ".join(wrong))
        if client.extends_lease:
            run.report.check(f"basic {client.name} extends a lease", "extend" in steps)
        in_time = AWAIT_S * 1000 - AWAIT_EARLY_MS <= empty <= AWAIT_S * 1000 + AWAIT_LATE_MS
        detail = f"{steps['empty']['count']} messages after {empty} ms"
        run.report.check(f"basic {client.name} waits when empty", in_time and steps["empty"]["count"] == 0, detail)

    each(clients, 2, judge)


def push(run, clients):
    """A listener that fails once is called again with the same message, as attempt 2."""

    def judge(client):
        with run.program(client, "push", prefix=client.name, **run.prepare("push", client)) as program:
            trouble = program.finish(END_S + 30)
            sent = [step["id"] for step in program.steps("send")]
            seen = [step["message"] for step in program.steps("attempt")]
        if not run.report.check(f"push {client.name} runs through", trouble is None, trouble or ""):
            return
        attempts = [(message["id"], message["attempt"]) for message in seen]
        wanted = [(sent[0], 1), (sent[0], 2)]
        run.report.check(f"push {client.name} is called again as attempt 2", attempts == wanted, f"{attempts}")

    each(clients, 3, judge)


def unknown(run, clients):
    """Sending to a topic that does not exist fails at once with TOPIC_NOT_FOUND."""

    def judge(client):
        with run.program(client, "unknown", topic="nowhere", group="nobody") as program:
            trouble = program.finish(END_S)
            steps = program.steps("unknown")
        name = f"unknown {client.name} is told TOPIC_NOT_FOUND"
        if trouble or not steps:
            run.report.check(name, False, trouble or "no result")
            return
        text, ms = steps[0]["text"], steps[0]["ms"]
        is_told = ("40402" in text or "TOPIC_NOT_FOUND" in text) and ms < UNKNOWN_MS_MAX
        run.report.check(name, is_told, f"{ms} ms, {text[:300]}")

    each(clients, 3, judge)


def matrix(run, clients):
    """Every client reads what every client sent, byte for byte."""
    run.server.create_topic("matrix")
    sent = {}

    def send(client):
        settings = {"topic": "matrix", "count": MATRIX_COUNT, "prefix": client.name}
        with run.program(client, "send", **settings) as program:
            trouble = program.finish(END_S)
            sent[client.name] = {step["id"]: step["number"] for step in program.steps("sent")}
        run.report.check(f"matrix {client.name} sends", trouble is None, trouble or f"{len(sent[client.name])} messages")

    def read(client):
        group = f"matrix-{client.name}"
        run.server.create_group(group)
        expect = sum(len(ids) for ids in sent.values())
        with run.program(client, "read", topic="matrix", group=group, expect=expect) as program:
            trouble = program.finish(END_S)
            received = {step["message"]["id"]: step["message"] for step in program.steps("read")}
        for sender, ids in sent.items():
            wrong = [] if trouble is None else [trouble]
            for message_id, number in ids.items():
                if message_id not in received:
                    wrong.append(f"message {number} did not arrive")
                else:
                    wrong += differences(received[message_id], sender, number, message_id)
            run.report.check(f"matrix {client.name} reads {sender}", not wrong, "; ".join(wrong))

    each(clients, 3, send)
    each(clients, 3, read)


# How long the server stays away: long enough for every client to notice.
DOWN_S = 3
RESUME_S_MAX = 60
# Acknowledged by every client before the server is killed, and again before the end.
SURVIVE_ROUND = 200
# A lease that the killed server had given out runs its full time before anybody gets the message again.
DRAIN_S = 120


def survive(run, clients):
    """The server is killed and started again under running clients: they go on, and nothing is lost."""
    programs = {}
    try:
        for client in clients:
            settings = {**run.prepare("survive", client), "prefix": client.name, "drain_s": DRAIN_S}
            programs[client.name] = run.program(client, "survive", **settings)
        for name, program in programs.items():
            running = program.wait_for(lambda: len(program.steps("acked")) >= SURVIVE_ROUND, END_S)
            run.report.check(f"survive {name} runs", running, f"{len(program.steps('acked'))} messages consumed")
        run.server.kill()
        time.sleep(DOWN_S)
        run.server.start()
        restarted = time.monotonic()
        for name, program in programs.items():
            _judge_resumption(run, name, program, restarted)
        for program in programs.values():
            program.say("stop")
        for name, program in programs.items():
            _judge_loss(run, name, program)
    finally:
        for program in programs.values():
            program.__exit__()


def _judge_resumption(run, name, program, restarted):
    """Waits until messages sent after the restart have been consumed."""

    def consumed_since():
        fresh = {step["id"] for step in program.steps("sent") if step["at"] > restarted}
        return [step["at"] for step in program.steps("acked") if step["id"] in fresh]

    program.wait_for(lambda: len(consumed_since()) >= SURVIVE_ROUND, restarted + RESUME_S_MAX - time.monotonic())
    times = consumed_since()
    resumed = bool(times) and times[0] - restarted <= RESUME_S_MAX
    detail = f"after {times[0] - restarted:.1f} s" if times else f"not within {RESUME_S_MAX} s"
    run.report.check(f"survive {name} consumes again", resumed, detail)


def _judge_loss(run, name, program):
    trouble = program.finish(DRAIN_S + END_S)
    run.report.check(f"survive {name} ends", trouble is None, trouble or "")
    sent = {step["id"] for step in program.steps("sent")}
    acked = [step["id"] for step in program.steps("acked")]
    lost = sent - set(acked)
    detail = f"{len(sent)} sent, {len(acked)} consumed, {len(acked) - len(set(acked))} of them again"
    detail += f", lost {sorted(lost)[:5]}" if lost else ""
    run.report.check(f"survive {name} loses nothing", bool(sent) and not lost, detail)


SCENARIOS = {
    "basic": basic,
    "push": push,
    "unknown": unknown,
    "matrix": matrix,
    "survive": survive,
}
