"""A load whose clients retry as an ordinary client does, for tests of restarts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from mayfly import Client, Execution
from tests.harness import eventually

CLIENTS = 3


@contextmanager
def patient_load(url: str, key: str) -> Iterator[Callable[[int], None]]:
    """Three clients that run one program after another; call what is given to wait until so many more have ended.

    On leaving, whatever failed a client is raised, and every execution must have succeeded.
    """
    over = threading.Event()
    ended: list[Execution] = []

    def load() -> None:
        with Client(url, key, patience_seconds=120) as client:
            client.ready()
            while not over.is_set():
                queued = client.submit("echo yes", environment="bash", limits={"wall_seconds": 60})
                ended.append(client.wait(queued.id, 120))

    def more(count: int) -> None:
        enough = len(ended) + count
        eventually(lambda: len(ended) >= enough, "executions end", 120)

    with ThreadPoolExecutor(CLIENTS) as threads:
        clients = [threads.submit(load) for _ in range(CLIENTS)]
        try:
            yield more
        finally:
            over.set()
        for client in clients:
            client.result(240)
    assert {(one.state, one.stdout) for one in ended} == {("succeeded", "yes\n")}
