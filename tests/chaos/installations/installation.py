"""An installation whose parts are killed, and clients that do not give up."""

from __future__ import annotations

import math
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2

from orchestrator.models import PRIORITIES
from orchestrator.states import TERMINAL, State
from tests.chaos.installations.containers import inside, leased, named, worker_of
from tests.chaos.installations.directories import lines
from tests.chaos.installations.workers import Crew, Fate
from tests.chaos.invariants import Accepted, left_on_host, violations
from tests.engine import Engine
from tests.harness import IMAGES, RedisServer, Stack, eventually

LEASE_SECONDS = 2
SLOTS = 3
PATIENCE_SECONDS = 120.0
DRIVERS: dict[str, dict[str, Any]] = {
    "none": {},
    "oci": {"driver": "oci", "standard_runtime": "crun", "hardened_runtime": "none", "retry_seconds": 0.2},
    "docker": {"driver": "docker", "retry_seconds": 0.2},  # for containers that are killed repeatedly
}
# It prints the lines of `lines`, and leaves the same as an artifact.
PROGRAM = """
import sys, time
token, number, pause_ms = sys.argv[1:]
with open("/output/lines", "w") as kept:
    for position in range(int(number)):
        time.sleep(int(pause_ms) / 1000)
        print(f"{token}:{position}", flush=True)
        print(f"{token}:{position}", file=kept)
"""
ORDINARY = (429, 500, 502, 503, 504)  # after which any client tries again


class Installation(Stack):
    """A stack whose workers a crew keeps alive. What Redis has confirmed is in its file.

    With driver ``none`` its containers are directories; with ``docker`` it has an engine of its own.
    """

    def __init__(self, directory: Path, driver: str = "none", **settings: Any) -> None:
        super().__init__(
            directory,
            **{
                "accept_weaker": True, "pool_size": 0, "pool_sizes": {"python": 1}, "pool_max": SLOTS, "slots": SLOTS,
                "lease_seconds": LEASE_SECONDS, "janitor_seconds": 0.2, "max_attempts": 50,
                "redis_timeout_seconds": 2, "metrics_port": 0, **DRIVERS[driver], **settings,
            },
        )  # fmt: skip
        self.redis = RedisServer(directory, "--appendfsync", "always")
        self.crew: Crew | None = None
        self.raw: Any = self.redis.client()
        self.driver = driver
        self.first_uid = int(self.env["MAYFLY_UID_FIRST"])
        self.engine: Engine | None = None
        if driver != "none":
            images = directory / "images"
            images.mkdir()
            for image in IMAGES.glob("python.*"):  # the others would only cost time to load
                (images / image.name).symlink_to(image)
            self.env["MAYFLY_IMAGES_DIR"] = str(images)
        if driver == "docker":
            self.engine = Engine(directory / "engine.log")
            self.env["MAYFLY_DOCKER_URL"] = self.engine.url

    def begin(self, size: int, fates: Iterator[Fate], weaker: Sequence[str] = (), **env: str) -> Crew:
        """Start Redis, the API, workers, and the engine if it has one."""
        if self.engine is not None:
            self.engine.start()
        self.redis.start()
        self.start_api()
        self.crew = Crew(size, {**self.env, **env}, self.directory, fates, weaker)
        self.crew.start()
        return self.crew

    def check(self, accepted: list[Accepted], seconds: float = 120.0, all_kept: bool = True) -> list[str]:
        """Every violation there is when the rest has been tidied up, or the time for that is over.

        The workers end in good order here. ``all_kept`` is for :func:`violations`.
        """
        deadline = time.monotonic() + seconds
        found: list[str] = []
        workers: set[int] = set()
        while self.crew is not None:
            while self._strangers(self.crew) and time.monotonic() < deadline:
                time.sleep(0.1)  # until the workers that live have reaped what the others left
            found = [f"{what} of a dead worker is left" for what in self._strangers(self.crew)]
            self.crew.stop()
            workers, codes = self.crew.born, self.crew.ended
            late = self.crew.unattended and time.monotonic() < deadline
            self.crew = self.crew.successor() if late else None
            found += [f"a worker ended with exit code {code}" for code in codes if code]
        for one in accepted:
            if one.reported is not None:
                one.reported_again = self.show(one.id)
                if self.driver != "none" and one.reported_again["state"] == State.SUCCEEDED:
                    one.artifact = self.client.get(f"/api/v1/executions/{one.id}/artifacts/lines").text
        while True:
            left = [*violations(self.raw, accepted, all_kept), *self._left(workers)]
            if not left or time.monotonic() > deadline:
                return [*found, *left]
            time.sleep(0.2)  # the janitor is alive, and killed processes are about to end

    def containers(self) -> list[str]:
        """Names of its containers, ended ones included."""
        if self.engine is None:
            return named(self.directory / "state")
        return self.engine.containers(self.installation)

    def stop(self) -> None:
        if self.crew is not None:
            self.crew.stop()
        self.raw.close()
        try:
            super().stop()
        finally:
            if self.engine is not None:
                self.engine.close()

    def _strangers(self, crew: Crew) -> list[str]:
        """Containers, and leases of uids, of workers that are not alive."""
        alive = set(crew.pids())
        left = [name for name in self.containers() if worker_of(name) not in alive]
        leases = leased(self.directory / "state" / "sandboxes")
        return left + [f"directory {name}" for name, worker in leases if worker not in alive]

    def _left(self, workers: set[int]) -> Iterator[str]:
        """The remains on this host."""
        yield from left_on_host(self.directory, workers)
        yield from (f"container {name} is left" for name in self.containers() if self.engine is not None)
        yield from (f"process {process.pid} of a container is left" for process in inside(self.first_uid))


class Client:
    """One client: submits, waits, sometimes cancels, and tries again as any client would."""

    def __init__(self, url: str, key: str, seed: int | str) -> None:
        self.chance = random.Random(seed)
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=15)
        self.accepted: list[Accepted] = []
        self.forgotten = 0
        self.again: Counter[str] = Counter()  # why it had to try again
        self.refused: list[str] = []  # what trying again does not mend

    def close(self) -> None:
        self._http.close()

    def run(self, number: int, pause_ms: int, cancel: bool = False) -> Accepted | None:
        """One execution, until its end is reported to the client."""
        one = self.submit(number, pause_ms)
        if one is None:
            return None
        if cancel:
            time.sleep(self.chance.random() * 0.2)
            one.cancelled = True
            self._ask("POST", f"/api/v1/executions/{one.id}/cancel", fine=(202, 409))
        self.await_end(one)
        return one

    def submit(self, number: int, pause_ms: int) -> Accepted | None:
        token = secrets.token_hex(8)
        answer = self._ask(
            "POST", "/api/v1/executions", fine=(202,), headers={"Idempotency-Key": token},
            json={
                "environment": "python", "code": PROGRAM, "args": [token, str(number), str(pause_ms)],
                "priority": self.chance.choice(PRIORITIES), "limits": {"wall_seconds": 60},
            },
        )  # fmt: skip
        if answer is None:
            return None
        one = Accepted(answer["id"], "".join(lines(token, number)))
        self.accepted.append(one)
        return one

    def await_end(self, one: Accepted) -> None:
        """Wait for its end."""
        deadline = time.monotonic() + 3 * PATIENCE_SECONDS  # one whose worker dies again and again
        while time.monotonic() < deadline:
            answer = self._ask("GET", f"/api/v1/executions/{one.id}", params={"wait": 10})
            if answer is None:
                return
            if answer["state"] in TERMINAL:
                one.reported = answer
                return

    def forget(self, one: Accepted) -> None:
        """Read the execution once more, and forget it."""
        one.reported_again = self._ask("GET", f"/api/v1/executions/{one.id}")
        self.accepted.remove(one)
        self.forgotten += 1

    def _ask(self, method: str, path: str, fine: tuple[int, ...] = (200,), **about: Any) -> dict[str, Any] | None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                answer = self._http.request(method, path, **about)
            except httpx2.TransportError as error:
                self.again[type(error).__name__] += 1
            else:
                if answer.status_code in fine:
                    found: dict[str, Any] = answer.json()
                    return found
                if answer.status_code not in ORDINARY:
                    self.refused.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
                    return None
                self.again[str(answer.status_code)] += 1
            time.sleep(0.1)  # before it tries again
        self.refused.append(f"{method} {path}: not within {PATIENCE_SECONDS:g} s")
        return None


class Load:
    """Clients that submit until they are stopped, or the given number of executions is accepted.

    All together they submit ``per_second``, as far as they can, else each as soon as its last one has ended. A
    ``judge`` is called with each ended execution, which is then dropped.
    """

    def __init__(
        self,
        stack: Stack,
        clients: int,
        seed: int,
        most: int = 10**9,
        pause_ms: int = 5,
        per_second: float = math.inf,
        judge: Callable[[Accepted], None] | None = None,
    ) -> None:
        self._left, self._pause_ms = most, pause_ms
        self._each_seconds, self._judge = clients / per_second, judge
        self._lock, self._stopping = threading.Lock(), threading.Event()
        self._clients = [Client(stack.env["MAYFLY_URL"], stack.key, f"{seed}-{number}") for number in range(clients)]
        self._threads = [threading.Thread(target=self._run, args=(client,), daemon=True) for client in self._clients]
        for thread in self._threads:
            thread.start()

    @property
    def accepted(self) -> list[Accepted]:
        return [one for client in self._clients for one in client.accepted]

    @property
    def forgotten(self) -> int:
        """How many have ended and were judged."""
        return sum(client.forgotten for client in self._clients)

    @property
    def reported(self) -> bool:
        """Whether any of them has ended."""
        return self.forgotten > 0 or any(one.reported is not None for one in self.accepted)

    @property
    def refused(self) -> list[str]:
        return [what for client in self._clients for what in client.refused]

    @property
    def again(self) -> Counter[str]:
        return sum((client.again for client in self._clients), Counter())

    @property
    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Submit no more, and wait for the end of all submitted executions."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        for client in self._clients:
            client.close()

    def finish(self) -> None:
        """Wait until all have run."""
        eventually(lambda: not self.busy, "every client is done", 2 * PATIENCE_SECONDS)
        self.stop()

    def _run(self, client: Client) -> None:
        chance = client.chance
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            with self._lock:
                if self._left <= 0:
                    return
                self._left -= 1
            one = client.run(chance.randrange(8), chance.randrange(2 * self._pause_ms), cancel=chance.random() < 0.05)
            if one is not None and self._judge is not None:
                client.forget(one)
                self._judge(one)
            due += 2 * chance.random() * self._each_seconds
