"""The code map holds: imports run down only."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from tests.harness import ROOT

PACKAGES = ("orchestrator", "worker", "sandbox_image")
SDK = "orchestrator.client.mayfly"  # where the package `mayfly` stands
MOST_LINES = 300
# Modules with one reason to exist that is longer, and their bounds: tables of fields, one conversation, one agent.
LONGER = {
    "orchestrator.models": 320,
    "sandbox_image.agent.supervisor.agent": 330,
    "worker.agent.conversation": 350,
}
# The parts of ours that each part may import. A part's own modules may import each other.
GROUND = {
    "orchestrator.models": set(),
    "orchestrator.models.submission": {"orchestrator.models"},
    "orchestrator.characters": set(),
    "orchestrator.states": {"orchestrator.models"},
    "orchestrator.retry": {"orchestrator.states"},
    "orchestrator.errors": {"orchestrator.models", "orchestrator.states"},
    "orchestrator.settings": {"orchestrator.models"},
    "orchestrator.configuration_page": {"orchestrator.settings"},
    "orchestrator.logs": set(),
    "orchestrator.metrics": set(),
    "orchestrator.anomaly": set(),
    "orchestrator.environments": {"orchestrator.models"},
    "orchestrator.features": {"orchestrator.models"},
    "orchestrator.tool_environments": {"orchestrator.models", "orchestrator.environments"},
    "orchestrator.tools": {"orchestrator.models"},
    "orchestrator.host.oci": {"orchestrator.models", "orchestrator.settings"},
    "orchestrator.host.helper": set(),
    "orchestrator.host.listener": set(),
    "orchestrator.host.tied": set(),
    "orchestrator.host.token_keys": set(),
    "orchestrator.host.confinement": set(),
    "orchestrator.host.provenance": set(),
    "orchestrator.host.supervision": {"orchestrator.models"},
    "orchestrator.host.rootfs": {"orchestrator.errors"},
    "orchestrator.host.image_files": {"orchestrator.errors", "orchestrator.host.rootfs"},
    "orchestrator.host.registry": {"orchestrator.errors", "orchestrator.host.image_files", "orchestrator.host.rootfs"},
    "orchestrator.host.posture": {
        "orchestrator.models",
        "orchestrator.environments",
        "orchestrator.host.oci",
        "orchestrator.settings",
    },
}
FLOOR = set(GROUND)
# Within the store: scripts and connections, then what one round trip changes, then the rooms; ``Store`` joins them.
REDIS = {
    f"orchestrator.store.{name}"
    for name in ("accounting", "address", "allowance", "connection", "keys", "malformed", "scripts")
}
STEPS = {"orchestrator.store.security", "orchestrator.store.steps"}
ENTRIES = {"orchestrator.store.output", "orchestrator.store.shown"}
ROOMS = {f"orchestrator.store.{name}" for name in ("content", "executions", "platform", "tools")}
STORE = {"orchestrator.store"} | REDIS | STEPS | ENTRIES | ROOMS
COMMAND = {
    "orchestrator",
    "mayfly",
    "orchestrator.logs",
    "orchestrator.settings",
    "orchestrator.states",
}
QUERIES = {
    f"orchestrator.queries.{name}"
    for name in ("audit", "events", "following", "listing", "results", "tool_search", "waiting", "wakeups")
}
USE_CASES = {"orchestrator.audit", "orchestrator.identity", "orchestrator.service"} | QUERIES
BUDGET = "orchestrator.mcp.budget"
BELOW_ROUTES = {
    f"orchestrator.api.{name}"
    for name in ("bodies", "dependencies", "deprecation", "door", "middleware", "problems", "security_reporting")
}
BELOW_ATTEMPT = {"worker.counters", "worker.sandbox", "worker.host", "worker.agent", "worker.drivers"}
MAP = {
    **GROUND,
    **dict.fromkeys(REDIS, FLOOR | REDIS),
    **dict.fromkeys(STEPS, FLOOR | REDIS | STEPS),
    "orchestrator.store.content": FLOOR | REDIS,
    "orchestrator.store.platform": FLOOR | REDIS | {"orchestrator"},
    "orchestrator.store.tools": FLOOR | REDIS | {"orchestrator.store.tools.caller_calls"},
    **dict.fromkeys(ENTRIES, FLOOR | REDIS | STEPS | ENTRIES | {"orchestrator.store.content"}),
    "orchestrator.store.executions": FLOOR
    | REDIS
    | STEPS
    | ENTRIES
    | {"orchestrator.store.content", "orchestrator.store.tools.caller_calls"},
    "orchestrator.store.tools.caller_calls": FLOOR | REDIS,
    "orchestrator.store": FLOOR | STORE,
    "orchestrator.queue": FLOOR | STORE,
    # No engine, no service, no identity: of what it shares with the API, only pure functions and entries for audits.
    "orchestrator.broker": FLOOR | STORE | {"orchestrator.tools", "orchestrator.mcp.budget", "orchestrator.audit"},
    "orchestrator.policy": FLOOR,
    "orchestrator.queries.cursors": {"orchestrator.errors"},
    "orchestrator.queries.audit": FLOOR
    | STORE
    | {"orchestrator.audit", "orchestrator.identity", "orchestrator.queries.events"},
    "orchestrator.queries.events": FLOOR | STORE | {"orchestrator.queries.cursors", "orchestrator.identity"},
    "orchestrator.queries.listing": FLOOR | STORE | {"orchestrator.queries.cursors"},
    "orchestrator.queries.following": FLOOR | STORE,
    "orchestrator.queries.tool_search": FLOOR | STORE | {"orchestrator.identity"},
    "orchestrator.queries.waiting": FLOOR | STORE | {"orchestrator.queue"},
    "orchestrator.queries.wakeups": FLOOR | STORE,
    "orchestrator.queries.results": FLOOR | STORE | QUERIES | {"orchestrator.identity"},
    "orchestrator.identity": FLOOR | STORE | {"orchestrator.queries.cursors"},
    "orchestrator.audit": FLOOR | STORE | {"orchestrator"},
    "orchestrator.backup": FLOOR
    | STORE
    | {"orchestrator", "orchestrator.audit", "orchestrator.backup.restoration.marker"},
    "orchestrator.backup.restoration.marker": FLOOR | STORE,
    "orchestrator.migrations": FLOOR | STORE | {"orchestrator", "orchestrator.identity", "orchestrator.backup"},
    "orchestrator.janitor.alarms": FLOOR | STORE,
    "orchestrator.janitor.sealing": FLOOR | STORE | {"orchestrator.audit"},
    "orchestrator.janitor.purging": FLOOR | STORE | {"orchestrator.queue", "orchestrator.audit"},
    "orchestrator.janitor.janitor": FLOOR
    | STORE
    | {"orchestrator.queue", "orchestrator.audit", "orchestrator.janitor.alarms", "orchestrator.janitor.purging"},
    "orchestrator.service": FLOOR
    | STORE
    | QUERIES
    | {
        "orchestrator.audit",
        "orchestrator.queue",
        "orchestrator.policy",
        "orchestrator.identity",
        "orchestrator.janitor.janitor",
        "orchestrator.janitor.sealing",
    },
    # No store: what an API does, it does by the use cases. Agents come by a door of their own, which the API mounts.
    "orchestrator.mcp": FLOOR | USE_CASES | {"orchestrator", BUDGET},
    **dict.fromkeys(BELOW_ROUTES, FLOOR | USE_CASES | BELOW_ROUTES | {"orchestrator.mcp"}),
    "orchestrator.api.routes": FLOOR | USE_CASES | BELOW_ROUTES | {"orchestrator.mcp", BUDGET},
    "orchestrator.api": FLOOR
    | USE_CASES
    | BELOW_ROUTES
    | {"orchestrator", "orchestrator.api.routes", "orchestrator.mcp"},
    "orchestrator.mcp.budget": {"orchestrator.models", "orchestrator.characters"},
    "mayfly": set(),
    "orchestrator.cli": COMMAND,
    "orchestrator.cli.commands": COMMAND | {"orchestrator.cli"},
    "orchestrator.cli.commands.audit": COMMAND
    | {"orchestrator.cli", "orchestrator.cli.commands", "orchestrator.audit"},
    "orchestrator.cli.commands.backup": FLOOR
    | COMMAND
    | {"orchestrator.cli", "orchestrator.cli.commands", "orchestrator.cli.commands.local", "orchestrator.backup"},
    "orchestrator.cli.commands.upgrade": FLOOR
    | STORE
    | COMMAND
    | {
        "orchestrator.backup",
        "orchestrator.cli",
        "orchestrator.cli.commands",
        "orchestrator.cli.commands.local",
        "orchestrator.migrations",
    },
    "orchestrator.cli.commands.hosts": COMMAND
    | {"orchestrator.cli", "orchestrator.errors", "orchestrator.host.image_files", "orchestrator.host.tied"},
    "orchestrator.cli.commands.tools": COMMAND | {"orchestrator.cli"},
    "orchestrator.cli.commands.executions": COMMAND | {"orchestrator.cli"},
    "orchestrator.cli.commands.identity": COMMAND | {"orchestrator.cli", "orchestrator.host.token_keys"},
    "orchestrator.cli.commands.local": FLOOR
    | STORE
    | COMMAND
    | {
        "orchestrator.cli",
        "orchestrator.cli.commands.executions",
        "orchestrator.backup",
        "orchestrator.backup.restoration.marker",
        "orchestrator.migrations",
    },
    "worker.counters": set(),
    "worker.sandbox": FLOOR,
    "worker.host": FLOOR | {"worker.counters", "worker.sandbox"},
    "worker.agent": FLOOR | {"worker.counters", "worker.sandbox"},
    "worker.drivers": FLOOR | {"worker.counters", "worker.sandbox", "worker.host"},
    # The process with the engine's socket: of the worker only what is pure, of the store only the log of events.
    "worker.engine_proxy": FLOOR
    | {
        "orchestrator.store.connection",
        "orchestrator.store.security",
        "worker.drivers",
        "worker.host",
        "worker.sandbox",
    },
    "worker.pool": FLOOR | {"worker.counters", "worker.sandbox", "worker.host", "worker.agent", "worker.drivers"},
    "worker.attempt": FLOOR | STORE | BELOW_ATTEMPT | {"orchestrator.queue", "orchestrator.tools", "worker.pool"},
    "worker.upkeep": FLOOR | STORE | BELOW_ATTEMPT | {"orchestrator.queue", "worker.pool"},
    "worker": FLOOR | STORE | BELOW_ATTEMPT | {"orchestrator.queue", "worker.pool", "worker.attempt", "worker.upkeep"},
    "sandbox_image": {"orchestrator.environments", "orchestrator.models", "orchestrator.tool_environments"},
    "orchestrator": set(),
}


def part_of(module: str) -> str:
    known = [part for part in MAP if module == part or module.startswith(f"{part}.")]
    return max(known, key=len)


Import = ast.Import | ast.ImportFrom


class Imports(NamedTuple):
    """Imports at any depth of a module, and those of its top level, with the ones for type checkers."""

    all: tuple[Import, ...]
    loaded: tuple[Import, ...]


@cache
def imports_of(source: str) -> Imports:
    """Parse a module once for all tests, and visit its statements alone: every expression takes seconds."""
    top = ast.parse(source).body
    statements: list[ast.AST] = [*top]
    for node in statements:  # which grows
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            statements += getattr(node, part, ())
    loaded = [inner for node in top for inner in (node.body if isinstance(node, ast.If) else [node])]
    return Imports(
        tuple(node for node in statements if isinstance(node, Import)),
        tuple(node for node in loaded if isinstance(node, Import)),
    )


def imports(path: Path) -> set[str]:
    found = set()
    for node in imports_of(path.read_text()).all:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif node.module and not node.level:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {name for name in submodules if name in MAP}
            found |= known or {node.module}
    return {name for name in found if name.split(".")[0] in (*PACKAGES, "mayfly")}


def modules() -> list[tuple[str, Path]]:
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found.append((name.replace(SDK, "mayfly"), path))
    return found


def forbidden(module: str, imported: set[str]) -> list[str]:
    part = part_of(module)
    targets = {name: part_of(name) for name in imported}
    return [name for name, target in targets.items() if target != part and target not in MAP[part]]


def test_imports_run_down_only() -> None:
    found = {module: forbidden(module, imports(path)) for module, path in modules()}
    assert {module: upward for module, upward in found.items() if upward} == {}


def test_upward_import_is_found() -> None:
    assert forbidden("worker.attempt.runner", {"orchestrator.service", "orchestrator.models"}) == [
        "orchestrator.service"
    ]
    assert forbidden("orchestrator.api.app", {"worker.attempt.runner"}) == ["worker.attempt.runner"]
    records = "orchestrator.store.executions.records"
    assert forbidden("orchestrator.store.steps", {records, "orchestrator.store.scripts"}) == [records]
    route = "orchestrator.api.routes.executions"
    assert forbidden("orchestrator.api.problems", {route}) == [route]
    assert forbidden(route, {"orchestrator.store.keys", "orchestrator.service"}) == ["orchestrator.store.keys"]
    for below in ("orchestrator.store", "orchestrator.queue"):
        assert forbidden("orchestrator.api", {below, "orchestrator.errors"}) == [below]
    assert forbidden("mayfly.calls", {"mayfly.steps", "orchestrator.states"}) == ["orchestrator.states"]
    stack = "orchestrator.cli.commands.local.stack"
    assert forbidden("orchestrator.cli.console", {stack}) == [stack]
    assert forbidden("orchestrator.cli.commands.executions.running", {"orchestrator.store"}) == ["orchestrator.store"]


# No clock, no input or output, no lock: of what they need, callers pass the values in.
PURE = (
    "orchestrator.anomaly",
    "orchestrator.mcp.budget",
    "orchestrator.models",
    "orchestrator.retry",
    "orchestrator.states",
    "worker.agent",
    "worker.sandbox",
)
IMPURE = {"asyncio", "fcntl", "redis", "requests", "select", "socket", "subprocess", "tempfile", "threading", "time"}


def impure(source: str) -> set[str]:
    """The imported modules by which a module would have a clock, input and output, or a lock."""
    found = set()
    for node in imports_of(source).all:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif node.module:
            found.add(node.module.partition(".")[0])
    return found & IMPURE


def test_pure_modules_have_no_clock_and_no_lock() -> None:
    pure = [(name, path) for name, path in modules() if any(f"{name}.".startswith(f"{part}.") for part in PURE)]
    found = {name: impure(path.read_text()) for name, path in pure}
    assert {name: names for name, names in found.items() if names} == {}
    assert len(pure) > 30


def test_clock_in_a_pure_module_is_found() -> None:
    assert impure("import time\nfrom threading import Lock\nimport json") == {"time", "threading"}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first of them once more at the end."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = {name for name, _ in modules()}
    graph = {}
    for name, path in modules():
        found = set()
        for node in imports_of(path.read_text()).loaded:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names} & known
            elif node.module and not node.level:
                named = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= named & known or {node.module} & known
        graph[name] = found - {name}
    assert circle(graph) == []


def test_circle_is_found() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


def test_import_for_type_checkers_counts_in_a_circle() -> None:
    found = imports_of("import a\nif TYPE_CHECKING:\n    import b\ndef f():\n    import c").loaded
    assert [alias.name for node in found for alias in node.names] == ["a", "b"]


def test_import_is_found_at_any_depth() -> None:
    deep = (
        "if a:\n import a\nelif b:\n import b\nelse:\n import c\n"
        "try:\n import d\nexcept E:\n import e\nelse:\n import f\nfinally:\n import g\n"
        "match x:\n case 1:\n  import h\nwith x:\n import i\nfor x in y:\n import j\nelse:\n import k\n"
        "class A:\n async def f():\n  async with x:\n   while x:\n    import l\n"
    )
    assert sorted(alias.name for node in imports_of(deep).all for alias in node.names) == [*"abcdefghijkl"]


def reached_stores(source: str) -> list[int]:
    """Lines in which a store of some other object is reached, which is how a route would go around the use cases."""
    if re.search(r"\.\s*_?store\b", source) is None:
        return []  # as nearly all
    return sorted(
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr in ("store", "_store")
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    )


def test_api_reaches_no_store() -> None:
    paths = [path for name in ("api", "mcp") for path in (ROOT / "orchestrator" / name).rglob("*.py")]
    found = {path: reached_stores(path.read_text()) for path in paths}
    assert {path: lines for path, lines in found.items() if lines} == {}
    assert len(paths) > 30


def test_a_store_that_is_reached_is_found() -> None:
    assert reached_stores("a = parts.service.store.records\nb = service._store\nself._store(b)") == [1, 2]


def test_modules_stay_small() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGER.get(name, MOST_LINES)} == {}
    assert [name for name in LONGER if lengths[name] <= MOST_LINES] == [], "no exception is needed"


FOLDERS = sorted(
    {path.parent for name in ("unit", "integration", "e2e") for path in (ROOT / "tests" / name).rglob("*.py")}
)


IMPORTED = re.compile(r"^[ \t]*(?:import|from)\b[^(\n]*(?:\([^)]*\)|$)", re.MULTILINE)


def imported_tests(source: str) -> list[str]:
    """Modules of tests and fixtures that a source imports; what others need of them stands in ``tests/builders``."""
    if not any(re.search(r"\b(test_|conftest)", statement) for statement in IMPORTED.findall(source)):
        return []  # as nearly all: to parse them takes seconds
    found = set()
    for node in imports_of(source).all:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            found |= {node.module or "", *(f"{node.module or ''}.{alias.name}" for alias in node.names)}
    ours = {name for name in found if name.startswith(("tests.", "test_", ".", "conftest"))}
    return sorted(name for name in ours if re.match(r"test_|conftest$", name.rpartition(".")[2]))


def test_no_module_imports_a_test() -> None:
    found = {path: imported_tests(path.read_text()) for path in (ROOT / "tests").rglob("*.py")}
    assert {path: tests for path, tests in found.items() if tests} == {}
    assert len(found) > 300


def test_an_import_of_a_test_is_found() -> None:
    assert imported_tests("from tests.unit.worker.test_x import y") == ["tests.unit.worker.test_x"]
    assert imported_tests("from tests.unit.worker import test_x") == ["tests.unit.worker.test_x"]
    assert imported_tests("import tests.conftest") == ["tests.conftest"]
    assert imported_tests("def f():\n    from tests.unit.worker import (\n        x,\n        test_x as y,\n    )") == [
        "tests.unit.worker.test_x"
    ]
    assert imported_tests("from tests.builders.records import submit\nimport test") == []


def test_no_folder_has_more_than_a_dozen_modules() -> None:
    folders = Counter(path.parent for name in (*PACKAGES, "tests") for path in (ROOT / name).rglob("*.py"))
    assert {folder: modules for folder, modules in folders.items() if modules > 12} == {}
    assert len(folders) > 50


def test_folders_of_tests_mirror_the_packages() -> None:
    for kind in ("unit", "integration"):
        for folder in FOLDERS:
            inside = str(folder.relative_to(ROOT / "tests"))
            if inside.startswith(f"{kind}/"):
                assert (ROOT / (below := inside.removeprefix(f"{kind}/"))).is_dir(), below


def test_types_are_checked_over_tests_too() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["strict"] is True
    assert {*PACKAGES, "mayfly", "tests"} <= set(settings["packages"])
