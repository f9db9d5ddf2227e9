"""What the runner says to a program while it runs: one command per line."""

import sys


def commands():
    """The words of each line, until one says `stop` or the input ends."""
    for line in sys.stdin:
        words = line.split()
        if words == ["stop"]:
            return
        yield words


def await_stop():
    for _ in commands():
        pass
