"""Lite topics: small ordered topics inside one, to which each consumer subscribes by itself."""

from runner.stage import await_steps, finish, number_of, stop, turn

LITE_TOPICS = ["one", "two", "three"]
SUBSCRIBED = LITE_TOPICS[:2]
KIND = {"kinds": "lite", "lites": ",".join(LITE_TOPICS)}
# Four messages for each lite topic, and again after the end of a subscription.
COUNT = 4 * len(LITE_TOPICS)
AT = turn(LITE_TOPICS)


def lite(run, clients):
    """A push consumer is called for what it subscribes to, in order, until it subscribes no more."""

    def judge(client):
        place = _prepare(run, "lite", client)
        with run.program(client, "listen-lite", subscribe=",".join(SUBSCRIBED), **place) as listener:
            await_steps(listener, "ready", 1)
            before = run.send(client, topic=place["topic"], count=COUNT, **KIND)
            await_steps(listener, "attempt", len(_of(before, SUBSCRIBED)))
            ended, kept = SUBSCRIBED
            listener.say(f"unsubscribe {ended}")
            await_steps(listener, "unsubscribed", 1)
            after = run.send(client, topic=place["topic"], first=COUNT, count=COUNT, **KIND)
            wanted = {**_of(before, SUBSCRIBED), **_of(after, [kept])}
            await_steps(listener, "attempt", len(wanted))
            stop(listener)
            _judge(run, f"lite {client.name}", client, wanted, listener.steps("attempt"))

    run.each("lite", clients, 2, judge)


def lite_simple(run, clients):
    """The same for a simple consumer, which never ends a subscription."""

    def judge(client):
        place = _prepare(run, "lite-simple", client)
        expect = COUNT * len(SUBSCRIBED) // len(LITE_TOPICS)
        with run.program(client, "read-lite", subscribe=",".join(SUBSCRIBED), expect=expect, **place) as reader:
            await_steps(reader, "ready", 1)
            sent = run.send(client, topic=place["topic"], count=COUNT, **KIND)
            finish(reader)
            _judge(run, f"lite-simple {client.name}", client, _of(sent, SUBSCRIBED), reader.steps("read"))

    run.each("lite-simple", clients, 2, judge)


def _prepare(run, scenario, client):
    name = f"{scenario}-{client.name}"
    run.server.create_topic(name, "lite")
    run.server.create_group(name, lite_topic=name)
    return {"topic": name, "group": name}


def _of(sent, lite_topics):
    """Those of the sent messages that are in some lite topics."""
    return {number: step for number, step in sent.items() if AT(number) in lite_topics}


def _judge(run, name, client, wanted, steps):
    run.check_received(f"{name} receives what it subscribes to", client, wanted, steps, lite_topic=AT)
    orders = {lite_topic: [n for n in map(number_of, steps) if AT(n) == lite_topic] for lite_topic in SUBSCRIBED}
    is_sorted = all(order == sorted(order) for order in orders.values())
    run.report.check(f"{name} receives in order", is_sorted, f"{orders}")
