"""The views of ``tests/programs/shown.toml`` for a model: of programs run in containers, or of recorded materials.

``python -m tests.builders.sandboxes.shown`` runs them with a stack of its own and records the materials anew.
"""

from __future__ import annotations

import base64
import json
import lzma
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.environments import load_environments
from orchestrator.mcp.budget import Material, Stream, count, render
from orchestrator.mcp.budget.explain import Ending, explain, importable
from orchestrator.mcp.budget.personal_data import PersonalDataFilter
from orchestrator.models import Artifact, Limits
from orchestrator.models.results import ResultBundle
from tests.harness import ROOT, Stack

PROGRAMS: list[dict[str, Any]] = tomllib.loads((ROOT / "tests/programs/shown.toml").read_text())["program"]
RECORDED = ROOT / "tests/programs/shown_materials.json.xz"
BUDGET = 500
KEPT_BYTES = 512 * 1024  # of a stream as a whole; of a longer one 64 KiB of each end
END_BYTES = 64 * 1024


@cache
def environments() -> Any:
    """The product's environments."""
    return load_environments([ROOT / "sandbox_image" / "environments"])


def run(stack: Stack, program: dict[str, Any]) -> dict[str, Any]:
    """Run a program; gives its material as JSON."""
    body = {name: program[name] for name in ("code", "limits", "mode") if name in program}
    ended = stack.run(program.get("environment", "python"), **body)
    streams = {}
    for name in ("stdout", "stderr"):
        data = stack.client.get(f"/api/v1/executions/{ended['id']}/{name}").content
        whole = len(data) <= KEPT_BYTES
        head, tail = (data, b"") if whole else (data[:END_BYTES], data[-END_BYTES:])
        total = max(len(data), ended[f"{name}_bytes"])
        streams[name] = [base64.b64encode(head).decode(), base64.b64encode(tail).decode(), total]
    kept = {name: ended[name] for name in ("environment", "state", "reason", "fault", "exit_code", "signal", "limits")}
    artifacts = [{**artifact, "url": None} for artifact in ended["artifacts"]]
    security = [event["detail"] for event in stack.security(ended["id"])]
    return {**kept, **streams, "artifacts": artifacts, "security": security, "results": ended.get("results", [])}


def run_all(stack: Stack) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run every program, some at a time; gives names and materials."""
    with ThreadPoolExecutor(3) as threads:
        yield from zip(
            (program["name"] for program in PROGRAMS), threads.map(lambda one: run(stack, one), PROGRAMS), strict=True
        )


def stream_of(kept: tuple[str, str, int]) -> Stream:
    """A stream as it was kept."""
    head, tail, total = kept
    return Stream(base64.b64decode(head), base64.b64decode(tail), total)


def material_of(kept: dict[str, Any]) -> Material:
    """The material with its explanation."""
    declared, stderr = environments(), stream_of(kept["stderr"])
    explanation = explain(
        Ending(
            kept["environment"],
            kept["reason"],
            Limits(**kept["limits"]),
            declared[kept["environment"]].maxima,
            kept["signal"],
            stderr.tail or stderr.head,
            {name: importable(one.packages) for name, one in declared.items()},
        )
    )
    return Material(
        "5e0c1d7ab0f94a6d8f5b3c1e97a2d446",
        kept["state"],
        kept["reason"],
        kept["fault"],
        kept["exit_code"],
        kept["signal"],
        explanation,
        tuple(ResultBundle(**one) for one in kept["results"]),
        stream_of(kept["stdout"]),
        stderr,
        tuple(Artifact(**one) for one in kept["artifacts"]),
        tuple(kept["security"]),
    )


def faults(program: dict[str, Any], material: Material) -> list[str]:
    """The expected parts that a program's view of 500 tokens lacks, and the unexpected parts that it has."""
    found = []
    for carrier in ("text", "structured", "both"):
        personal_data = PersonalDataFilter() if program.get("personal_data") else None
        rendered = render(material, BUDGET, carrier, personal_data)
        structured = json.dumps(rendered.structured, ensure_ascii=False, separators=(",", ":"))
        total = count(rendered.text) + count(structured)
        if rendered.tokens_returned != total or total > BUDGET:
            found.append(f"{carrier}: {total} tokens, returned {rendered.tokens_returned}")
        if len(rendered.images) != program.get("images", 0):
            found.append(f"{len(rendered.images)} images")
        shown = str(rendered.structured["output"]) if carrier == "structured" else rendered.text
        found += [f"{carrier} has {text!r}" for text in program.get("lacks", ()) if text in shown]
        if carrier != "both":  # which has half of the budget
            found += [f"{carrier} has no {text!r}" for text in program["contains"] if text not in shown]
        if carrier == "text":
            if total > program.get("most", BUDGET):
                found.append(f"{total} tokens")
            if ("withheld" in rendered.text) > (rendered.tokens_withheld > 0):
                found.append("nothing is counted as withheld")
    return [*found, render(material, BUDGET, "text").text] if found else []


def recorded() -> dict[str, dict[str, Any]]:
    """The materials as they were recorded, by the program's name."""
    found: dict[str, dict[str, Any]] = json.loads(lzma.decompress(RECORDED.read_bytes()))
    return found


def record() -> int:
    """Run every program and write the materials; programs whose material has a fault are named."""
    with tempfile.TemporaryDirectory(prefix="mayfly-shown-") as directory:
        stack = Stack(Path(directory))
        try:
            materials = dict(run_all(stack.start()))
        finally:
            stack.stop()
    RECORDED.write_bytes(lzma.compress(json.dumps(materials, sort_keys=True).encode()))
    return sum(bool(faults(program, material_of(materials[program["name"]]))) for program in PROGRAMS)


if __name__ == "__main__":
    sys.exit(record())
