"""Messages that overtake others."""

from runner.stage import number_of, turn

HIGHER = [4, 7]
# Five of each priority.
COUNT = 15


def priority(run, clients):
    """Of the messages that wait, those with the higher priority come first."""

    def judge(client):
        # A queue for each priority.
        place = run.prepare("priority", client, "priority", queues=8)
        priorities = [client.priority_min, *HIGHER]
        words = ",".join(str(priority) for priority in priorities)
        sent = run.send(client, topic=place["topic"], count=COUNT, kinds="priority", priorities=words)
        received = run.read(client, expect=COUNT, **place)
        at = turn(priorities)
        run.check_received(f"priority {client.name} receives what was sent", client, sent, received, priority=at)
        order = [at(number_of(step)) for step in received]
        is_sorted = order == sorted(order, reverse=True)
        run.report.check(f"priority {client.name} receives the higher first", is_sorted, f"{order}")
        run.check_settled(f"priority {client.name} has acknowledged", place["group"])

    run.each("priority", clients, 3, judge)
