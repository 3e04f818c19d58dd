"""The inventories of ``docs/inventories.md`` name every module that opens connections, and all data in Redis."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

import pytest

from orchestrator.settings import Settings
from orchestrator.store import keys
from tests.harness import ROOT

TEXT = (ROOT / "docs" / "inventories.md").read_text(encoding="utf-8")
LIBRARIES = {"docker", "http", "httpx2", "obstore", "smtplib", "socketserver", "urllib3", "uvicorn"}
CALLS = {"socket", "socketpair", "create_connection", "getaddrinfo", "open_connection", "open_unix_connection"}
NAMED = re.compile(rf"\b({'|'.join(LIBRARIES | CALLS)})\b")


def section(title: str) -> str:
    return re.split(r"^## ", TEXT, flags=re.MULTILINE)[[*re.findall(r"^## (.+)$", TEXT, re.MULTILINE)].index(title) + 1]


def opens(source: str) -> bool:
    """Whether a module opens, serves or resolves connections."""
    if NAMED.search(source) is None:
        return False  # as most: to parse them takes a second
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names) if LIBRARIES & {alias.name.partition(".")[0] for alias in names}:
                return True
            case ast.ImportFrom(module=str(module), level=0) if module.partition(".")[0] in LIBRARIES:
                return True
            case ast.Call(func=ast.Attribute(value=ast.Name(id="socket" | "asyncio"), attr=attr)) if attr in CALLS:
                return True
    return False


def modules() -> Iterator[tuple[str, str]]:
    for package in ("orchestrator", "worker"):
        for path in (ROOT / package).rglob("*.py"):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def test_inventory_names_each_module_that_opens_connections() -> None:
    by_redis = {"orchestrator/store/connection.py", "orchestrator/queries/wakeups.py"}
    using = {name for name, source in modules() if opens(source)}
    assert using | by_redis == set(re.findall(r"`((?:orchestrator|worker)/\S+\.py)`", section("Connections")))


@pytest.mark.parametrize(
    "source", ["import httpx2", "from http.client import X", "import socket\nsocket.socket(1)", "import obstore.store"]
)
def test_module_that_opens_connections_is_found(source: str) -> None:
    """The control."""
    assert opens(source)
    assert not opens("import socket\nname = socket.gethostname()")


def stored() -> set[str]:
    """Every name that Mayfly uses in Redis, with some id."""
    constants = {value for name, value in vars(keys).items() if name.isupper() and value.startswith("mayfly:")}
    made = {
        function(*["x"] * len(inspect.signature(function).parameters))
        for _, function in inspect.getmembers(keys, inspect.isfunction)
    }
    return constants | {name for name in made if name.startswith("mayfly:")}


def test_each_name_in_redis_belongs_to_a_class_of_data() -> None:
    patterns = re.findall(r"`(mayfly:\S+)`", section("Classes of data"))
    assert len(stored()) > 60
    assert {name for name in stored() if not any(fnmatchcase(name, pattern) for pattern in patterns)} == set()
    assert {pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in stored())} == set()


def test_no_module_writes_a_log_of_its_own() -> None:
    """Each process has the one log of :mod:`orchestrator.logs`, on its standard error."""
    handlers = re.compile(r"logging\.handlers|FileHandler|SysLogHandler|HTTPHandler|SocketHandler|import syslog")
    assert [name for name, source in modules() if handlers.search(source)] == []
    assert handlers.search("logging.FileHandler('x')"), "the control"


def test_named_settings_exist() -> None:
    named = set(re.findall(r"`MAYFLY_([A-Z_]+)`", TEXT)) - {"URL"}
    assert {name for name in named if name.lower() not in Settings.model_fields} == set()


def test_each_severity_has_a_time_frame() -> None:
    rows = [line.split("|") for line in section("Time frames for updates").splitlines() if line.startswith("| ")][1:]
    days = [int(found[1]) for row in rows if (found := re.search(r"(\d+) days", row[3]))]
    assert days == sorted(days)
    assert len(days) == len(rows) == 4
