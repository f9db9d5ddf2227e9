"""Messages that are delivered later, or taken back before."""

from runner.stage import END_S, await_steps, finish, number_of, stop

# Due in 3 s, and a minute ago.
DELAYS_S = [3, -60]
LATE_MS_MAX = 2000


def delay(run, clients):
    """A message is delivered when it is due, not before; one that was due before it was sent at once."""

    def judge(client):
        place = run.prepare("delay", client, "delay")
        delays = ",".join(str(delay_s) for delay_s in DELAYS_S)
        with run.program(client, "read", expect=len(DELAYS_S), **place) as reader:
            await_steps(reader, "ready", 1)
            sent = run.send(client, topic=place["topic"], count=len(DELAYS_S), kinds="delay", delays_s=delays)
            finish(reader)
            received = reader.steps("read")
        due = lambda number: client.shown_due_ms(sent[number]["due_ms"])
        run.check_received(f"delay {client.name} receives what was sent", client, sent, received, due_ms=due)
        late_ms = {number_of(step): step["clock_ms"] - sent[number_of(step)]["due_ms"] for step in received}
        is_in_time = 0 <= late_ms.get(0, -1) <= LATE_MS_MAX
        run.report.check(f"delay {client.name} receives when it is due", is_in_time, f"{late_ms.get(0)} ms later")
        at_once_ms = [step["clock_ms"] - sent[1]["clock_ms"] for step in received if number_of(step) == 1]
        is_at_once = bool(at_once_ms) and at_once_ms[0] <= LATE_MS_MAX
        run.report.check(f"delay {client.name} receives what is overdue", is_at_once, f"{at_once_ms} ms later")
        run.check_settled(f"delay {client.name} has acknowledged", place["group"])

    run.each("delay", clients, 2, judge)


# Longer than the program's first message takes to become due.
RECALLED_S = 25


def recall(run, clients):
    """A message recalled in time, once or twice, is never delivered; one that was delivered cannot be recalled."""

    def judge(client):
        place = run.prepare("recall", client, "delay")
        with (
            run.program(client, "read", expect=2, timeout_s=RECALLED_S, **place) as reader,
            run.program(client, "recall", prefix=client.name, topic=place["topic"]) as program,
        ):
            await_steps(program, "sent", 2)
            await_steps(reader, "read", 1)
            stop(program)
            finish(reader, RECALLED_S + END_S)
            sent = [step["id"] for step in program.steps("sent")]
            recalled = [step["id"] for name in ("recalled", "again") for step in program.steps(name)]
            refusals = [step["text"][:200] for step in program.steps("late")]
            received = [step["message"]["id"] for step in reader.steps("read")]
        is_told = recalled == sent[:1] * 2
        run.report.check(f"recall {client.name} is told the id each time", is_told, f"{recalled}, sent {sent}")
        run.report.check(f"recall {client.name} fails when it is too late", len(refusals) == 1, "; ".join(refusals))
        run.report.check(f"recall {client.name} receives only the other", received == sent[1:], f"{received}")

    run.each("recall", clients, 4, judge)
