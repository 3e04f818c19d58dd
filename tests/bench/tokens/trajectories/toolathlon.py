"""Toolathlon: recorded runs of models, ``trajs/*.json`` of the repository ``WaitHZ/toolathlon-traj-website``."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.tools.names import spellings
from tests.bench.tokens.trajectories.model import Call, Exchange, Trajectory
from tests.bench.tokens.trajectories.source import Source

SEED, DRAWN = 18, 30
FEWEST_CALLS = 2
MEAN_DEFINITION = 246  # tokens of one of the 358 definitions of part 1: the catalogues of the runs are not recorded
FAILURES = ("error", "failed", "tool error")


def toolathlon(repository: Path) -> Iterator[Source]:
    """Runs drawn by the seed among all with two calls or more. ``repository`` is a Git directory."""
    paths = sorted(_git(repository, "ls-tree", "-r", "--name-only", "HEAD", "trajs/").splitlines())
    left = DRAWN
    for path in random.Random(SEED).sample(paths, len(paths)):
        document = json.loads(_git(repository, "show", f"HEAD:{path}"))
        trajectory = _recorded(Path(path).stem, document["messages"])
        if left and len(trajectory.calls) >= FEWEST_CALLS:
            left -= 1
            yield Source(trajectory, None)


def _git(repository: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(repository), *words], capture_output=True, text=True, check=True).stdout


def _recorded(id: str, messages: list[dict[str, Any]]) -> Trajectory:
    results = {message["tool_call_id"]: message["content"] for message in messages if message["role"] == "tool"}
    tools = {call["function"]["name"] for message in messages for call in message.get("tool_calls") or []}
    spelt = spellings(tools)
    exchanges: list[Exchange] = []
    user, answer = "", ""
    turns: list[tuple[Call, ...]] = []
    for message in [*messages, {"role": "user", "content": ""}]:
        if message["role"] == "user":
            if turns:
                exchanges.append(Exchange(user, tuple(turns), answer))
                user, turns = "", []
            user += str(message["content"])
        elif message["role"] == "assistant":
            answer = str(message["content"] or "")
            if calls := message.get("tool_calls"):
                turns.append(tuple(_call(call, results, spelt) for call in calls))
    return Trajectory(id, tuple(exchanges), MEAN_DEFINITION * len(tools))


def _call(call: dict[str, Any], results: dict[str, Any], spelt: dict[str, str]) -> Call:
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except ValueError:
        arguments = function["arguments"]
    given = arguments if isinstance(arguments, dict) else {"arguments": arguments}
    result = _plain(results.get(call["id"], ""))
    failed = isinstance(result, str) and result.lower().startswith(FAILURES)
    return Call(f"recorded.{spelt[function['name']]}", given, result, failed)


def _plain(content: Any) -> Any:
    """A result as plain data: of a single block its text, parsed if it is JSON."""
    value = content
    for _ in range(2):
        if isinstance(value, str) and value[:1] in ("{", "["):
            try:
                value = json.loads(value)
            except ValueError:
                return value
        if isinstance(value, dict) and value.get("type") == "text" and isinstance(value.get("text"), str):
            value = value["text"]
    return value
