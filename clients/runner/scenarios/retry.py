"""A message that a simple consumer did not settle comes again."""

from runner.messages import differences
from runner.stage import finish

# The program gives the message back with this duration; one that cannot takes it with that lease.
RETURNED_S, LEASE_S = 2, 10
# The times are those at which the runner reads of the steps. Much later is another lease, of 60 s.
EARLY_S, LATE_S = 0.5, 5


def retry(run, clients):
    """A message that was given back, or not settled in time, is received again, as attempt 2 and unchanged."""

    def judge(client):
        name = f"retry {client.name}"
        place = run.prepare("retry", client)
        sent = run.send(client, topic=place["topic"])
        with run.program(client, "retry", **place) as program:
            finish(program)
            first, second = program.steps("attempt")
            returned = program.steps("returned")
        wrong = differences(first["message"], client.name, 0, sent[0]["id"])
        wrong += differences(second["message"], client.name, 0, sent[0]["id"], attempt=2)
        run.report.check(f"{name} receives the same again as attempt 2", not wrong, "; ".join(wrong))
        since, wait_s = (returned[0], RETURNED_S) if client.extends_lease else (first, LEASE_S)
        again_s = second["at"] - since["at"]
        is_in_time = wait_s - EARLY_S <= again_s <= wait_s + LATE_S
        run.report.check(f"{name} receives it again in time", is_in_time, f"after {again_s:.1f} s")
        run.check_settled(f"{name} has acknowledged", place["group"])

    run.each("retry", clients, 3, judge)
