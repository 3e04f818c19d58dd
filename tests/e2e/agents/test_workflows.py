"""The workflows of deploy/examples/agents: the commands of their page, over public tool servers in sandboxes."""

from __future__ import annotations

import base64
import json
import re
import secrets
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import docker
import docker.errors
import httpx2
import pytest

from tests.builders.mcp_calls import LEGACY, messages_of
from tests.builders.processes.installed import Installation, installed
from tests.harness import ROOT, bearer, eventually, free_port
from tests.lanes import locked

pytestmark = pytest.mark.timeout(1500)  # the first build of six images takes minutes
EXAMPLES = ROOT / "deploy" / "examples" / "agents"
SERVERS = ("excel", "filesystem", "git", "memory", "prometheus", "time")
BUILD, DATA, SAMPLES, PROMETHEUS, UP, LISTED, *RUNS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", (EXAMPLES / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


class Workflows:
    """An installation whose tenant has the six servers, and the folder in which the page's commands are typed."""

    def __init__(self, made: Installation, checkout: Path) -> None:
        self.made, self.checkout = made, checkout

    def type(self, line: str) -> str:
        """Type a line; what it prints."""
        done = subprocess.run(
            ["bash", "-euc", line], cwd=self.checkout, env=self.made.env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=1200,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def states(self) -> dict[str, str]:
        lines = (line.split("\t") for line in self.type(LISTED).splitlines())
        return {name: state for name, state, *_ in lines}


@contextmanager
def prometheus(workflows: Workflows, port: int) -> Iterator[None]:
    """The Prometheus of the page, on a port of the test's."""
    workflows.type(SAMPLES)
    command = shlex.split(PROMETHEUS.removesuffix("&").replace("9090", str(port)))
    with (workflows.made.state / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=workflows.checkout, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def workflows(engine: None, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workflows]:
    checkout, port = tmp_path_factory.mktemp("checkout"), free_port()
    with installed(images, DRIVER="docker") as made:
        folders = {name: ROOT / name for name in ("deploy", "sandbox_image", "orchestrator")}
        for name, target in {**folders, ".venv": Path(sys.prefix), ".mayfly": made.state}.items():
            (checkout / name).symlink_to(target)
        (made.state / "images").symlink_to(images)
        found = Workflows(made, checkout)
        with locked(images / "tool-servers.lock"):
            found.type(BUILD)
        found.type(f"{DATA} .mayfly http://127.0.0.1:{port}")
        with prometheus(found, port):
            assert UP == "make up"
            made.up("--no-sample")
            eventually(lambda: found.states() == dict.fromkeys(SERVERS, "ready"), "all tool servers are ready", 180)
            yield found


class NetworkWatch:
    """The network modes of the containers that ran during a command, by ``docker inspect``."""

    def __init__(self, installation: str) -> None:
        self._installation, self._begun, self._ended = installation, threading.Event(), threading.Event()
        self.modes: dict[str, str] = {}
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> NetworkWatch:
        self._thread.start()
        assert self._begun.wait(60), "those that wait in the pool are looked at first"
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        api = docker.APIClient()
        label = f"dev.mayfly.installation={self._installation}"
        while not self._ended.is_set():
            for container in api.containers(filters={"label": label}):
                try:
                    described = api.inspect_container(container["Id"])
                except docker.errors.NotFound:
                    continue
                if described["State"]["Running"]:
                    self.modes[described["Id"]] = described["HostConfig"]["NetworkMode"]
            self._begun.set()
        api.close()


class Ran(NamedTuple):
    """The output of a command, the execution's record, and the networks of the containers meanwhile."""

    printed: str
    record: dict[str, Any]
    networks: set[str]


@contextmanager
def api(workflows: Workflows) -> Iterator[httpx2.Client]:
    state = workflows.made.state
    headers = bearer((state / "api-key").read_text().strip())
    with httpx2.Client(base_url=(state / "url").read_text().strip(), headers=headers, timeout=120) as client:
        yield client


def ran(workflows: Workflows, line: str) -> Ran:
    """Type a command that runs a program."""
    with NetworkWatch(workflows.made.installation) as watch:
        printed = workflows.type(line)
    looked_at = set(watch.modes)
    eventually(lambda: looked_at - set(workflows.made.containers()), "a container of those looked at is gone")
    with api(workflows) as client:
        (newest,) = client.get("/api/v1/executions", params={"limit": 1}).json()["items"]
        record = client.get(f"/api/v1/executions/{newest['id']}").json()
    assert record["state"] == "succeeded"
    assert {call["outcome"] for call in record["tool_calls"]} == {"ok"}
    return Ran(printed, record, set(watch.modes.values()))


def test_much_is_fetched_and_ten_lines_come_back(workflows: Workflows) -> None:
    found = ran(workflows, RUNS[0])
    head, *lines = found.printed.splitlines()
    assert head == "24 services, 34560 samples; the three slowest:"
    assert len(lines) == 9
    assert {line.partition(":")[0] for line in lines[::3]} == {"cart-4", "search-2", "api-5"}
    assert all("6 errors" in line for line in lines[::3])
    calls = [call["tool"] for call in found.record["tool_calls"]]
    assert [calls.count(f"prometheus.execute_{kind}query") for kind in ("", "range_")] == [1, 24]
    assert calls.count("filesystem.read_text_file") == 3
    assert sum(call["response_bytes"] for call in found.record["tool_calls"]) > 1000 * len(found.printed)
    assert found.networks == {"none"}


def test_one_program_calls_tools_of_three_servers(workflows: Workflows) -> None:
    found = ran(workflows, RUNS[1])
    assert found.printed == (
        "review of 2026-11-05, 15:00 UTC\n"
        "  Ada, 15:00 there: docs 5, billing 5, web 3\n"
        "  Grace, 10:00 there: docs 4, billing 2, web 2\n"
        "  Yukihiro, 00:00 there: web 4, search 2, docs 2\n"
        "3 invitations are remembered\n"
    )
    assert {call["tool"].partition(".")[0] for call in found.record["tool_calls"]} == {"git", "memory", "time"}
    assert "is invited to" in (workflows.made.state / "workflows" / "people" / "memory.jsonl").read_text()
    assert found.networks == {"none"}
    assert ran(workflows, RUNS[1]).printed == found.printed  # a second run invites no one twice


def test_table_becomes_an_image(workflows: Workflows) -> None:
    found = ran(workflows, RUNS[2])
    assert found.printed == "{'North': 13671, 'South': 17868, 'West': 22541}\n"
    (image,) = (workflows.checkout / "plots").iterdir()
    assert image.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert [call["tool"] for call in found.record["tool_calls"]] == ["excel.read_range"]
    assert found.networks == {"none"}


def test_image_reaches_a_model_over_mcp(workflows: Workflows) -> None:
    arguments = {"environment": "python-data", "mode": "cell", "tools": ["excel.read_range"]}
    arguments["code"] = (EXAMPLES / "sales_plot.py").read_text()
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": LEGACY}
    with api(workflows) as client:
        body = {**message, "params": {"name": "execute_code", "arguments": arguments}}
        result = messages_of(client.post("/mcp", json=body, headers=headers))[-1]["result"]
    assert result["isError"] is False, result
    (image,) = [block for block in result["content"] if block["type"] == "image"]
    assert base64.b64decode(image["data"]).startswith(b"\x89PNG\r\n\x1a\n")
    assert "22541" in result["content"][0]["text"]


def test_control_another_network_would_be_seen(workflows: Workflows) -> None:
    tag = json.loads((workflows.made.state / "images" / "bash.json").read_text())["tag"]
    label = f"test-{secrets.token_hex(6)}"
    engine = docker.APIClient()
    options = engine.create_host_config(network_mode="host", auto_remove=True)
    made = engine.create_container(
        tag, ["/usr/bin/sleep", "60"], entrypoint="", labels={"dev.mayfly.installation": label}, host_config=options
    )
    try:
        engine.start(made)
        with NetworkWatch(label) as watch:
            eventually(lambda: watch.modes, "the container is looked at")
        assert set(watch.modes.values()) == {"host"}
    finally:
        engine.kill(made)
        engine.close()


def test_examples_are_all_on_the_page() -> None:
    page = (EXAMPLES / "README.md").read_text()
    files = {path.name for path in EXAMPLES.glob("*.py")} - {"sample_data.py"}
    assert files == set(re.findall(r"\]\((\w+\.py)\)", page))
    for line in RUNS:
        program = next(word for word in shlex.split(line) if word.endswith(".py"))
        shown = line.removeprefix(".venv/bin/")
        assert shown in (ROOT / program).read_text()
