"""Two API processes behind a proxy are restarted one after the other under load, and clients hardly notice."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.e2e.faults.patient import patient_load
from tests.harness import ROOT, Process, Stack, bearer, eventually, free_port

PATH = "/usr/sbin:/usr/bin"
COUNTING: dict[str, Any] = {
    "environment": "python",
    "code": "import time\nfor i in range(10_000): print(i, flush=True); time.sleep(0.02)",
    "limits": {"wall_seconds": 200},
}


class Api:
    """One API process of a stack, which can be stopped and started."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.port = free_port()
        self._env, self._log = {**stack.env, "MAYFLY_API_PORT": str(self.port)}, stack.directory / f"{name}.log"
        self.process: Process | None = None

    def start(self) -> None:
        self.process = Process([sys.executable, "-m", "orchestrator.api"], self._env, self._log)
        eventually(lambda: answers(f"http://127.0.0.1:{self.port}/livez"), "the API answers", 180)

    def stop(self) -> int:
        return 0 if self.process is None else self.process.stop()


@pytest.fixture
def behind(own_stack: Callable[..., Stack]) -> Iterator[tuple[Stack, list[Api], str]]:
    """A stack with two API processes, and the address of the proxy in front of them."""
    haproxy = shutil.which("haproxy", path=PATH)
    if haproxy is None:
        pytest.fail("there is no haproxy: deploy/setup.sh --dev")
    stack = own_stack(slots=3).start()
    apis = [Api(stack, f"api-{number}") for number in range(2)]
    port = free_port()
    places = {f"MAYFLY_API_{number}": f"127.0.0.1:{api.port}" for number, api in enumerate(apis, 1)}
    command = [haproxy, "-db", "-f", str(ROOT / "deploy" / "haproxy.cfg")]
    proxy = Process(command, {**places, "MAYFLY_BIND": f"127.0.0.1:{port}"}, stack.directory / "haproxy.log")
    try:
        for api in apis:
            api.start()
        eventually(lambda: answers(f"http://127.0.0.1:{port}/livez"), "the proxy reaches an API")
        yield stack, apis, f"http://127.0.0.1:{port}"
    finally:
        proxy.stop()
        for api in apis:
            api.stop()


def answers(url: str) -> bool:
    try:
        return httpx2.get(url).status_code == 200
    except httpx2.TransportError:
        return False


class Follower:
    """Follows one execution live, and when the stream ends takes it up behind the last event that came."""

    def __init__(self, url: str, key: str, id: str) -> None:
        self._client = httpx2.Client(base_url=url, headers=bearer(key), timeout=30)
        self._path, self._last = f"/api/v1/executions/{id}/stream", ""
        self.printed, self.streams, self.done = "", 0, False
        self.refused: list[int] = []

    def run(self) -> None:
        while not self.done:
            headers = {"Last-Event-ID": self._last} if self._last else {}
            try:
                with self._client.stream("GET", self._path, headers=headers) as answer:
                    if answer.status_code != 200:
                        self.refused.append(answer.status_code)
                        continue
                    self.streams += 1
                    for event in httpx2.EventSource(answer):
                        self._take(event)
            except httpx2.TransportError:
                self.refused.append(0)
        self._client.close()

    def _take(self, event: Any) -> None:
        self._last = event.id or self._last
        if event.event == "stdout":
            self.printed += json.loads(event.data)["text"]
        self.done = self.done or event.event == "done"


@pytest.mark.complete
def test_two_apis_are_restarted_one_after_the_other(behind: tuple[Stack, list[Api], str]) -> None:
    stack, apis, url = behind
    counting = stack.submit(**COUNTING).json()["id"]
    follower = Follower(url, stack.key, counting)
    with ThreadPoolExecutor(1) as thread, patient_load(url, stack.key) as more:
        following = thread.submit(follower.run)
        try:
            more(3)
            for api in apis:
                assert api.stop() in (0, -signal.SIGTERM)  # an orderly end, by the signal
                so_far = len(follower.printed)
                more(3)
                eventually(lambda: len(follower.printed) > so_far + 10, "the stream continues at the other API")  # noqa: B023
                api.start()
            more(3)
        finally:
            stack.client.post(f"/api/v1/executions/{counting}/cancel")
        following.result(60)  # raises what failed
    assert follower.streams >= 2
    assert set(follower.refused) <= {0, 502, 503}
    message = follower.printed.splitlines()
    assert message == [str(number) for number in range(len(message))]
    assert stack.client.get(f"/api/v1/executions/{counting}/stdout").text == follower.printed
