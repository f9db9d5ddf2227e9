"""One running program of one client: its steps as they come, its input, its end."""

import json
import os
import subprocess
import threading
import time


class Program:
    """A started program; use as a context, so that it never outlives its scenario."""

    def __init__(self, client, endpoint, scenario, settings, folder):
        """Starts `client`; its home directory and its errors are in `folder`."""
        home = folder / "home" / client.name
        home.mkdir(parents=True, exist_ok=True)
        self.errors = folder / f"{scenario}-{client.name}.stderr"
        words = [endpoint, scenario, *(f"{key}={value}" for key, value in settings.items())]
        command, environment = client.start(home)
        with self.errors.open("ab") as errors:
            self._process = subprocess.Popen(
                [*command, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )
        self._changed = threading.Condition()
        self._steps = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdin.close()
        self._process.stdout.close()

    def steps(self, name=None):
        """The steps so far; if `name` is given, those called so that went well.

        Each has `at`, a monotonic time, and `clock_ms`, what the clock said then.
        """
        with self._changed:
            return [step for step in self._steps if name is None or (step["step"] == name and step["ok"])]

    def say(self, line):
        """Writes a line to the program's input; a program that has ended does not mind."""
        try:
            # Past the buffer of `stdin`, which would try the line again when it is closed.
            os.write(self._process.stdin.fileno(), f"{line}\n".encode())
        except BrokenPipeError:
            pass

    def wait_for(self, condition, timeout_s):
        """Waits until `condition()` holds, looking again at each step; returns whether it came true."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not condition() and self._reader.is_alive() and time.monotonic() < deadline:
                self._changed.wait(min(1, max(0, deadline - time.monotonic())))
        return condition()

    def finish(self, timeout_s):
        """Waits for the end; returns None if all went well, else a sentence about what did not."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return f"did not end in time; last step {self._last_step()}; see {self.errors}"
        self._reader.join()
        ended = None if code == 0 else f"exit code {code} after step {self._last_step()}; see {self.errors}"
        return self.failure() or ended

    def failure(self):
        """A sentence about the step that failed; None while none has."""
        for step in self.steps():
            if not step["ok"]:
                return f"step {step['step']} failed: {step['error']}"
        return None

    def _last_step(self):
        steps = self.steps()
        return steps[-1]["step"] if steps else "none"

    def _read(self):
        for line in self._process.stdout:
            # Some clients log to standard output as well.
            step = _parsed(line)
            if step is not None:
                with self._changed:
                    times = {"at": time.monotonic(), "clock_ms": time.time_ns() // 1_000_000}
                    self._steps.append({**step, **times})
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


def _parsed(line):
    try:
        step = json.loads(line)
    except ValueError:
        return None
    return step if isinstance(step, dict) and "step" in step else None
