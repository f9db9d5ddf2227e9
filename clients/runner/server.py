"""The server under test: the real binary on loopback, with a data directory of its own."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request

READY_S = 30
# Longest that one command may take.
COMMAND_S_MAX = 60
LOOK_S = 0.02
# Where the messages of a group are that it has not settled yet.
BACKLOG = ("ready", "in_flight", "waiting")


class CommandFailed(Exception):
    """The server was asked to prepare something, and did not; the text is its answer."""


class NotReady(Exception):
    """The server was started and does not serve; the text says where its log is."""


class Server:
    """A running `centaur serve`; use as a context, so that it never outlives the run."""

    def __init__(self, binary, folder):
        self._binary = binary
        self._data = folder / "data"
        self._log = folder / "server.log"
        self._clients = 0
        self._operators = 0
        self._process = None
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    @property
    def endpoint(self):
        """Where clients connect."""
        return f"127.0.0.1:{self._clients}"

    def start(self):
        """Starts the server, on the ports of the time before if there was one; it is ready on return."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._binary,
                    "serve",
                    f"--data-dir={self._data}",
                    f"--listen=127.0.0.1:{self._clients}",
                    f"--operators-listen=127.0.0.1:{self._operators}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
            )
        deadline = time.monotonic() + READY_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise NotReady(f"the server does not get ready; its log is {self._log}")
            time.sleep(LOOK_S)

    def kill(self):
        """Ends the server as a crash would."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def is_alive(self):
        return self._process.poll() is None

    def create_topic(self, name, kind="normal", queues=None):
        self._command("topic", "create", name, "--type", kind, *_option("--queues", queues))

    def has_topic(self, name):
        return self._ask("topic", "describe", name).returncode == 0

    def create_group(self, name, fifo=False, max_attempts=None, lite_topic=None, exclusive=False):
        options = [*_option("--max-attempts", max_attempts), *_option("--lite-topic", lite_topic)]
        options += ["--lite-exclusive"] if exclusive else []
        self._command("group", "create", name, *_option("--order", "fifo" if fifo else None), *options)

    def backlog(self, group):
        """How many messages of a group are ready, in flight, and waiting for another attempt, in all its topics."""
        topics = json.loads(self._command("group", "describe", group, "-o", "json"))["topics"]
        if not topics:
            raise CommandFailed(f"the group {group} has consumed nothing yet")
        return {state: sum(topic["backlog"][state] for topic in topics) for state in BACKLOG}

    def _command(self, *words):
        result = self._ask(*words)
        if result.returncode != 0:
            answer = " ".join((result.stdout + result.stderr).split())
            raise CommandFailed(f"centaur {' '.join(words)}: {answer}")
        return result.stdout

    def _ask(self, *words):
        command = [self._binary, *words, "-a", f"127.0.0.1:{self._operators}"]
        settings = {"capture_output": True, "text": True, "env": _environment(), "timeout": COMMAND_S_MAX}
        try:
            return subprocess.run(command, check=False, **settings)
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"centaur {' '.join(words)} did not end in {COMMAND_S_MAX} s") from None

    def _is_ready(self):
        try:
            ports = json.loads((self._data / "run" / "ports.json").read_text())
        except (FileNotFoundError, ValueError):
            return False
        # A killed server leaves its file behind.
        if ports["pid"] != self._process.pid:
            return False
        self._clients, self._operators = ports["clients"], ports["operators"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._operators}/readyz", timeout=READY_S) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError):
            return False


def _option(name, value):
    return [] if value is None else [name, str(value)]


def _environment():
    """The environment without settings of the server."""
    return {key: value for key, value in os.environ.items() if not key.startswith("CENTAUR_")}
