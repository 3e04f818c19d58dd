"""deploy/roll.sh with hooks that only record their calls: the order of its steps, and the way back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from orchestrator.settings import inherited_environment
from tests.harness import ROOT

# With version `broken` the smoke test fails, with `late` that of the second API; `dead` does not start; `mute` never
# becomes ready.
HOOKS = """
SERVICES=(worker a b)
GREEN=(green c d)
url_of() { case $1 in worker|green) ;; *) echo "$URL/$(cat "$1")" ;; esac; }
start() {
  ROLL_SECONDS=600; [[ $2 != mute ]] || ROLL_SECONDS=0
  echo "start $1 $2" >> calls; echo "$2" > "$1"; [[ $2 != dead ]]
}
stop() { echo "stop $1 $2" >> calls; }
proxy() { echo "$2 $1" >> calls; }
"""
SMOKE = """#!/bin/sh
echo "smoke $2" | sed 's|http.*/||' >> calls
case $2 in
  */broken) exit 1 ;;
  */late) [ "$(grep -c 'smoke late' calls)" = 1 ] ;;
esac
"""
FIRST = ["stop worker 1", "start worker NEW", "drain a", "stop a 1", "start a NEW"]
BACK = ["drain a", "stop a NEW", "start a 1", "ready a", "stop worker NEW", "start worker 1"]


class Ready(BaseHTTPRequestHandler):
    """Every version is ready but ``mute``."""

    def do_GET(self) -> None:
        self.send_response(503 if "/mute/" in self.path else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def roll(tmp_path: Path) -> Iterator[Callable[..., tuple[int, list[str]]]]:
    (tmp_path / "hooks").write_text(HOOKS)
    (tmp_path / "mayfly").write_text(SMOKE)
    (tmp_path / "mayfly").chmod(0o700)
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_text("1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        env = inherited_environment(
            URL=f"http://127.0.0.1:{server.server_port}", PATH=f"{tmp_path}:{os.environ['PATH']}"
        )

        def rolled(*words: str) -> tuple[int, list[str]]:
            (tmp_path / "calls").write_text("")
            command = [str(ROOT / "deploy" / "roll.sh"), *words]
            done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280)
            return done.returncode, (tmp_path / "calls").read_text().splitlines()

        yield rolled
        server.shutdown()
        thread.join()


def test_each_api_is_drained_tested_and_served_again(roll: Callable[..., tuple[int, list[str]]]) -> None:
    assert roll("hooks", "1", "2") == (
        0,
        [
            *(step.replace("NEW", "2") for step in FIRST),
            *("smoke 2", "ready a", "drain b", "stop b 1", "start b 2", "smoke 2", "ready b"),
        ],
    )


@pytest.mark.parametrize(("new", "tested"), [("broken", ["smoke broken"]), ("mute", [])])
def test_version_that_does_not_work_is_replaced_by_the_old_one(
    roll: Callable[..., tuple[int, list[str]]], new: str, tested: list[str]
) -> None:
    assert roll("hooks", "1", new) == (1, [step.replace("NEW", new) for step in (*FIRST, *tested, *BACK)])


def test_all_services_go_back_the_last_one_first(roll: Callable[..., tuple[int, list[str]]]) -> None:
    second = ["smoke NEW", "ready a", "drain b", "stop b 1", "start b NEW", "smoke NEW"]
    back = ["drain b", "stop b NEW", "start b 1", "ready b"]
    assert roll("hooks", "1", "late") == (1, [step.replace("NEW", "late") for step in (*FIRST, *second, *back, *BACK)])


def test_worker_that_does_not_start_is_replaced_by_the_old_one(roll: Callable[..., tuple[int, list[str]]]) -> None:
    assert roll("hooks", "1", "dead") == (
        1,
        ["stop worker 1", "start worker dead", "stop worker dead", "start worker 1"],
    )


def test_green_services_get_requests_once_all_were_tested(roll: Callable[..., tuple[int, list[str]]]) -> None:
    started = ["start green 2", "start c 2", "smoke 2", "start d 2", "smoke 2"]
    ended = ["stop worker 1", "drain a", "stop a 1", "drain b", "stop b 1"]
    assert roll("--blue-green", "hooks", "1", "2") == (0, [*started, "ready c", "ready d", *ended])
    begun = ["start green broken", "start c broken", "smoke broken"]
    assert roll("--blue-green", "hooks", "1", "broken") == (1, [*begun, "stop green broken", "stop c broken"])
