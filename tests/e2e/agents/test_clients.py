"""Clients of other people connect as `mayfly mcp config` says; the Inspector lists and calls every tool."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from orchestrator.mcp.definitions import BY_NAME
from tests.agents.installed import NodeClients, environment
from tests.harness import Stack

MAYFLY = Path(sys.prefix) / "bin" / "mayfly"
TRANSPORTS = ("http", "stdio")
SECONDS = 120


def run(words: list[str], directory: Path, env: dict[str, str], *, both: bool = False) -> str:
    done = subprocess.run(
        words, cwd=directory, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + (done.stderr if both else "")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's home, in which nothing is configured."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def variables(stack: Stack, agent_key: str, home: Path, node_clients: NodeClients) -> dict[str, str]:
    """The variables that a user sets for the client."""
    env = environment(home, MAYFLY_URL=stack.env["MAYFLY_URL"], MAYFLY_TOKEN=agent_key)
    return {**env, "PATH": f"{node_clients.node}:{env['PATH']}"}


def printed(client: str, transport: str, home: Path, env: dict[str, str]) -> str:
    text = run([str(MAYFLY), "mcp", "config", client, f"--{transport}"], home, env)
    assert env["MAYFLY_TOKEN"] not in text
    return text


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_claude_code_connects(transport: str, node_clients: NodeClients, home: Path, variables: dict[str, str]) -> None:
    programs = home / "bin"
    programs.mkdir()
    (programs / "claude").symlink_to(node_clients.claude[0])
    env = {**variables, "PATH": f"{programs}:{variables['PATH']}"}
    run(["bash", "-euc", printed("claude-code", transport, home, env)], home, env)
    assert "✔ Connected" in run(["claude", "mcp", "list"], home, env)
    # The control: with another key it does not.
    assert "✔ Connected" not in run(["claude", "mcp", "list"], home, env | {"MAYFLY_TOKEN": "mfk_wrong"})


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_gemini_cli_connects(transport: str, node_clients: NodeClients, home: Path, variables: dict[str, str]) -> None:
    (home / ".gemini").mkdir()
    (home / ".gemini" / "settings.json").write_text(printed("gemini-cli", transport, home, variables))
    listed = [*node_clients.gemini, "mcp", "list"]
    assert "- Connected" in run(listed, home, variables, both=True)
    # The control: with another key it does not.
    assert "- Disconnected" in run(listed, home, variables | {"MAYFLY_TOKEN": "mfk_wrong"}, both=True)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_opencode_lists_the_server(
    transport: str, node_clients: NodeClients, home: Path, variables: dict[str, str]
) -> None:
    (home / "opencode.json").write_text(printed("opencode", transport, home, variables))
    listed = [*node_clients.opencode, "mcp", "list"]
    assert "✓ mayfly" in run(listed, home, variables)
    # The control: with another key it does not.
    assert "✗ mayfly" in run(listed, home, variables | {"MAYFLY_TOKEN": "mfk_wrong"})


# Where mcporter looks for the files of clients that cannot be run; each is tried over one transport.
READ_BY_MCPORTER = {
    "cursor": ("http", ".cursor/mcp.json"),
    "vs-code": ("http", ".config/Code/User/mcp.json"),
    "windsurf": ("http", ".codeium/windsurf/mcp_config.json"),
    "claude-desktop": ("stdio", ".config/Claude/settings.json"),  # under another name than Claude Desktop's
}


@pytest.mark.parametrize("client", READ_BY_MCPORTER)
def test_mcporter_connects_by_the_file_of_a_client_that_is_not_run(
    client: str, node_clients: NodeClients, home: Path, variables: dict[str, str]
) -> None:
    transport, place = READ_BY_MCPORTER[client]
    text = run([str(MAYFLY), "mcp", "config", client, f"--{transport}", "--show-key"], home, variables)
    (home / place).parent.mkdir(parents=True)
    (home / place).write_text(text)
    listed = [*node_clients.mcporter, "list", "mayfly", "--json"]
    env = {**variables, "XDG_CONFIG_HOME": str(home / ".config")}
    found = json.loads(run(listed, home, env))
    assert {tool["name"] for tool in found["tools"]} == set(BY_NAME)
    # The control: with another key it has no tool.
    (home / place).write_text(text.replace(variables["MAYFLY_TOKEN"], "mfk_wrong"))
    refused = subprocess.run(listed, cwd=home, env=env, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert "execute_code" not in refused.stdout


@pytest.mark.parametrize(("transport", "listed"), [("http", "Bearer token"), ("stdio", "MAYFLY_TOKEN=")])
def test_codex_app_server_connects(
    transport: str, listed: str, node_clients: NodeClients, home: Path, variables: dict[str, str]
) -> None:
    """Its `mcp list` shows servers without connecting; its app server connects."""
    programs = home / "bin"
    programs.mkdir()
    script = "#!/bin/sh\nexec " + shlex.join(node_clients.codex) + ' "$@"\n'
    (programs / "codex").write_text(script)
    (programs / "codex").chmod(0o755)
    env = {**variables, "PATH": f"{programs}:{variables['PATH']}"}
    key = [] if transport == "http" else ["--show-key"]  # it passes no variable on to commands
    run(["bash", "-euc", run([str(MAYFLY), "mcp", "config", "codex", f"--{transport}", *key], home, env)], home, env)
    (line,) = [line for line in run(["codex", "mcp", "list"], home, env).splitlines() if line.startswith("mayfly ")]
    assert "enabled" in line and listed in line
    assert codex_tools(home, env) == set(BY_NAME)
    # The control: with another key it has no tool.
    (home / ".codex" / "config.toml").write_text(
        (home / ".codex" / "config.toml").read_text().replace(env["MAYFLY_TOKEN"], "mfk_wrong")
    )
    assert codex_tools(home, env | {"MAYFLY_TOKEN": "mfk_wrong"}) == set()


def codex_tools(home: Path, env: dict[str, str]) -> set[str]:
    """The tools that the app server of Codex gets from Mayfly."""
    client = {"name": "test", "title": "test", "version": "1"}
    messages: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": {"clientInfo": client}},
        {"method": "initialized"},
        {"id": 2, "method": "mcpServerStatus/list", "params": {}},
    ]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    words = ["codex", "-c", f"mcp_servers.mayfly.startup_timeout_sec={SECONDS}", "app-server"]
    with subprocess.Popen(words, cwd=home, env=env, text=True, **pipes) as process:
        bound = threading.Timer(SECONDS, process.kill)
        bound.start()
        assert process.stdin and process.stdout
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("".join(f"{json.dumps(message)}\n" for message in messages))
            process.stdin.flush()
            answers = (json.loads(line) for line in process.stdout)
            found = next((answer["result"] for answer in answers if answer.get("id") == 2), None)
        finally:
            bound.cancel()
            process.kill()
    assert found is not None, "it has answered"
    (server,) = [server for server in found["data"] if server["name"] == "mayfly"]
    return set(server["tools"])


class Inspector:
    """The Inspector's command line, over one transport."""

    def __init__(self, clients: NodeClients, transport: str, url: str, home: Path, env: dict[str, str]) -> None:
        self._home, self._env = home, env
        key = env["MAYFLY_TOKEN"]
        if transport == "http":
            where = [f"{url}/mcp", "--transport", "http", "--header", f"Authorization: Bearer {key}"]
        else:
            where = [str(MAYFLY), "mcp", "-e", f"MAYFLY_URL={url}", "-e", f"MAYFLY_TOKEN={key}"]
        self._words = [*clients.inspector, *where]

    def ask(self, method: str, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run([*self._words, "--method", method, *words], self._home, self._env))
        return found

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        pairs = [word for name, value in arguments.items() for word in ("--tool-arg", f"{name}={value}")]
        result = self.ask("tools/call", "--tool-name", tool, *pairs)
        assert not result.get("isError"), result
        return result


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_inspector_lists_and_calls_every_tool(
    transport: str, node_clients: NodeClients, stack: Stack, home: Path, variables: dict[str, str]
) -> None:
    inspector = Inspector(node_clients, transport, stack.env["MAYFLY_URL"], home, variables)
    tools = {tool["name"]: tool for tool in inspector.ask("tools/list", "--strict")["tools"]}
    ran = inspector.call("execute_code", code="print('seen')\n6 * 7")
    id = ran["structuredContent"]["execution_id"]
    results = {
        "execute_code": ran,
        "get_execution": inspector.call("get_execution", execution_id=id),
        "read_output": inspector.call("read_output", execution_id=id, stream="stdout"),
        "list_environments": inspector.call("list_environments"),
        "search_tools": inspector.call("search_tools", query="issues"),
    }
    assert "42" in json.dumps(results["execute_code"])
    assert "seen" in json.dumps(results["read_output"])
    slow = inspector.call("execute_code", code="import time; time.sleep(600)", wait_seconds=0)
    results["cancel_execution"] = inspector.call(
        "cancel_execution", execution_id=slow["structuredContent"]["execution_id"]
    )
    assert set(results) == set(tools)
    for name, result in results.items():
        jsonschema_rs.validate(tools[name]["outputSchema"], result["structuredContent"])


def test_node_is_the_pinned_one(node_clients: NodeClients, home: Path) -> None:
    assert run([str(node_clients.node / "node"), "--version"], home, environment(home)).startswith("v22.")
    assert shutil.which("npm")
