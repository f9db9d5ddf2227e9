#!/usr/bin/env python3
"""Judges a server through the official clients: builds their programs, runs them, and reports each check.

Exit code: 0 when every check passed, 1 when one failed or the run could not be made.
"""

import argparse
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from runner import scenarios, toolchains
from runner.report import Report
from runner.server import NotReady, Server
from runner.stage import Run

ROOT = Path(__file__).resolve().parents[1]
DESCRIPTORS = "descriptors"
# Scenarios that wait at the same time. Each has up to four clients at work, of up to three programs: most of them
# wait, but more scenarios would start so many at once that on two cores a client gives up its first call, for which
# it has 3 s. A bound on the programs themselves would lock up: a scenario holds some while it waits for the next.
SIDE_BY_SIDE = 3


def main():
    arguments = _arguments()
    binary = arguments.binary.resolve()
    chosen = [client for client in toolchains.CLIENTS if client.name in arguments.client]
    toolchains.build(chosen)
    if DESCRIPTORS in arguments.scenario:
        toolchains.build_python()
    if not binary.is_file():
        raise SystemExit(f"there is no server at {binary}: build it, or name it with --binary")
    folder = Path(tempfile.mkdtemp(prefix="centaur-clients-"))
    report = Report()
    with Server(str(binary), folder) as server:
        run = Run(server, report, folder)
        if DESCRIPTORS in arguments.scenario:
            scenarios.descriptors(run)
        names = [name for name in scenarios.SCENARIOS if name in arguments.scenario]
        for waits, together in groupby(names, scenarios.WAITING.__contains__):
            _play_all(run, list(together), chosen, side_by_side=waits)
        report.check("the server is still alive", server.is_alive())
    print(report.summary())
    if report.failed or arguments.keep:
        print(f"logs are in {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if report.failed else 0


def _play_all(run, names, clients, side_by_side):
    with ThreadPoolExecutor(SIDE_BY_SIDE if side_by_side else 1) as pool:
        for played in [pool.submit(_play, run, name, clients) for name in names]:
            played.result()


def _play(run, name, clients):
    able = [client for client in clients if name in client.scenarios]
    try:
        if able:
            scenarios.SCENARIOS[name](run, able)
    except Exception as error:
        run.report.check(f"{name} runs through", False, run.told(error))


def _arguments():
    clients = [client.name for client in toolchains.CLIENTS]
    names = [DESCRIPTORS, *scenarios.SCENARIOS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--client", type=_some_of(clients), default=clients, help=f"some of {','.join(clients)}")
    parser.add_argument("--scenario", type=_some_of(names), default=names, help=f"some of {','.join(names)}")
    parser.add_argument("--binary", type=Path, default=ROOT / "target" / "release" / "centaur", help="the server")
    parser.add_argument("--keep", action="store_true", help="keep the logs and the data when all is well")
    return parser.parse_args()


def _some_of(known):
    """Reads a list with commas; a word that is not known is an error of the command line."""

    def read(text):
        words = text.split(",")
        unknown = [word for word in words if word not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(known)}")
        return words

    return read


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NotReady as error:
        sys.exit(str(error))
