"""Transactions with the ends in `ends`, in turn.

Those named `open…` are left to the server, which asks until standard input says `stop`; what follows is what it
is told: `open-unknown` is settled by the second question only.
"""

import threading

from rocketmq import TransactionResolution

import client
import messages
import standard_input
from output import step, success

ENDS = "commit,rollback,open-commit,open-rollback,open-unknown"
UNKNOWN = TransactionResolution.TRANSACTION_RESOLUTION_UNSPECIFIED
ANSWERS = {
    "open-commit": [TransactionResolution.COMMIT],
    "open-rollback": [TransactionResolution.ROLLBACK],
    "open-unknown": [UNKNOWN, TransactionResolution.COMMIT],
}


def run(arguments):
    ends = arguments.words("ends", ENDS)
    with step("start"):
        producer = client.producer(arguments, [arguments.topic], _Checker(ends).check)
    for number, end in enumerate(ends):
        with step("sent"):
            transaction = producer.begin_transaction()
            receipt = producer.send(messages.numbered(arguments.topic, arguments.prefix, number), transaction)
            success("sent", number=number, id=receipt.message_id, end=end)
        with step(end):
            if end == "commit":
                transaction.commit()
            elif end == "rollback":
                transaction.rollback()
    standard_input.await_stop()
    with step("stop"):
        producer.shutdown()
    success("end")


class _Checker:
    """Answers each question with the next word, and from then on with the last."""

    def __init__(self, ends):
        self._answers = {str(number): list(ANSWERS.get(end, [UNKNOWN])) for number, end in enumerate(ends)}
        self._lock = threading.Lock()

    def check(self, message):
        success("checked", message=messages.fields(message))
        with self._lock:
            answers = self._answers[message.properties["number"]]
            return answers.pop(0) if len(answers) > 1 else answers[0]
