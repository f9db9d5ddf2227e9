"""What the programs are made to do, and what must come of it: one function per scenario.

Each takes the run and the clients that know the scenario, and reports its checks.
"""

from runner.scenarios.dead_letter import dead_letter
from runner.scenarios.delay import delay, recall
from runner.scenarios.fifo import fifo, fifo_push
from runner.scenarios.first import basic, descriptors, push, unknown
from runner.scenarios.lite import lite, lite_simple
from runner.scenarios.lite_exclusive import lite_exclusive
from runner.scenarios.lite_fail import lite_fail
from runner.scenarios.matrix import kinds, large, matrix
from runner.scenarios.priority import priority
from runner.scenarios.retry import retry
from runner.scenarios.survive import survive
from runner.scenarios.topics import topics
from runner.scenarios.transaction import transaction

__all__ = ["SCENARIOS", "WAITING", "descriptors"]

SCENARIOS = {
    "basic": basic,
    "push": push,
    "retry": retry,
    "unknown": unknown,
    "topics": topics,
    "matrix": matrix,
    "large": large,
    "dead-letter": dead_letter,
    "fifo": fifo,
    "fifo-push": fifo_push,
    "delay": delay,
    "priority": priority,
    "kinds": kinds,
    "recall": recall,
    "transaction": transaction,
    "lite": lite,
    "lite-fail": lite_fail,
    "lite-exclusive": lite_exclusive,
    "lite-simple": lite_simple,
    "survive": survive,
}
# Those that mostly wait, for a message to become due or for a client to end its polls: they do so side by side.
WAITING = {"recall", "transaction", "lite", "lite-fail", "lite-exclusive", "lite-simple"}
