"""The cost of an agent's call beside the same REST call, of a hundred agents at once, and of 10 MB within a budget.

A part of ``make bench``, or ``python -m tests.bench.agents`` alone. Calls that are compared take turns on one
installation, so that only their difference counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice, permutations
from pathlib import Path
from typing import Any

import psutil

from tests.bench.expected import BY_KEY
from tests.bench.measure import percentile
from tests.bench.systems.mayfly import Driver
from tests.builders.mcp_calls import ERAS, LEGACY, MODERN, Agent
from tests.harness import Stack

AGENTS = 100
SETTLING, RUNS, ROUNDS = 10, 60, 4
CODE = "print(6 * 7)"
LINES = 10 * 2**20 // 64
LARGE = f"import sys\nfor n in range({LINES}): sys.stdout.write(f'{{n:063}}\\n')"
OVERHEAD = {MODERN: "agent_overhead", LEGACY: "agent_overhead_legacy"}


def figures(driver: Driver, directory: Path, runs: int = RUNS, rounds: int = ROUNDS) -> dict[str, float]:
    """All figures of an installation in that directory, by their keys in ``expected.py``."""
    settings: dict[str, Any] = {"driver": driver.driver, "standard_runtime": driver.runtime}
    stack = Stack(directory, **settings, pool_size=0, pool_sizes={"python": 2}, pool_max=0)
    try:
        stack.start()
        return overheads(stack, runs) | crowd(stack, rounds) | budget(stack, runs)
    finally:
        stack.stop()


def milliseconds_of(call: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def execute(agent: Agent) -> None:
    """Run the program as an agent does, and check the answer."""
    assert not agent.call("execute_code", code=CODE, mode="script")["isError"]


def overheads(stack: Stack, runs: int) -> dict[str, float]:
    """The p50 in ms of what ``execute_code`` takes more than the REST call of the same turn, for each era.

    Each order of the three calls has its turns: a call also pays for the container made in place of the one before.
    """

    def rest() -> None:
        assert stack.run(code=CODE)["state"] == "succeeded"

    calls: dict[str, Callable[[], None]] = {"rest": rest}
    for era in ERAS:  # with a session, as older clients have, so that calls are kept
        calls[era] = partial(execute, Agent(stack, era, headers={"Mcp-Session-Id": "bench"}))
    orders = list(permutations(calls))
    for name in orders[0] * SETTLING:  # what it imports is no overhead of the others
        calls[name]()
    turns = [{name: milliseconds_of(calls[name]) for name in order} for order in islice(cycle(orders), runs)]
    return {OVERHEAD[era]: statistics.median(turn[era] - turn["rest"] for turn in turns) for era in ERAS}


def crowd(stack: Stack, rounds: int) -> dict[str, float]:
    """A hundred agents call at once, in rounds: their calls a second, and the growth of the API's resident memory.

    Connections and threads are made in a round that is not counted.
    """
    assert stack.api is not None
    api, agent = psutil.Process(stack.api.pid), Agent(stack)
    took, resident = [], []
    with ThreadPoolExecutor(AGENTS) as pool:
        for _ in range(1 + rounds):
            took.append(milliseconds_of(lambda: list(pool.map(execute, [agent] * AGENTS))))
            resident.append(api.memory_info().rss)
    return {"agents_rate": 1000 * AGENTS / statistics.median(took[1:]), "agents_growth": resident[-1] / resident[0]}


def budget(stack: Stack, runs: int) -> dict[str, float]:
    """The additional cost of 10 MB of output over a line, for an agent's look (p50 in ms), and the p99 of
    other requests meanwhile.
    """
    agent = Agent(stack)
    small, large = stack.run(code=CODE), stack.run(code=LARGE, limits={"output_bytes": 16 * 2**20})
    assert large["stdout_bytes"] == 64 * LINES, large

    def look(execution: dict[str, Any]) -> None:
        assert not agent.call("get_execution", execution_id=execution["id"])["isError"]

    look(small)
    look(large)
    done, beside = threading.Event(), []

    def ask() -> None:
        while not done.wait(0.002):
            beside.append(milliseconds_of(lambda: stack.client.get("/livez").raise_for_status()))

    with ThreadPoolExecutor(1) as other:
        asked = other.submit(ask)
        pairs = [(milliseconds_of(lambda: look(small)), milliseconds_of(lambda: look(large))) for _ in range(runs)]
        done.set()
        asked.result()
    costs = statistics.median(ours - theirs for theirs, ours in pairs)
    return {"agent_budget": costs, "agent_budget_beside": percentile(beside, 0.99)}


def main() -> None:
    """Print all figures as a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.agents", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--driver", default="oci/crun", help="a driver and a runtime, such as docker/runc")
    options = parser.parse_args()
    driver = Driver(*options.driver.split("/"))
    with tempfile.TemporaryDirectory(prefix="mayfly-bench-") as directory:
        for key, value in figures(driver, Path(directory), options.runs, options.rounds).items():
            print(f"{BY_KEY[key].title}: {value:.3g} {BY_KEY[key].unit}, {BY_KEY[key].verdict(value)}")


if __name__ == "__main__":
    main()
