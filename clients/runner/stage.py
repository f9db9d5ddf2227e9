"""What every scenario needs: the server, topics and groups of its own, programs, and a place for its checks."""

import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from runner.messages import differences
from runner.program import Program
from runner.report import Report
from runner.server import CommandFailed, NotReady, Server

# Longest that a program without a longer time of its own may take.
END_S = 90
# Longest that the last acknowledgement of a program may take.
SETTLE_S = 10
LOOK_S = 0.2


class Trouble(Exception):
    """A program did not do what it was asked to; the text says how far it came."""


@dataclass(frozen=True)
class Run:
    server: Server
    report: Report
    folder: Path

    def each(self, scenario, clients, at_once, judge):
        """Calls `judge` for every client, a few at the same time; what keeps one from its end is a failed check."""

        def judged(client):
            try:
                judge(client)
                trouble = ""
            except Exception as error:
                trouble = self.told(error)
            self.report.check(f"{scenario} {client.name} runs through", not trouble, trouble)

        with ThreadPoolExecutor(at_once) as pool:
            for result in [pool.submit(judged, client) for client in clients]:
                result.result()

    def told(self, error):
        """A sentence about what kept a scenario from its end; where nobody expected it is in the runner's log."""
        if isinstance(error, (Trouble, CommandFailed, NotReady)):
            return str(error)
        log = self.folder / "runner.log"
        with log.open("a") as lines:
            # Several threads may add to it: in one piece.
            lines.write("".join(traceback.format_exception(error)))
        return f"unexpected {error!r}; see {log}"

    def prepare(self, scenario, client, kind="normal", queues=None, **group):
        """A topic and a group for one client in one scenario: the settings that name them."""
        name = f"{scenario}-{client.name.replace('.', '-')}"
        self.server.create_topic(name, kind, queues)
        self.server.create_group(name, **group)
        return {"topic": name, "group": name}

    def program(self, client, scenario, **settings):
        """Starts a program of `client` against the server."""
        return Program(client, self.server.endpoint, scenario, {**client.settings, **settings}, self.folder)

    def send(self, client, **settings):
        """Sends messages with the client's name as their prefix; returns the steps by number."""
        with self.program(client, "send", prefix=client.name, **settings) as program:
            finish(program)
            return {step["number"]: step for step in program.steps("sent")}

    def read(self, client, scenario="read", **settings):
        """Reads with a simple consumer; returns the steps in the order of their arrival."""
        with self.program(client, scenario, **settings) as program:
            finish(program)
            return program.steps("read")

    def check_received(self, name, client, sent, received, **kinds):
        """Checks that exactly the messages that `client` sent came, each as it was sent.

        `kinds` has for each field that makes a kind what it must be at a number.
        """
        wrong = []
        by_id = {step["message"]["id"]: step["message"] for step in received}
        for number, step in sent.items():
            message = by_id.pop(step["id"], None)
            if message is None:
                wrong.append(f"message {number} did not arrive")
            else:
                kind = {field: at(number) for field, at in kinds.items()}
                wrong += differences(message, client.name, number, step["id"], **kind)
        wrong += [f"{message_id} was not sent" for message_id in by_id]
        self.report.check(name, not wrong, "; ".join(wrong))

    def check_settled(self, name, group):
        """Checks that a group has nothing left: no acknowledgement was lost, and nothing came that nobody read.

        A push consumer must still run: one that is stopped gives up what it has not acknowledged yet.
        A server that does not tell fails this check alone: those that follow may still say something.
        """
        deadline = time.monotonic() + SETTLE_S
        try:
            backlog = self.server.backlog(group)
            while any(backlog.values()) and time.monotonic() < deadline:
                time.sleep(LOOK_S)
                backlog = self.server.backlog(group)
        except CommandFailed as failed:
            self.report.check(name, False, str(failed))
        else:
            self.report.check(name, not any(backlog.values()), f"{backlog}")


def turn(words):
    """What `words`, a list that begins again at its end, gives to a number."""
    return lambda number: words[number % len(words)]


def number_of(step):
    """The number of the message in a step; -1 for one that nobody here has sent."""
    return int(step["message"]["properties"].get("number", -1))


def finish(program, timeout_s=END_S):
    """Waits for the end of a program; one that does not end well is trouble."""
    trouble = program.finish(timeout_s)
    if trouble is not None:
        raise Trouble(trouble)


def await_steps(program, name, count, timeout_s=END_S):
    """Waits until a program has taken as many steps of that name; returns them."""
    if not program.wait_for(lambda: len(program.steps(name)) >= count, timeout_s):
        trouble = program.failure() or f"not within {timeout_s} s"
        raise Trouble(f"{len(program.steps(name))} steps {name}, not {count}: {trouble}")
    return program.steps(name)


def stop(program, timeout_s=END_S):
    """Tells a program to end, and waits until it has."""
    program.say("stop")
    finish(program, timeout_s)
