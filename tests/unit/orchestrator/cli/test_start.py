"""The start of a command: the modules it loads, with unchanged behaviour of all commands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from orchestrator.cli import COMMANDS, app
from orchestrator.cli.lazy import LazyCommands
from orchestrator.cli.parameters import PLAIN, PlainParameter, finite
from orchestrator.settings import inherited_environment
from tests.builders.one_execution import ended, serving
from tests.builders.tools import mcp_endpoint

SERVERS = {
    "docker", "fastapi", "httpx2", "limits", "msgpack", "prometheus_client", "pydantic", "pydantic_settings", "redis",
    "rich", "rq", "starlette", "structlog", "uvicorn", "worker",
}  # fmt: skip
# Modules of the standard library that take about a millisecond or more each, and that only other commands need.
SLOW = {"asyncio", "email.mime", "hashlib", "importlib.metadata", "secrets", "tempfile", "urllib.request", "zipfile"}
INSTALLED = {"annotated_doc", "mayfly", "orchestrator", "shellingham", "typer"}
OURS = {"orchestrator", "orchestrator.cli", "orchestrator.logs", "orchestrator.states"}
LOADED = """
import json, sys
before = set(sys.modules)  # what measures coverage, for one
from orchestrator.cli import app
try:
    app(sys.argv[1:], prog_name="mayfly")
except SystemExit as end:
    print(json.dumps({"code": end.code, "modules": sorted(set(sys.modules) - before)}), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(ended()) as address:
        yield address


def modules_of(url: str, *words: str, given: str = "") -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words],
        env=inherited_environment(MAYFLY_URL=url, MAYFLY_TOKEN="t"),
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    report = json.loads(done.stderr.splitlines()[-1])
    assert (report["code"], done.stderr.count("\n")) == (0, 1), done.stderr
    return set(report["modules"])


def test_run_imports_no_server_module(url: str) -> None:
    loaded = modules_of(url, "run", "-c", "print(1)")
    packages = {name.partition(".")[0] for name in loaded}
    assert packages & SERVERS == set()
    assert packages - sys.stdlib_module_names - INSTALLED == set()
    assert loaded & SLOW == set()
    ours = {name for name in loaded if name.partition(".")[0] == "orchestrator"}
    strange = {name for name in ours if not name.startswith("orchestrator.cli.")} - OURS
    assert strange == set()
    assert "orchestrator.cli.commands.executions.running" in ours
    assert {
        "orchestrator.cli.commands.local.up",
        "orchestrator.cli.commands.local.stack",
        "orchestrator.cli.commands.local.doctor",
    } & ours == set()


def test_mcp_imports_no_server_module() -> None:
    ping = '{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n'
    with mcp_endpoint.serving() as endpoint:
        loaded = modules_of(endpoint.url, "mcp", given=ping)
        assert [one.message["method"] for one in endpoint.received] == ["ping"]
    packages = {name.partition(".")[0] for name in loaded}
    assert packages & (SERVERS | {"mcp", "mcp_types", "anyio", "tiktoken"}) == set()
    assert packages - sys.stdlib_module_names - INSTALLED == set()
    assert loaded & SLOW == set()
    assert {name for name in loaded if name.startswith("orchestrator.")} - OURS == {
        name for name in loaded if name.startswith("orchestrator.cli.")
    } - {"orchestrator.cli"}


def test_another_command_does_load_the_server(url: str) -> None:
    """The negative control: the set of modules is seen, and `down` needs what `run` must not load."""
    loaded = modules_of(url, "down", "--help")
    assert {"redis", "pydantic", "orchestrator.settings"} <= loaded


def test_help_lists_every_command_with_its_text() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "--help"], capture_output=True, text=True, check=True
    )
    group = get_command(app)
    for name in COMMANDS:
        command = group.commands[name]  # type: ignore[attr-defined]
        assert command.help
        shown = f"│ {name} " in done.stdout
        assert shown is not command.hidden, name


def test_command_is_imported_on_demand() -> None:
    places = {"encoder": "json.encoder:nothing_of_that_name", "run": "orchestrator.cli.commands.executions.running:run"}
    commands = LazyCommands(places)
    assert list(commands) == ["encoder", "run"]
    assert "encoder" in commands
    assert commands["run"] is commands["run"]
    with pytest.raises(AttributeError):
        commands["encoder"]
    assert commands.get("nope") is None


@pytest.mark.parametrize(
    ("kind", "words", "many"),
    [
        (str, "ä\udcff", False), (str, ["a", ""], True), (Path, "a/b", False), (Path, [], True), (float, "2.5", False),
        (float, "1e3", False), (bool, True, False), (str, None, False), (Path, None, True),
    ],
)  # fmt: skip
def test_plain_parameters_match_typers(kind: Any, words: Any, many: bool) -> None:
    taken: list[Any] = []
    one = typer.Typer()

    def option(value: Any) -> None:
        taken.append(value)

    option.__annotations__ = {"value": list[kind] | None if many else kind | None, "return": None}
    option.__defaults__ = (None,)
    one.command()(option)
    (parameter, *_) = get_command(one).params
    context = typer.Context(get_command(one))
    theirs = parameter.get_runtime_param().coerce(words, param=parameter, ctx=context)  # type: ignore[attr-defined]
    assert PlainParameter(PLAIN[kind]).coerce(words, param=parameter, ctx=context) == theirs


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1,5"])
def test_invalid_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"finite|convert"):
        finite(text)


@pytest.mark.parametrize(("module", "is_frozen"), [("orchestrator.cli", True), ("typer", False)])
def test_objects_of_an_ending_command_are_not_searched_for_garbage(module: str, is_frozen: bool) -> None:
    program = f"import atexit, gc\natexit.register(lambda: print(gc.get_freeze_count() > 0))\nimport {module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{is_frozen}\n"
