"""The cost of the engine proxy: ``python -m tests.bench.guards.engine_proxy [EXECUTIONS]``.

Two installations in one run, one with the engine's socket and one with the proxy, take turns: warm executions of a
program of one line, one that prints 4 MB, and launches of containers. Only the ratios mean anything.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from orchestrator.settings import Settings
from orchestrator.store import open_store
from tests.builders.sandboxes.proxied import Proxied
from tests.harness import IMAGES, Process, RedisServer, Stack, eventually
from tests.hostile.sandbox import Bench

EXECUTIONS = 100
LARGE = "import os\nfor _ in range(64): os.write(1, b'x' * 65535 + b'\\n')"
POOL = {"pool_size": 0, "pool_sizes": {"python": 2}, "pool_max": 0, "slots": 1}
LIMITS = {"output_bytes": 8 * 2**20}


def stack(directory: Path, ends: ExitStack, *, proxied: bool) -> Stack:
    """An installation; its end is on the stack of ends."""
    directory.mkdir()
    settings = {"engine_proxy": "true", "engine_metrics_port": "0"} if proxied else {}
    made = Stack(directory, **POOL, **settings)
    if proxied:
        command = [sys.executable, "-m", "worker.engine_proxy"]
        process = Process(command, made.env, directory / "engine-proxy.log")
        ends.callback(process.stop)
        eventually((directory / "state" / "engine.sock").exists, "the proxy listens")
    ends.callback(made.stop)
    return made.start()


def seconds(work: Callable[[], object]) -> float:
    """How long some work took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def executions(made: Stack, code: str) -> Callable[[], object]:
    """One warm execution; the container that replaces the used one is awaited first, and not timed."""

    def run() -> object:
        return made.run(code=code, limits=LIMITS)

    return run


def by_turns(direct: Callable[[], object], proxied: Callable[[], object], ready: Callable[[], object], n: int) -> str:
    """A row of the table: medians in milliseconds, and their ratio."""
    taken: tuple[list[float], list[float]] = [], []
    for number in range(2 * n):
        ready()
        taken[number % 2].append(seconds((direct, proxied)[number % 2]))
    first, second = (1000 * statistics.median(one[2:]) for one in taken)
    return f"{first:.2f} | {second:.2f} | {second / first:.3f} |"


def main(arguments: list[str]) -> None:
    """Print the table."""
    n = int(arguments[0]) if arguments else EXECUTIONS
    with tempfile.TemporaryDirectory(prefix="mayfly-bench-") as place, ExitStack() as ends:
        home = Path(place)
        both = [stack(home / name, ends, proxied=name == "proxied") for name in ("direct", "proxied")]

        def warm() -> None:
            eventually(lambda: all(one.waiting() == 2 for one in both), "both pools are full", 120)

        print("| median of executions, by turns | direct, ms | through the proxy, ms | ratio |\n|---|---|---|---|")
        for name, code in (("one line", "print(1)"), ("4 MB of output", LARGE)):
            row = by_turns(executions(both[0], code), executions(both[1], code), warm, n)
            print(f"| {name}, warm | {row}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mayfly-bench-") as place, ExitStack() as ends:
        redis = RedisServer(Path(place))
        redis.start()
        ends.callback(redis.stop)
        store = open_store(Settings(state_dir=Path(place), redis_url=redis.url))
        host = ends.enter_context(closing(Proxied(IMAGES, store.security)))
        bench = ends.enter_context(closing(Bench(Path(place) / "bench", IMAGES)))
        python = host.environments["python"]

        def launch(launcher: object) -> Callable[[], object]:
            def run() -> None:
                launcher.destroy(launcher.launch(python, "standard", python.defaults))  # type: ignore[attr-defined]

            return run

        row = by_turns(launch(bench.launcher), launch(host.launcher), lambda: None, n)
        print(f"| a container, launched and removed | {row}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
