"""BFCL: questions, answers and simulators of the wheel ``bfcl-eval``, read without installing its dependencies."""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.mcp.budget import count
from tests.bench.tokens.trajectories.model import Exchange, Trajectory
from tests.bench.tokens.trajectories.replaying import ToolFailed
from tests.bench.tokens.trajectories.source import Source, called

PACKAGE = "bfcl_eval.eval_checker.multi_turn_eval.func_source_code"
MODULES = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
}


class Simulators:
    """The objects of one entry, in their first state."""

    def __init__(self, row: dict[str, Any], *, long_context: bool) -> None:
        self._objects = []
        for name in row["involved_classes"]:
            made = getattr(importlib.import_module(f"{PACKAGE}.{MODULES[name]}"), name)()
            if hasattr(made, "_load_scenario"):
                first = copy.deepcopy(row["initial_config"].get(name, {}))
                made._load_scenario(first, long_context=long_context)
            self._objects.append(made)
        members = [member for made in self._objects for member in inspect.getmembers(made, inspect.ismethod)]
        self._methods = {name: method for name, method in members if not name.startswith("_")}

    def answer(self, tool: str, arguments: dict[str, Any]) -> Any:
        try:
            result = self._methods[tool.partition(".")[2]](**copy.deepcopy(arguments))  # some keep and change them
        except Exception as error:  # whatever a simulator raises is the tool's failure
            raise ToolFailed(str(error)) from error
        return json.loads(json.dumps(result, default=str))

    def state(self) -> Any:
        return [_public(made) for made in self._objects]


def bfcl(kind: str, root: Path) -> Iterator[Source]:
    """Every entry of a multi-turn category, ``base`` or ``long_context``. ``root`` has the unpacked wheel."""
    sys.path.insert(0, str(root))
    data = root / "bfcl_eval" / "data"
    docs = {path.stem: _rows(path) for path in (data / "multi_turn_func_doc").glob("*.json")}
    answers = _rows(data / "possible_answer" / f"BFCL_v4_multi_turn_{kind}.json")
    truths = {row["id"]: row["ground_truth"] for row in answers}
    for row in _rows(data / f"BFCL_v4_multi_turn_{kind}.json"):
        definitions = tuple(doc for name in row["involved_classes"] for doc in docs[MODULES[name]])
        names = {doc["name"]: list(doc["parameters"]["properties"]) for doc in definitions}
        fresh = partial(Simulators, row, long_context=kind == "long_context")
        simulator = fresh()
        exchanges = []
        for asked, written in zip(row["question"], truths[row["id"]], strict=True):
            calls = [called(simulator, *_parsed(call, names)) for call in written]
            user = "\n".join(message["content"] for message in asked)
            exchanges.append(Exchange(user, tuple((call,) for call in calls)))
        catalogue = sum(count(json.dumps(doc, separators=(",", ":"))) for doc in definitions)
        if any(exchange.turns for exchange in exchanges):
            yield Source(Trajectory(row["id"], tuple(exchanges), catalogue), fresh, definitions)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _parsed(written: str, names: dict[str, list[str]]) -> tuple[str, dict[str, Any]]:
    """A call as BFCL writes it: the tool, and its arguments by name."""
    call = ast.parse(written, mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError(f"{written!r} is no call.")
    placed = {name: ast.literal_eval(value) for name, value in zip(names[call.func.id], call.args, strict=False)}
    named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    return f"bfcl.{call.func.id}", {**placed, **named}


def _public(made: object) -> Any:
    """The attributes that BFCL compares, down to the last one, as plain values."""
    if isinstance(made, dict):
        return {str(name): _public(value) for name, value in made.items()}
    if isinstance(made, list | tuple):
        return [_public(value) for value in made]
    if hasattr(made, "__dict__"):
        kept = {name: value for name, value in vars(made).items() if name == "contents" or not name.startswith("_")}
        return {name: _public(value) for name, value in kept.items() if name != "parent"}
    return repr(made)
