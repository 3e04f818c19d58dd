"""`mayfly mcp config`: files and commands of every client, without the key unless it is asked for."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from orchestrator.cli.commands.agents.configuration import (
    PLACEHOLDER,
    Access,
    Unsupported,
    clients,
    connection,
    started_by,
)
from orchestrator.settings import PREFIX, inherited_environment
from tests.agents.formats import FORMATS
from tests.harness import ROOT

NAMES = [
    "claude-code", "claude-desktop", "codex", "gemini-cli", "cursor", "vs-code", "windsurf", "devin", "zed", "opencode",
]  # fmt: skip
RUN = ("claude-code", "codex", "gemini-cli", "opencode")  # by tests/e2e/agents/test_clients.py
KEY = "mfk_canary"
STATE = {"MAYFLY_STATE_DIR": "/srv/mayfly dir"}
LOCAL = Access("http://127.0.0.1:8000", KEY, STATE, needs_key=False, words=("/opt/my bin/mayfly",))
REMOTE = Access("https://mayfly.example", KEY, {"MAYFLY_URL": "https://mayfly.example"}, True, ("/bin/mayfly",))
TRANSPORTS = ("http", "stdio")
PAIRS = [(name, transport) for name in NAMES for transport in TRANSPORTS]


def made(name: str, transport: Any, access: Access, *, show_key: bool = False) -> tuple[str, str]:
    found = connection(clients()[name], transport, access, show_key=show_key)
    return found.text, "\n".join(found.remarks)


def read(name: str, text: str) -> Any:
    """The document or the words in a text."""
    words = shlex.split(text) if "run" in clients()[name] else []
    return json.loads(words[-1] if words else text)


def test_every_client_is_known() -> None:
    assert list(clients()) == NAMES


@pytest.mark.parametrize("access", [LOCAL, REMOTE], ids=["local", "remote"])
@pytest.mark.parametrize(("name", "transport"), PAIRS)
def test_key_is_printed_only_on_request(name: str, transport: str, access: Access) -> None:
    if transport not in clients()[name]:
        with pytest.raises(Unsupported, match=f"--{transport}"):
            made(name, transport, access)
        return
    text, remarks = made(name, transport, access)
    assert KEY not in text + remarks
    needed = transport == "http" or access.needs_key
    assert ("API key" in remarks) is needed
    shown, warning = made(name, transport, access, show_key=True)
    named = (name, transport) == ("codex", "http")
    assert (KEY in shown) is (needed and not named)
    assert ("as secret as the key" in warning) is (needed and not named)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "codex"])
def test_started_command_finds_the_key_by_itself(name: str) -> None:
    text, remarks = made(name, "stdio", LOCAL)
    assert "key" not in remarks.lower()
    words = json.dumps(read(name, text))
    for word in ("/opt/my bin/mayfly", "mcp", "MAYFLY_STATE_DIR", "/srv/mayfly dir"):
        assert f'"{word}"' in words
    assert "MAYFLY_TOKEN" not in words


def test_codex_gets_commands() -> None:
    words = shlex.split(made("codex", "stdio", LOCAL)[0])
    assert words == [
        "codex", "mcp", "add", "mayfly", "--env", "MAYFLY_STATE_DIR=/srv/mayfly dir", "--", "/opt/my bin/mayfly", "mcp",
    ]  # fmt: skip
    words = shlex.split(made("codex", "http", REMOTE)[0])
    assert words[3:] == ["mayfly", "--url", "https://mayfly.example/mcp", "--bearer-token-env-var", "MAYFLY_TOKEN"]


@pytest.mark.parametrize("show_key", [False, True])
@pytest.mark.parametrize("access", [LOCAL, REMOTE], ids=["local", "remote"])
@pytest.mark.parametrize(("name", "transport"), [pair for pair in PAIRS if pair[0] in FORMATS])
def test_file_of_a_client_that_is_not_run_has_the_published_format(
    name: str, transport: str, access: Access, show_key: bool
) -> None:
    client, published = clients()[name], FORMATS[name]
    if transport in client:
        text, _ = made(name, transport, access, show_key=show_key)
        jsonschema_rs.validate(published.schema, read(name, text))
        with pytest.raises(jsonschema_rs.ValidationError):  # the control: a field that the client does not know
            jsonschema_rs.validate(published.schema, json.loads(text.replace('"mayfly": {', '"mayfly": {"x": 1,', 1)))
    assert ("reference" in client) is (published.reference is not None)
    assert published.reference is None or re.fullmatch(published.reference, client["reference"])


def test_document_names_the_clients_that_are_not_run() -> None:
    assert sorted([*RUN, *FORMATS]) == sorted(NAMES)
    text = (ROOT / "docs/agents.md").read_text()
    _, _, rest = text.partition("These are not run.")
    not_run, _, _ = rest.partition("\n\n## ")
    for name, client in clients().items():
        assert f"| `{name}` |" in text, "the document says how to connect it"
        assert (client["title"] in not_run.partition("opencode 2")[0]) is (name in FORMATS)


def test_vs_code_asks_for_the_key_that_its_file_refers_to() -> None:
    document = read("vs-code", made("vs-code", "http", REMOTE)[0])
    assert document["servers"]["mayfly"]["headers"] == {"Authorization": "Bearer ${input:mayfly-key}"}
    assert [entry["id"] for entry in document["inputs"]] == ["mayfly-key"]
    assert "inputs" not in read("vs-code", made("vs-code", "stdio", LOCAL)[0])
    assert "inputs" not in read("vs-code", made("vs-code", "http", REMOTE, show_key=True)[0])


def test_opencode_gets_one_list_of_words() -> None:
    local = read("opencode", made("opencode", "stdio", LOCAL)[0])["mcp"]["mayfly"]
    assert (local["command"], local["environment"]) == (["/opt/my bin/mayfly", "mcp"], STATE)
    remote = read("opencode", made("opencode", "http", REMOTE)[0])["mcp"]["mayfly"]
    assert remote["headers"] == {"Authorization": "Bearer {env:MAYFLY_TOKEN}"}


@pytest.mark.parametrize(("name", "transport"), [("zed", "http"), ("claude-desktop", "stdio"), ("codex", "stdio")])
def test_client_without_references_gets_a_placeholder_and_an_explanation(name: str, transport: str) -> None:
    text, remarks = made(name, transport, REMOTE)
    assert PLACEHOLDER in text
    assert f"replace {PLACEHOLDER}" in remarks


def test_printed_command_has_the_path_of_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert started_by(".venv/bin/mayfly") == (f"{tmp_path}/.venv/bin/mayfly",)
    assert started_by("/x/orchestrator/cli/__main__.py") == (sys.executable, "-m", "orchestrator.cli")


def command(directory: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in inherited_environment().items() if not name.startswith(PREFIX)}
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "mcp", "config", *words],
        cwd=directory, env=clean | variables, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    (tmp_path / ".mayfly").mkdir()
    (tmp_path / ".mayfly" / "url").write_text("http://127.0.0.1:8123\n")
    (tmp_path / ".mayfly" / "api-key").write_text(KEY)
    return tmp_path


def test_command_prints_the_file_alone_on_standard_output(installation: Path) -> None:
    done = command(installation, "cursor")
    server = json.loads(done.stdout)["mcpServers"]["mayfly"]
    assert server["env"] == {"MAYFLY_STATE_DIR": str(installation / ".mayfly")}
    assert server["args"][-1] == "mcp"
    assert "~/.cursor/mcp.json" in done.stderr
    done = command(installation, "cursor", "--http", "--show-key")
    server = json.loads(done.stdout)["mcpServers"]["mayfly"]
    assert server == {"url": "http://127.0.0.1:8123/mcp", "headers": {"Authorization": f"Bearer {KEY}"}}


@pytest.mark.parametrize(
    ("variables", "env"),
    [
        ({"MAYFLY_TOKEN": "x"}, {"MAYFLY_URL": "http://127.0.0.1:8123", "MAYFLY_TOKEN": "${env:MAYFLY_TOKEN}"}),
        ({"MAYFLY_URL": "http://b"}, {"MAYFLY_URL": "http://b", "MAYFLY_TOKEN": "${env:MAYFLY_TOKEN}"}),
        (
            {"MAYFLY_URL": "http://b", "MAYFLY_ADMIN_KEY_FILE": ".mayfly/api-key"},
            {"MAYFLY_URL": "http://b", "MAYFLY_ADMIN_KEY_FILE": "{}/.mayfly/api-key"},
        ),
    ],
)
def test_variables_lead_where_the_command_itself_connects(
    variables: dict[str, str], env: dict[str, str], installation: Path
) -> None:
    done = command(installation, "windsurf", "--stdio", **variables)
    expected = {name: value.replace("{}", str(installation)) for name, value in env.items()}
    assert json.loads(done.stdout)["mcpServers"]["mayfly"]["env"] == expected


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("emacs",), "known are claude-code, claude-desktop"),
        (("claude-desktop", "--http"), "cannot be connected by --http"),
        (("zed", "--http", "--stdio"), "exclude each other"),
    ],
)
def test_unprintable_configuration_is_a_usage_mistake(words: tuple[str, ...], advice: str, installation: Path) -> None:
    done = command(installation, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert advice in done.stderr


def test_without_a_client_the_names_are_listed(installation: Path) -> None:
    done = command(installation)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == NAMES


def test_document_names_the_versions_of_clients_that_the_tests_run() -> None:
    package = json.loads((ROOT / "tests/agents/clients/package.json").read_text())
    pinned = {**package["dependencies"], **package["optionalDependencies"]}
    text = (ROOT / "docs/agents.md").read_text()
    for shown, name in (
        ("Claude Code", "@anthropic-ai/claude-code"),
        ("Gemini CLI", "@google/gemini-cli"),
        ("opencode", "opencode-linux-x64"),
        ("Codex", "@openai/codex"),
        ("Inspector", "@modelcontextprotocol/inspector"),
        ("mcporter", "mcporter"),
    ):
        assert f"{shown} {pinned[name]}" in text
