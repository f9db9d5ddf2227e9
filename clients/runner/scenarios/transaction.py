"""Transactions that are committed, rolled back, or left to the server's question."""

from runner.stage import await_steps, finish, stop

# The server asks after 6 s, and again 30 s later; a proxy looks once a second what is to be asked.
FIRST_S, AGAIN_S = 6, 30
# Times are those at which the runner reads of the steps.
EARLY_S, LATE_S = 0.5, 9
ASKED_S = FIRST_S + AGAIN_S + 2 * LATE_S
# How often the server has to ask.
QUESTIONS = {"commit": 0, "rollback": 0, "open-commit": 1, "open-rollback": 1, "open-unknown": 2}
ARRIVE = ("commit", "open-commit", "open-unknown")


def transaction(run, clients):
    """What is committed arrives, what is rolled back never does; about the rest the server asks until it is told."""

    def judge(client):
        place = run.prepare("transaction", client, "transaction")
        with (
            run.program(client, "transaction", prefix=client.name, topic=place["topic"]) as program,
            run.program(client, "read", expect=len(ARRIVE), timeout_s=ASKED_S, **place) as reader,
        ):
            sent = {step["end"]: step for step in await_steps(program, "sent", len(QUESTIONS))}
            finish(reader)
            stop(program)
            asked_s = {end: _asked_s(program, step) for end, step in sent.items()}
            received = reader.steps("read")
        name = f"transaction {client.name}"
        arrived = {sent[end]["number"]: sent[end] for end in ARRIVE}
        run.check_received(f"{name} receives what was committed", client, arrived, received)
        # The last to arrive was settled long after the one that was rolled back on the server's question.
        run.check_settled(f"{name} receives nothing that was rolled back", place["group"])
        detail = ", ".join(f"{end} after {[round(s, 1) for s in times]} s" for end, times in asked_s.items() if times)
        is_asked = {end: len(times) for end, times in asked_s.items()} == QUESTIONS
        run.report.check(f"{name} is asked until it knows", is_asked, detail)
        is_in_time = all(_is_in_time(times) for times in asked_s.values())
        run.report.check(f"{name} is asked in time", is_in_time, detail)

    run.each("transaction", clients, 3, judge)


def _asked_s(program, sent):
    """When the server asked about a transaction, in s since it was sent."""
    return [step["at"] - sent["at"] for step in program.steps("checked") if step["message"]["id"] == sent["id"]]


def _is_in_time(asked_s):
    """Whether each question came as long as it must after the one before, or after the message."""
    waits_s = [asked - before for before, asked in zip([0, *asked_s], asked_s)]
    return all(wanted - EARLY_S <= wait <= wanted + LATE_S for wanted, wait in zip((FIRST_S, AGAIN_S), waits_s))
