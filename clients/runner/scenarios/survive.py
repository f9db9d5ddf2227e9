"""A server that crashes and comes back under running clients."""

import time

from runner.stage import END_S

# How long the server stays away: long enough for every client to notice.
DOWN_S = 3
RESUME_S_MAX = 60
# Acknowledged by every client before the server is killed, and again before the end.
SURVIVE_ROUND = 200
# From the start of the last program until all of them have come so far.
RUN_S_MAX = 180
# A lease that the killed server had given out runs its full time before anybody gets the message again.
DRAIN_S = 120


def survive(run, clients):
    """The server is killed and started again under running clients: they go on, and nothing is lost."""
    programs = {}
    try:
        for client in clients:
            # A client without a push consumer takes the simple one in any case.
            for consume in ("push", "simple") if "push" in client.scenarios else ("simple",):
                settings = {**run.prepare(f"survive-{consume}", client), "prefix": client.name, "drain_s": DRAIN_S}
                program = run.program(client, "survive", consume=consume, **settings)
                programs[f"{client.name} {consume}"] = program
        started = time.monotonic()
        for name, program in programs.items():
            _judge_start(run, name, program, started)
        run.server.kill()
        time.sleep(DOWN_S)
        run.server.start()
        restarted = time.monotonic()
        for name, program in programs.items():
            _judge_resumption(run, name, program, restarted)
        for program in programs.values():
            program.say("stop")
        stopped = time.monotonic()
        for name, program in programs.items():
            _judge_loss(run, name, program, stopped)
    finally:
        for program in programs.values():
            program.__exit__()


def _judge_start(run, name, program, started):
    """Waits until a first round of messages has been consumed."""
    program.wait_for(lambda: len(program.steps("acked")) >= SURVIVE_ROUND, _left(started, RUN_S_MAX))
    acked = len(program.steps("acked"))
    run.report.check(f"survive {name} runs", acked >= SURVIVE_ROUND, f"{acked} messages consumed")


def _judge_resumption(run, name, program, restarted):
    """Waits until messages sent after the restart have been consumed."""

    def consumed_since():
        fresh = {step["id"] for step in program.steps("sent") if step["at"] > restarted}
        return [step["at"] for step in program.steps("acked") if step["id"] in fresh]

    program.wait_for(lambda: len(consumed_since()) >= SURVIVE_ROUND, _left(restarted, RESUME_S_MAX))
    times = consumed_since()
    resumed = bool(times) and times[0] - restarted <= RESUME_S_MAX
    detail = f"after {times[0] - restarted:.1f} s" if times else f"not within {RESUME_S_MAX} s"
    run.report.check(f"survive {name} consumes again", resumed, detail)


def _judge_loss(run, name, program, stopped):
    trouble = program.finish(_left(stopped, DRAIN_S + END_S))
    run.report.check(f"survive {name} ends", trouble is None, trouble or "")
    sent = {step["id"] for step in program.steps("sent")}
    acked = [step["id"] for step in program.steps("acked")]
    lost = sent - set(acked)
    detail = f"{len(sent)} sent, {len(acked)} consumed, {len(acked) - len(set(acked))} of them again"
    detail += f", lost {sorted(lost)[:5]}" if lost else ""
    run.report.check(f"survive {name} loses nothing", bool(sent) and not lost, detail)


def _left(since, s_max):
    """What is left of `s_max` seconds since then: programs that wait side by side share one deadline."""
    return max(0, since + s_max - time.monotonic())
