"""One line of JSON per step on standard output; lines of several threads do not mix."""

import contextlib
import json
import threading
import time

_LOCK = threading.Lock()


class StepFailed(Exception):
    """One step of a scenario ended with an error, which is the cause of this one."""

    def __init__(self, step):
        super().__init__(step)
        self.step = step


@contextlib.contextmanager
def step(name):
    """Gives every error inside the name of the step."""
    try:
        yield
    except StepFailed:
        raise
    except Exception as error:
        raise StepFailed(name) from error


def success(name, **fields):
    """Reports a step that went well."""
    _print({"step": name, "ok": True, **fields})


def failure(name, error):
    """Reports the step that ended the scenario."""
    _print({"step": name, "ok": False, "error": f"{type(error).__name__}: {error}"})


def ms_since(start):
    """Whole milliseconds since a value of time.monotonic()."""
    return int((time.monotonic() - start) * 1000)


def _print(line):
    with _LOCK:
        print(json.dumps(line), flush=True)
