"""Transactions that are committed, rolled back, or left to the server's question."""

from runner.stage import await_steps, finish, stop

# Longer than the server takes to ask about an open transaction; the reader waits that long for a message
# that must not come.
ASKED_S = 20


def transaction(run, clients):
    """What is committed arrives, what is rolled back never does; about the rest the server asks."""

    def judge(client):
        place = run.prepare("transaction", client, "transaction")
        with (
            run.program(client, "transaction", prefix=client.name, topic=place["topic"]) as program,
            run.program(client, "read", expect=3, timeout_s=ASKED_S, **place) as reader,
        ):
            sent = {step["end"]: step for step in await_steps(program, "sent", 3)}
            finish(reader)
            stop(program)
            checked = {step["message"]["id"] for step in program.steps("checked")}
            received = reader.steps("read")
        name = f"transaction {client.name}"
        arrived = {sent[end]["number"]: sent[end] for end in ("commit", "open")}
        run.check_received(f"{name} receives what was committed", client, arrived, received)
        run.report.check(f"{name} is asked about the open one", checked == {sent["open"]["id"]}, f"{checked}")

    run.each("transaction", clients, 3, judge)
