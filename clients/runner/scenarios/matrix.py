"""Exchanges between languages: what one sends, every other reads."""

from contextlib import ExitStack

from runner.messages import differences
from runner.stage import await_steps, stop

COUNT = 4
MIXED = ["normal", "fifo", "delay", "transaction"]
GROUP, DELAY_S, PRIORITY = "group-世界", 1, 3
# One letter: see the rooms of lite topics.
LITE_TOPIC = "x"
# Two of the clients receive no more than 4 MiB at a time, the rest of the message included.
LARGE_BYTES = 3900 << 10


def matrix(run, clients):
    """Every client reads what every client sent, byte for byte."""
    _exchange(run, "matrix", "normal", clients, clients, count=COUNT)


def large(run, clients):
    """The same with a body that is nearly as large as allowed."""
    able = [client for client in clients if client.sends_large]
    _exchange(run, "large", "normal", able, clients, body_bytes=LARGE_BYTES)


def kinds(run, clients):
    """The same with messages of every kind; those with a priority or a lite topic need topics of their own."""
    settings = {"count": len(MIXED), "kinds": ",".join(MIXED), "groups": GROUP, "delays_s": DELAY_S}
    _exchange(run, "kinds-mixed", "mixed", clients, clients, **settings)
    able = [client for client in clients if "priority" in client.scenarios]
    _exchange(run, "kinds-priority", "priority", able, clients, kinds="priority", priorities=PRIORITY)
    able = [client for client in clients if "lite" in client.scenarios]
    _exchange_lite(run, "kinds-lite", able, kinds="lite", lites=LITE_TOPIC, count=COUNT)


def _exchange(run, topic, topic_type, senders, readers, **settings):
    run.server.create_topic(topic, topic_type)
    sent = {}

    def send(client):
        sent[client.name] = run.send(client, topic=topic, **settings)

    def read(client):
        run.server.create_group(f"{topic}-{client.name}")
        expect = sum(len(steps) for steps in sent.values())
        steps = run.read(client, topic=topic, group=f"{topic}-{client.name}", expect=expect)
        _judge(run, topic, client, sent, steps, settings)

    run.each(f"{topic} send", senders, 3, send)
    run.each(f"{topic} read", readers, 3, read)


def _exchange_lite(run, topic, clients, **settings):
    """As lite topics are consumed from where the subscription begins, the readers are there first."""
    run.server.create_topic(topic, "lite")
    sent, listeners = {}, {}
    with ExitStack() as running:

        def listen(client):
            group = f"{topic}-{client.name}"
            run.server.create_group(group, lite_topic=topic)
            listener = run.program(client, "listen-lite", topic=topic, group=group, subscribe=LITE_TOPIC)
            listeners[client.name] = running.enter_context(listener)
            await_steps(listener, "ready", 1)

        def send(client):
            sent[client.name] = run.send(client, topic=topic, **settings)

        def read(client):
            await_steps(listeners[client.name], "attempt", sum(len(steps) for steps in sent.values()))
            stop(listeners[client.name])
            _judge(run, topic, client, sent, listeners[client.name].steps("attempt"), settings)

        run.each(f"{topic} listen", clients, 3, listen)
        run.each(f"{topic} send", clients, 3, send)
        run.each(f"{topic} read", clients, 3, read)


def _judge(run, topic, reader, sent, steps, settings):
    """Checks that all that the senders sent is among what one client received."""
    received = {step["message"]["id"]: step["message"] for step in steps}
    for sender, numbers in sent.items():
        wrong = []
        for number, step in numbers.items():
            message = received.get(step["id"])
            if message is None:
                wrong.append(f"message {number} did not arrive")
            else:
                kind = _kind(settings, step, reader)
                body_bytes = settings.get("body_bytes", 0)
                wrong += differences(message, sender, number, step["id"], body_bytes=body_bytes, **kind)
        run.report.check(f"{topic} {reader.name} reads {sender}", not wrong, "; ".join(wrong))


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
        case "lite":
            return {"lite_topic": LITE_TOPIC}
        case _:
            return {}
