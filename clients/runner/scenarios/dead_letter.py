"""Messages that fail too often."""

import time

from runner.stage import LOOK_S, Trouble, await_steps, stop

ATTEMPTS = 2
# Longer than the pauses between the attempts of every client.
DEAD_S = 60
# The user properties that a dead letter has beside those it was sent with.
DEATH = {f"DLQ_{of}" for of in ("GROUP", "ATTEMPTS", "REASON", "ORIGIN_QUEUE", "ORIGIN_OFFSET", "TIME_MS")}


def dead_letter(run, clients):
    """A message that fails as often as it may is found in the dead-letter topic, as it was sent."""

    def judge(client):
        place = run.prepare("dead-letter", client, max_attempts=ATTEMPTS)
        with run.program(client, "listen", fail=0, times=ATTEMPTS + 1, **place) as listener:
            await_steps(listener, "ready", 1)
            sent = run.send(client, topic=place["topic"])
            await_steps(listener, "attempt", ATTEMPTS)
            dead = read_dead_letters(run, client, place["group"])
            stop(listener)
            attempts = [step["message"]["attempt"] for step in listener.steps("attempt")]
        name = f"dead-letter {client.name}"
        run.report.check(f"{name} is called as often as it may be", attempts == [1, 2], f"{attempts}")
        died = [take_death(step["message"]) for step in dead]
        run.check_received(f"{name} finds the dead letter as it was sent", client, sent, dead)
        is_told = [properties.keys() for properties in died] == [DEATH]
        is_told = is_told and died[0]["DLQ_GROUP"] == place["group"] and died[0]["DLQ_ATTEMPTS"] == str(ATTEMPTS)
        run.report.check(f"{name} is told what the dead letter died of", is_told, f"{died}")
        run.check_settled(f"{name} has nothing left", place["group"])

    run.each("dead-letter", clients, 3, judge)


def take_death(message):
    """Takes what a dead letter says of its death out of its user properties, and returns it."""
    properties = message["properties"]
    return {key: properties.pop(key) for key in list(properties) if key.startswith("DLQ_")}


def read_dead_letters(run, client, group):
    """What a group of its own reads from the dead-letter topic of `group`, once there is one."""
    topic = f"%DLQ%{group}"
    deadline = time.monotonic() + DEAD_S
    while not run.server.has_topic(topic):
        if time.monotonic() > deadline:
            raise Trouble(f"there is no topic {topic} after {DEAD_S} s")
        time.sleep(LOOK_S)
    run.server.create_group(f"{group}-dead")
    return run.read(client, topic=topic, group=f"{group}-dead", expect=1, timeout_s=DEAD_S)
