"""Clients of many topics."""

from runner.messages import differences
from runner.stage import finish

# The Node.js client looks for the server's settings only once it has the routes of all its topics. With so many
# the settings have come before, and it waits until the server, which notices its silence, says them again.
COUNT = 8
START_MS_MAX = 5000


def topics(run, clients):
    """A producer, a push consumer and a simple consumer of many topics start in time, and serve them all."""

    def judge(client):
        name = f"topics {client.name}"
        names = [f"topics-{number}-{client.name}" for number in range(COUNT)]
        for topic in names:
            run.server.create_topic(topic)
        groups = {f"{how}_group": f"topics-{how}-{client.name}" for how in ("push", "simple")}
        for group in groups.values():
            run.server.create_group(group)
        with run.program(client, "topics", prefix=client.name, topic=",".join(names), **groups) as program:
            finish(program)
            starts = {step["client"]: step["ms"] for step in program.steps("started")}
            sent, pushed, read = (program.steps(step) for step in ("sent", "attempt", "read"))
        is_fast = len(starts) == 3 and max(starts.values()) < START_MS_MAX
        run.report.check(f"{name} starts fast", is_fast, f"{starts} ms")
        for how, received in (("with its listener", pushed), ("with its simple consumer", read)):
            wrong = _differences(client, sent, received)
            run.report.check(f"{name} receives of all {how}", not wrong, "; ".join(wrong))
        for group in groups.values():
            run.check_settled(f"{name} has acknowledged in {group}", group)

    run.each("topics", clients, 3, judge)


def _differences(client, sent, received):
    by_topic = {step["topic"]: step["message"] for step in received}
    wrong = [] if len(received) == len(sent) else [f"{len(received)} messages, not {len(sent)}"]
    for step in sent:
        if step["topic"] in by_topic:
            wrong += differences(by_topic[step["topic"]], client.name, step["number"], step["id"])
        else:
            wrong.append(f"nothing of {step['topic']}")
    return wrong
