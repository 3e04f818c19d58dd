"""The other end of ``tests/bench/systems/child.py``: serves one contestant over stdin and stdout, in JSON lines.

Runs in virtual environments that hold nothing but a peer, so it is a script beside the peers' and needs nothing but
the standard library. Everything that is timed is timed here.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Program = dict[str, Any]


class Contestant:
    """The methods of a contestant. Programs are documents, as ``bench/systems/programs.py`` makes them."""

    def about(self) -> dict[str, str]:
        """Versions of what takes part, by name."""
        raise NotImplementedError

    def prepare(self, program: Program, at_once: int) -> None:
        """Get ready for up to ``at_once`` runs of a program at a time; nothing of this is timed."""

    def settle(self) -> None:
        """Wait until a run finds the machine idle and whatever is made ahead is made; not timed either."""

    def run(self, program: Program) -> float:
        """Run it once, check what it printed, and give the seconds until its caller knew how it ended."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave nothing behind."""


def check(program: Program, output: str | bytes) -> None:
    """Fail unless the program printed what it should."""
    if isinstance(output, bytes):
        output = output.decode()
    if output != program["stdout"]:
        raise AssertionError(f"{program['name']} printed {output[:200]!r}")


def latency(contestant: Contestant, program: Program, runs: int) -> list[float]:
    """Seconds of each of ``runs`` runs, one after another."""
    contestant.prepare(program, 1)
    seconds = []
    for _ in range(runs):
        contestant.settle()
        seconds.append(contestant.run(program))
    return seconds


def crowd(
    contestant: Contestant, program: Program, at_once: int, seconds: float | None = None, runs: int | None = None
) -> list[float]:
    """When each run had ended, in seconds from the first one's start: for some time, or that many of them."""
    contestant.prepare(program, at_once)
    contestant.settle()
    left = itertools.count(runs or sys.maxsize, -1)
    began = time.monotonic()

    def one_after_another() -> list[float]:
        ends = []
        while (seconds is None or time.monotonic() - began < seconds) and next(left) > 0:
            contestant.run(program)
            ends.append(time.monotonic() - began)
        return ends

    with ThreadPoolExecutor(at_once) as threads:
        clients = [threads.submit(one_after_another) for _ in range(at_once)]
        return sorted(end for client in clients for end in client.result())


def serve(make: Callable[[Any], dict[str, Any]]) -> None:
    """Answer requests until stdin ends. ``make`` gets the first document, and gives the contestants by variant."""
    requests, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print must not spoil the answers

    def answer(document: object) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    contestants = make(json.loads(requests.readline()))
    try:
        answer({name: contestant.about() for name, contestant in contestants.items()})
        for line in requests:
            asked = json.loads(line)
            contestant, program = contestants[asked["variant"]], asked["program"]
            ways: dict[str, Callable[..., list[float]]] = {"latency": latency, "crowd": crowd}
            try:
                answer({"seconds": ways[asked["do"]](contestant, program, **asked["how"])})
            except Exception as error:  # one contestant's failure is a finding, and the others continue
                answer({"failed": f"{type(error).__name__}: {error}"[:1000]})
            finally:
                contestant.close()
    finally:
        for contestant in contestants.values():
            contestant.close()
        sys.stdout.flush()
