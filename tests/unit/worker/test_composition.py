"""The composition root gives each part what it needs when it makes it: nothing is set later, nothing is closed over."""

from __future__ import annotations

import ast
import re

import pytest

from tests.harness import ROOT

PROCESS = ROOT / "worker" / "process.py"
OTHERS = ("orchestrator/broker/process.py", "orchestrator/service/composition.py", "orchestrator/api/__main__.py")
NAME = "Worker"


def late(source: str) -> list[str]:
    """The forbidden parts of a composition root: lambdas, and attributes of other objects that it sets."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Lambda):
            found.append(f"line {node.lineno}: a lambda")
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            if not (isinstance(node.value, ast.Name) and node.value.id == "self"):
                found.append(f"line {node.lineno}: {ast.unparse(node)} is set from outside")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "object.__setattr__"):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def premature(source: str, name: str) -> list[str]:
    """Attributes that a method uses and that the constructor sets only after it has handed the method to a part.

    Also attributes that the constructor does not set at all.
    """
    (root,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name)
    methods = {node.name: node for node in root.body if isinstance(node, ast.FunctionDef)}
    made: set[str] = set()
    found = []
    for statement in methods["__init__"].body:
        handed: set[str] = set()
        used = _own(statement, ast.Load)
        while pending := (used & methods.keys()) - handed:
            handed |= pending
            used |= set().union(*(_own(methods[method], ast.Load) for method in pending))
        found += [f"line {statement.lineno}: {attribute}" for attribute in sorted(used - methods.keys() - made)]
        made |= _own(statement, ast.Store)
    for method in methods.values():
        found += [f"{method.name}: {attribute}" for attribute in sorted(_own(method, ast.Store) - made)]
    return found


def _own(node: ast.AST, context: type[ast.expr_context]) -> set[str]:
    """The attributes of ``self`` that are read, or set."""
    return {
        inner.attr
        for inner in ast.walk(node)
        if isinstance(inner, ast.Attribute)
        and isinstance(inner.ctx, context)
        and isinstance(inner.value, ast.Name)
        and inner.value.id == "self"
    }


def test_worker_process_sets_no_late_attribute_and_has_no_lambda() -> None:
    assert late(PROCESS.read_text()) == []


@pytest.mark.parametrize("path", OTHERS)
def test_other_composition_roots_set_no_late_attribute_and_have_no_lambda(path: str) -> None:
    assert late((ROOT / path).read_text()) == []


def test_worker_process_passes_no_method_before_its_attributes() -> None:
    assert premature(PROCESS.read_text(), NAME) == []


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        (r"self\._host_monitor\.look_at_engine,", "lambda: self._heartbeat.renew,", "a lambda"),
        (r"(        self\._heartbeat = .*\n)", r"\1        self._slots.paused = self._beat\n", "_slots.paused is set"),
        (r"(        self\._heartbeat = .*\n)", r"\1        setattr(self._pool, 'x', 1)\n", "setattr"),
    ],
)
def test_late_attributes_and_lambdas_are_found(old: str, new: str, finding: str) -> None:
    changed, count = re.subn(old, new, PROCESS.read_text())
    assert count == 1
    (found,) = late(changed)
    assert finding in found


def test_a_method_that_is_handed_out_too_early_is_found() -> None:
    source = PROCESS.read_text()
    (line,) = re.findall(r"        self\._lease = .*\n", source)
    moved = source.replace(line, "").replace("    def main(self)", f"{line}\n    def main(self)", 1)
    assert any("_lease" in found for found in premature(moved, NAME))
    assert premature(source.replace("        self._draining = False\n", ""), NAME) != []


def named_calls(source: str) -> list[str]:
    """Calls of the protocol to containers that take a text, such as the name of a container."""
    return [
        f"{kind.name}.{call.name}"
        for kind in ast.parse(source).body
        if isinstance(kind, ast.ClassDef)
        for call in kind.body
        if isinstance(call, ast.FunctionDef)
        and any(argument.annotation and "str" in ast.unparse(argument.annotation) for argument in call.args.args)
    ]


def test_no_call_of_a_driver_names_a_container() -> None:
    source = (ROOT / "worker" / "drivers" / "base.py").read_text()
    assert named_calls(source) == []
    assert named_calls(source.replace("def kill(self)", "def kill(self, name: str)")) == ["Sandbox.kill"]
