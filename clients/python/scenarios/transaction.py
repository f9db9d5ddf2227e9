"""Transactions with the ends in `ends`, in turn: commit, rollback, open.

An open one is left to the server, which asks until standard input says `stop`.
"""

import client
import messages
import standard_input
from output import step, success


def run(arguments):
    with step("start"):
        producer = client.producer(arguments, [arguments.topic], checked=_report)
    for number, end in enumerate(arguments.words("ends", "commit,rollback,open")):
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


def _report(message):
    success("checked", message=messages.fields(message))
