"""The commands about tools, as an operator types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.brokers import Brokers
from tests.harness import ROOT, Stack, eventually


class Commands:
    """An API with a broker and the tool server ``test`` on a pipe, and the command with the admin's key."""

    def __init__(self, directory: Path) -> None:
        self.stack = Stack(directory, driver="oci")
        self.stack.start(workers=0)
        self.brokers = Brokers(directory, self.stack.redis)
        self.brokers.over_pipe()
        self.brokers.start()
        self.brokers.ready()
        self.env = {**os.environ, "MAYFLY_URL": self.stack.env["MAYFLY_URL"], "MAYFLY_TOKEN": self.stack.key}

    def __call__(self, *words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "orchestrator.cli", "tools", *words]
        done = subprocess.run(command, env=self.env, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def stop(self) -> None:
        self.brokers.stop()
        self.stack.stop()


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    made = Commands(tmp_path_factory.mktemp("commands"))
    yield made
    made.stop()


def test_tools_are_called(tools: Commands) -> None:
    tools.brokers.over_pipe("mine", tenant="default")
    eventually(lambda: "\tready\t" in tools("servers"), "the tool server is ready", 60)
    assert tools("call", "mine.add", "a=1", "b=2") == "3\n"
    assert tools("call", "mine.text", "text=hello") == "hello\n"
    assert json.loads(tools("call", "mine.rows", "--arguments", '{"count": 1}')) == [{"id": 0, "name": "row 0"}]
    assert "declared_in_file" in tools("servers", "rm", "mine", code=2)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("call", "test"), 2, "not SERVER.TOOL"),
        (("call", "test.add", "a"), 2, "not NAME=VALUE"),
        (("call", "test.add", "--arguments", "[1]"), 2, "not a JSON object"),
        (("call", "none.ad"), 2, "tool_unknown"),
        (("servers", "changes", "none"), 2, "There is no tool server"),
    ],
)
def test_refused_command_exits_with_its_message(
    tools: Commands, words: tuple[str, ...], code: int, message: str
) -> None:
    assert message in tools(*words, code=code)


def test_servers_are_declared_shown_and_removed(tools: Commands, tmp_path: Path) -> None:
    file = tmp_path / "declaration.toml"
    file.write_text('tools = ["add"]\n')
    tools("servers", "add", "more", "--url", "http://127.0.0.1:1/mcp", "--file", str(file))
    shown = {server["declaration"]["name"]: server for server in json.loads(tools("servers", "--json"))["items"]}
    assert shown["more"]["declaration"]["tools"] == ["add"]
    tools("servers", "rm", "more")
    assert "more" not in tools("servers")


def test_another_tenants_changed_catalogue_is_shown_and_accepted(tools: Commands) -> None:
    assert tools.brokers.call("change").result == '"changed"'
    eventually(lambda: "added" in tools("servers", "changes", "test", "--tenant", "t"), "the change is seen")
    assert "accepted" in tools("servers", "accept", "test", "--tenant", "t")
