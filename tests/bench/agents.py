"""What an agent's call costs beside the same REST call, and a hundred agents at once: ``python -m tests.bench.agents``.

Both kinds of call take turns on one installation with driver `oci`, so that only their difference counts. The hundred
agents call in rounds; the API's resident memory is read after each.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from tests.builders.mcp_calls import ERAS, Agent
from tests.harness import Stack

AGENTS = 100
CODE = "print(6 * 7)"


def seconds_of(call: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def overheads(stack: Stack, runs: int) -> dict[str, tuple[float, float, float]]:
    """For each era the p50 in ms of REST, of ``execute_code``, and of the differences of neighbours."""
    found = {}
    for era in ERAS:
        agent = Agent(stack, era)

        def call(agent: Agent = agent) -> None:
            assert not agent.call("execute_code", code=CODE, mode="script")["isError"]

        def rest() -> None:
            assert stack.run(code=CODE)["state"] == "succeeded"

        for warm in (rest, call):
            warm()
        pairs = [(seconds_of(rest), seconds_of(call)) for _ in range(runs)]
        differences = [ours - theirs for theirs, ours in pairs]
        columns = (*zip(*pairs, strict=True), differences)
        rest_ms, call_ms, more_ms = (1000 * statistics.median(column) for column in columns)
        found[era] = (rest_ms, call_ms, more_ms)
    return found


def crowd(stack: Stack, rounds: int) -> list[tuple[float, float]]:
    """Seconds that a hundred agents' calls take, and the API's memory in MB afterwards, for each round."""
    assert stack.api is not None
    api, agent, found = psutil.Process(stack.api.pid), Agent(stack), []

    def call(_: int) -> None:
        assert not agent.call("execute_code", code=CODE, mode="script")["isError"]

    with ThreadPoolExecutor(AGENTS) as pool:
        for _ in range(rounds):
            took = seconds_of(lambda: list(pool.map(call, range(AGENTS))))
            found.append((took, api.memory_info().rss / 1e6))
    return found


def main() -> None:
    """Print all figures as a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.agents", description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        stack = Stack(Path(directory), driver="oci", pool_size=0, pool_sizes={"python": 2})
        try:
            stack.start()
            for era, (rest, call, more) in overheads(stack, options.runs).items():
                print(f"{era}: REST p50 {rest:.1f} ms, execute_code p50 {call:.1f} ms, difference p50 {more:.1f} ms")
            for number, (took, memory) in enumerate(crowd(stack, options.rounds), 1):
                print(f"round {number}: {AGENTS} agents in {took:.1f} s, API {memory:.0f} MB")
        finally:
            stack.stop()


if __name__ == "__main__":
    main()
