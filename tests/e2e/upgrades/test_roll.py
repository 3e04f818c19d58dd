"""One version replaced by another under load: no request fails, and a version that does not work is taken back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.faults.patient import CLIENTS
from tests.harness import ROOT, Process, Stack, bearer, eventually, free_port

APIS, GREEN_APIS, WORKERS = ("api-1", "api-2"), ("api-3", "api-4"), ("worker-1", "worker-2")
# The APIs of version `broken` sign specifications with another key, so that workers refuse them.
HOOKS = """
SERVICES=({services})
GREEN=({green})
declare -A PORTS=({ports})
url_of() {{ [[ -z ${{PORTS[$1]-}} ]] || echo "http://127.0.0.1:${{PORTS[$1]}}"; }}
start() {{
  local module=worker
  ! is_api "$1" || module=orchestrator.api
  local settings=(MAYFLY_API_PORT="${{PORTS[$1]-0}}" MAYFLY_METRICS_PORT=0)
  [[ "$module $2" != "orchestrator.api broken" ]] || settings+=(MAYFLY_SECRET_FILE=other-secret)
  env "${{settings[@]}}" setsid {python} -m "$module" >> "$1.log" 2>&1 < /dev/null &
  echo $! > "$1.pid"
  echo "$1 $2" >> started
}}
stop() {{
  local pid
  pid=$(cat "$1.pid")
  kill -TERM "$pid" || return 0
  while grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$pid/status"; do sleep 0.05; done
}}
proxy() {{ {python} -c '
import os, socket, sys
admin = socket.socket(socket.AF_UNIX)
admin.connect(os.environ["MAYFLY_PROXY_SOCKET"])
admin.sendall(f"set server api/{{sys.argv[1]}} state {{sys.argv[2]}}\\n".encode())
sys.exit(admin.recv(4096).decode().strip() or 0)' "$1" "$2"; }}
"""


class Host:
    """An installation whose services a file of hooks starts and stops, behind HAProxy."""

    def __init__(self, stack: Stack, sockets: str) -> None:
        """``sockets``: a directory with a short path."""
        self.stack, self.directory = stack, stack.directory
        ports = {name: free_port() for name in (*APIS, *GREEN_APIS)}
        self.url = f"http://127.0.0.1:{free_port()}"
        (self.directory / "other-secret").write_text("another secret, of more than 32 bytes")
        config = (ROOT / "deploy" / "haproxy.cfg").read_text()
        for name in GREEN_APIS:
            config += f"  server {name} 127.0.0.1:{ports[name]} disabled\n"
        (self.directory / "haproxy.cfg").write_text(config)
        path = f"{Path(sys.prefix) / 'bin'}:/usr/sbin:{os.environ['PATH']}"
        self.env = {**os.environ, **stack.env, "PATH": path, "PYTHONPATH": str(ROOT)}
        self.env |= {f"MAYFLY_API_{number}": f"127.0.0.1:{ports[name]}" for number, name in enumerate(APIS, 1)}
        self.env |= {
            "MAYFLY_BIND": self.url.removeprefix("http://"),
            "MAYFLY_PROXY_SOCKET": f"{sockets}/admin",
            "ROLL_SECONDS": "600",
        }
        shown = " ".join(f"[{name}]={port}" for name, port in ports.items())
        services, green = " ".join((*WORKERS[:1], *APIS)), " ".join((*WORKERS[1:], *GREEN_APIS))
        text = HOOKS.format(services=services, green=green, ports=shown, python=sys.executable)
        (self.directory / "hooks").write_text(text)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.directory, env=self.env, capture_output=True, text=True, timeout=1200, check=False
        )

    def hook(self, *words: str) -> None:
        script = 'source hooks; is_api() { [[ -n $(url_of "$1") ]]; }; "$@"'
        done = self.run("bash", "-euc", script, "hooks", *words)
        assert done.returncode == 0, done.stderr

    def roll(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(ROOT / "deploy" / "roll.sh"), *words)

    def started(self) -> list[str]:
        return (self.directory / "started").read_text().splitlines()

    def is_ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=60).status_code == 200
        except httpx2.TransportError:
            return False


@pytest.fixture
def sockets() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as path:
        yield path


@pytest.fixture
def host(own_stack: Callable[..., Stack], sockets: str) -> Iterator[Host]:
    stack = own_stack(driver="oci", slots=2)
    stack.redis.start()
    made = Host(stack, sockets)
    command = ["haproxy", "-db", "-f", "haproxy.cfg", "-f", str(ROOT / "deploy" / "haproxy-admin.cfg")]
    words = ["sh", "-c", 'cd "$0" && exec "$@"', str(made.directory), *command]
    proxy = Process(words, made.env, made.directory / "haproxy.log")
    try:
        for name in (*WORKERS[:1], *APIS):
            made.hook("start", name, "1")
        eventually(made.is_ready, "the proxy reaches an API with a worker", 600)
        yield made
    finally:
        for path in made.directory.glob("*.pid"):
            made.hook("stop", path.stem, "1")
        proxy.stop()


@contextmanager
def strict_load(host: Host) -> Iterator[Callable[[int], None]]:
    """Clients that repeat nothing: on leaving, each answer must have been a success, and each execution too."""
    over, answers, ended = threading.Event(), [], []

    def load() -> None:
        headers = {**bearer(host.stack.key), "Prefer": "wait=60"}
        with httpx2.Client(base_url=host.url, headers=headers, timeout=90) as client:
            while not over.is_set():
                body: dict[str, Any] = {"environment": "python", "code": "print(1)", "limits": {"wall_seconds": 60}}
                answer = client.post("/api/v1/executions", json=body)
                answers.append(answer.status_code)
                found = answer.json()
                while found["finished_at"] is None:
                    answer = client.get(f"/api/v1/executions/{found['id']}", params={"wait": 60})
                    answers.append(answer.status_code)
                    found = answer.json()
                ended.append((found["state"], found["stdout"]))

    def more(count: int) -> None:
        enough = len(ended) + count
        eventually(lambda: len(ended) >= enough or any(one.done() for one in clients), "executions end", 120)

    with ThreadPoolExecutor(CLIENTS) as threads:
        clients = [threads.submit(load) for _ in range(CLIENTS)]
        try:
            yield more
        finally:
            over.set()
        for client in clients:
            client.result(240)  # raises what a client met
    assert set(answers) <= {200, 202}
    assert set(ended) == {("succeeded", "1\n")}


@pytest.mark.complete
@pytest.mark.timeout(2400)
def test_versions_are_replaced_under_load_without_a_failed_request(host: Host) -> None:
    with strict_load(host) as more:
        more(3)
        done = host.roll("hooks", "1", "2")
        assert done.returncode == 0, done.stdout + done.stderr
        assert host.started()[3:] == ["worker-1 2", "api-1 2", "api-2 2"]
        more(3)
        done = host.roll("hooks", "2", "broken")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Step execution failed" in done.stderr
        assert host.started()[6:] == ["worker-1 broken", "api-1 broken", "api-1 2", "worker-1 2"]
        more(3)
        done = host.roll("--blue-green", "hooks", "2", "3")
        assert done.returncode == 0, done.stdout + done.stderr
        assert host.started()[10:] == ["worker-2 3", "api-3 3", "api-4 3"]
        more(3)


def test_smoke_names_the_step_that_failed(stack: Stack) -> None:
    env = {**os.environ, **stack.env}
    command = [sys.executable, "-m", "orchestrator.cli", "smoke"]
    good, bad, wrong = (
        subprocess.run([*command, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=280, check=False)
        for words in ((stack.env["MAYFLY_URL"], "--json"), ("--env", "bash"), ("http://127.0.0.1:1",))
    )
    steps = ["readiness", "execution", "output", "artifact", "reason", "stream", "cancel", "deletion"]
    assert (good.returncode, json.loads(good.stdout)) == (0, {"passed": steps, "failed": None, "reason": None})
    assert (bad.returncode, bad.stdout) == (1, "ok  readiness\n")
    assert "Step execution failed: ('failed', 2), not ('succeeded', 0)" in bad.stderr
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "Step readiness failed" in wrong.stderr
