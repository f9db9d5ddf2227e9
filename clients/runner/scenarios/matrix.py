"""Exchanges between languages: what one sends, every other reads."""

from runner.messages import differences

COUNT = 4
MIXED = ["normal", "fifo", "delay", "transaction"]
GROUP, DELAY_S, PRIORITY = "group-世界", 1, 3


def matrix(run, clients):
    """Every client reads what every client sent, byte for byte."""
    _exchange(run, "matrix", "normal", clients, clients, count=COUNT)


def kinds(run, clients):
    """The same with messages of every kind; those with a priority need a topic of their own."""
    settings = {"count": len(MIXED), "kinds": ",".join(MIXED), "groups": GROUP, "delays_s": DELAY_S}
    _exchange(run, "kinds-mixed", "mixed", clients, clients, **settings)
    able = [client for client in clients if "priority" in client.scenarios]
    _exchange(run, "kinds-priority", "priority", able, clients, kinds="priority", priorities=PRIORITY)


def _exchange(run, topic, topic_type, senders, readers, **settings):
    run.server.create_topic(topic, topic_type)
    sent = {}

    def send(client):
        sent[client.name] = run.send(client, topic=topic, **settings)

    def read(client):
        run.server.create_group(f"{topic}-{client.name}")
        expect = sum(len(steps) for steps in sent.values())
        steps = run.read(client, topic=topic, group=f"{topic}-{client.name}", expect=expect)
        received = {step["message"]["id"]: step["message"] for step in steps}
        for sender, numbers in sent.items():
            wrong = []
            for number, step in numbers.items():
                message = received.get(step["id"])
                if message is None:
                    wrong.append(f"message {number} did not arrive")
                else:
                    wrong += differences(message, sender, number, step["id"], **_kind(settings, step, client))
            run.report.check(f"{topic} {client.name} reads {sender}", not wrong, "; ".join(wrong))

    run.each(f"{topic} send", senders, 3, send)
    run.each(f"{topic} read", readers, 3, read)


def _kind(settings, step, reader):
    """The fields that make the sent message one of its kind, as `reader` shows them."""
    kinds = settings.get("kinds", "normal").split(",")
    match kinds[step["number"] % len(kinds)]:
        case "fifo":
            return {"group": GROUP}
        case "delay":
            return {"due_ms": reader.shown_due_ms(step["due_ms"])}
        case "priority":
            return {"priority": PRIORITY}
        case _:
            return {}
