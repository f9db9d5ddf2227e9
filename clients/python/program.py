"""Drives the official Python client: program.py <endpoint> <scenario> [key=value ...]."""

import os
import sys

import output
from arguments import Arguments
from scenarios import basic, hold, listen, recall, retry, survive, transaction, transfer, unknown

SCENARIOS = {
    "basic": basic.run,
    "unknown": unknown.run,
    "send": transfer.send,
    "read": transfer.read,
    "read-lite": transfer.read_lite,
    "listen": listen.run,
    "listen-lite": listen.lite,
    "hold": hold.run,
    "retry": retry.run,
    "retry-lite": retry.lite,
    "recall": recall.run,
    "transaction": transaction.run,
    "survive": survive.run,
}


def main(words):
    """Runs one scenario and returns the exit code: 0 done, 1 a step failed, 2 wrong command line."""
    try:
        arguments = Arguments.parse(words)
        run = SCENARIOS[arguments.scenario]
    except (ValueError, KeyError) as wrong:
        print(wrong, file=sys.stderr)
        return 2
    try:
        run(arguments)
    except output.StepFailed as failed:
        output.failure(failed.step, failed.__cause__)
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # Threads of the client that are still ending must not keep the process.
    os._exit(code)
