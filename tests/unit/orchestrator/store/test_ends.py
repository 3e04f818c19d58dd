"""One function of the store ends executions, one writes security events, and one function of Lua writes states."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from orchestrator.states import State
from tests.harness import ROOT

SOURCES = sorted(path for package in ("orchestrator", "worker") for path in (ROOT / package).rglob("*.py"))
LUA = ROOT / "orchestrator" / "store" / "lua"
STEP = "orchestrator.store.steps"
GOES_ON = {f"State.{state.name}" for state in (State.QUEUED, State.STARTING, State.RUNNING)}
THE_END = ["orchestrator/store/executions/records.py: _end"]
# The way of a result to its record: functions that refer to each step of it.
WAY_OF_A_RESULT = {
    "output.commit": ["worker/attempt/runner.py: _run_in"],
    "records.commit": ["worker/attempt/output.py: commit"],
    "self._end": ["orchestrator/store/executions/records.py: commit", "orchestrator/store/executions/records.py: end"],
}
# Writes of a record's state: its name and its new value.
STATE_WRITE = re.compile(r"'HSET', record, (?:[^\n]*, )?'state', ([^,)]+)")


def _imports_steps(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.ImportFrom) and node.module == STEP for node in ast.walk(tree))


def _targets(call: ast.Call) -> Iterator[ast.expr]:
    """The target state of a step in a call: its ``to``, by place in ``Step`` or by name in ``_replace``."""
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    if name == "Step" and len(call.args) > 2:
        yield call.args[2]
    if name in ("Step", "_replace"):
        yield from (keyword.value for keyword in call.keywords if keyword.arg in ("to", None))


def ending_functions(source: str) -> list[str]:
    """Functions that make a step whose target may be a final state."""
    if STEP not in source or not _imports_steps(tree := ast.parse(source)):
        return []
    return [
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        for target in _targets(call)
        if ast.unparse(target) not in GOES_ON
    ]


def referring(source: str, method: str) -> list[str]:
    """The functions that call a method, or pass the method on, by the end of its dotted name."""
    if f".{method.rpartition('.')[2]}" not in source:
        return []  # as nearly all: to parse them takes seconds
    return [
        function.name
        for function in ast.walk(ast.parse(source))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and ast.unparse(node).endswith(method)
    ]


def state_writes(text: str) -> list[str]:
    """The values that a Lua text writes into a record's ``state``."""
    return STATE_WRITE.findall(text)


def test_one_function_ends_executions() -> None:
    found = [f"{path.relative_to(ROOT)}: {name}" for path in SOURCES for name in ending_functions(path.read_text())]
    assert found == THE_END


@pytest.mark.parametrize("method", WAY_OF_A_RESULT)
def test_result_is_committed_in_one_way(method: str) -> None:
    sources = [path for path in SOURCES if method != "self._end" or path.stem == "records"]
    found = [f"{path.relative_to(ROOT)}: {name}" for path in sources for name in referring(path.read_text(), method)]
    assert found == WAY_OF_A_RESULT[method]


def test_second_way_to_commit_is_found() -> None:
    source = "def first(store): store.records.commit(1)\ndef second(self): return partial(self._records.commit, 2)\n"
    assert referring(source, "records.commit") == ["first", "second"]


@pytest.mark.parametrize(
    "body",
    [
        "self._steps.take(Step(id, attempt, to))",
        "self._steps.take(Step(id, attempt, State.CANCELLED, (State.QUEUED,)))",
        "self._steps.take(Step(id, attempt, to=verdict.state))",
        "self._steps.take(Step(id, attempt, State.RUNNING)._replace(to=State.FAILED))",
        "self._steps.take(Step(**{'to': State.ERRORED}))",
    ],
)
def test_a_second_way_to_end_is_found(body: str) -> None:
    source = f"from {STEP} import Step\nclass Records:\n    def commit(self):\n        {body}\n"
    assert ending_functions(source) == ["commit"]


def test_steps_to_active_states_are_no_ends() -> None:
    source = f"from {STEP} import Step\ndef f():\n    Step(id, 1, State.QUEUED)\n    Step(id, 1, entries=())\n"
    assert ending_functions(source) == []


def test_security_events_are_typed_until_the_store_writes_them() -> None:
    users = [str(path.relative_to(ROOT)) for path in SOURCES if "written_form(" in path.read_text()]
    assert users == ["orchestrator/store/security.py", "orchestrator/store/steps.py"]


def test_only_steps_and_claims_change_a_state() -> None:
    writes = {path.stem: found for path in LUA.rglob("*.lua") if (found := state_writes(path.read_text()))}
    assert writes == {"submit": ["'queued'"], "states": ["to"]}
    callers = {path.stem for path in LUA.glob("*.lua") if "advance(" in path.read_text()}
    assert callers == {"step", "take"}
    assert re.findall(r"advance\(id, found, ([^,]+),", (LUA / "take.lua").read_text()) == ["'starting'"]
    direct = [
        str(path.relative_to(ROOT)) for path in SOURCES if re.search(r"hset\([^)]*[\"']state[\"']", path.read_text())
    ]
    assert direct == []


def test_a_second_write_of_a_state_is_found() -> None:
    assert state_writes("redis.call('HSET', record, 'state', 'failed', 'result', '')") == ["'failed'"]
    assert state_writes("redis.call('HSET', record, 'result', '', 'state', to)") == ["to"]
