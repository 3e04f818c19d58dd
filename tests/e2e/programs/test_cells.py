"""Cells: the value of the last expression, what a program names, open figures; and results that a program forges."""

from __future__ import annotations

import base64
import json
import struct
import textwrap
from typing import Any

import pytest

from tests.builders.tier import Tier
from tests.harness import Stack
from worker.agent.results import JSON, PNG, TEXT, TYPE_BYTES

# Each of these has a new process instead of the one that waits.
FRESH: dict[str, dict[str, Any]] = {"python": {"env": {"PYTHONHASHSEED": "0"}}, "node": {"env": {"NODE_OPTIONS": ""}}}
WAYS = [pytest.param({}, id="warm"), pytest.param(FRESH, id="fresh")]

PYTHON = """
import asyncio, sys

async def slow(number):
    await asyncio.sleep(0.001)
    return number

found = [await slow(number) for number in range(3)]
print(__name__, sys.argv[1:], "mayfly" in sys.modules, input())
{"found": found, "half": 0.5}
"""
NODE = """
import { readFileSync } from 'node:fs';
const slow = (number) => new Promise((done) => setTimeout(done, 1, number));
const found = await Promise.all([0, 1, 2].map(slow));
console.log(require.main === module, process.argv.slice(2), readFileSync(0, 'utf8'));
({ found, half: 0.5 });
"""
FAILING = {
    "python": (
        "def f():\n    return 1 / 0\n\nf()\n",
        ['main.py", line 4, in <module>', 'main.py", line 2, in f', "Zero"],
    ),
    "node": ("function f() {\n  null.x;\n}\nf()\n", ["at f (/work/main.js:2:8)", "/work/main.js:4:", "TypeError"]),
}


def cell(tier: Tier, environment: str, code: str, **more: Any) -> dict[str, Any]:
    return tier.run(environment, code=textwrap.dedent(code), mode="cell", **more)


@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize(("environment", "code"), [("python", PYTHON), ("node", NODE)])
def test_value_of_the_last_expression_is_a_result(
    tier: Tier, environment: str, code: str, ways: dict[str, Any]
) -> None:
    ended = cell(tier, environment, code, args=["a", "b"], stdin="line", **ways.get(environment, {}))
    assert (ended["state"], ended["stderr"], ended["mode"]) == ("succeeded", "", "cell")
    [result] = ended["results"]
    assert (result["source"], result["data"][JSON]) == ("expression", {"found": [0, 1, 2], "half": 0.5})
    assert "found" in result["data"][TEXT]
    printed = {"python": "__main__ ['a', 'b'] False line\n", "node": "true [ 'a', 'b' ] line\n"}
    assert ended["stdout"] == printed[environment]
    assert ended["artifacts"] == []


@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("environment", FAILING)
def test_traceback_has_the_cells_own_frames_only(tier: Tier, environment: str, ways: dict[str, Any]) -> None:
    code, expected = FAILING[environment]
    ended = tier.run(environment, code=code, mode="cell", **ways.get(environment, {}))
    assert (ended["state"], ended["reason"], ended["exit_code"]) == ("failed", "nonzero_exit", 1)
    assert ended["results"] == []
    assert [part for part in expected if part not in ended["stderr"]] == []
    assert "mayfly" not in ended["stderr"] and "cell" not in ended["stderr"]


PLACES = {
    "python": ("class A:\n    def __repr__(self): return 1 / 0\nA()", 'main.py", line 2, in __repr__'),
    "node": ("let x = ;", "/work/main.js:1\nlet x = ;\n"),
}


@pytest.mark.parametrize("environment", PLACES)
def test_error_beside_the_cells_run_names_the_cells_own_line(stack: Stack, environment: str) -> None:
    code, place = PLACES[environment]
    ended = stack.run(environment, code=code, mode="cell")
    assert (ended["reason"], place in ended["stderr"]) == ("nonzero_exit", True), ended["stderr"]
    assert "bundles" not in ended["stderr"] and "async" not in ended["stderr"]


NAMED = {
    "python": "import mayfly\nmayfly.result('named')\nmayfly.result([1])\n2",
    "node": "const mayfly = require('mayfly')\nmayfly.result('named')\nmayfly.result([1])\n2",
}


@pytest.mark.parametrize("mode", ["script", "cell"])
@pytest.mark.parametrize("environment", NAMED)
def test_a_program_names_its_results(tier: Tier, environment: str, mode: str) -> None:
    ended = tier.run(environment, code=NAMED[environment], mode=mode)
    assert (ended["state"], ended["stdout"], ended["stderr"]) == ("succeeded", "", "")
    assert [(result["source"], result["data"][JSON]) for result in ended["results"]] == [
        ("named", "named"),
        ("named", [1]),
    ]
    assert ended["results"][0]["data"][TEXT] == "named"


FIGURES = """
import matplotlib.pyplot as plt
import pandas
plt.plot([1, 2, 3])
plt.figure()
plt.plot([3, 2, 1])
plt.show()
pandas.DataFrame({"a": [1, 2]})
"""


def test_open_figures_are_images_and_a_table_is_html(tier: Tier) -> None:
    ended = cell(tier, "python-data", FIGURES)
    assert (ended["state"], ended["stderr"]) == ("succeeded", "")
    table, *figures = ended["results"]
    assert (table["source"], table["data"][TEXT]) == ("expression", "   a\n0  1\n1  2")
    assert "<table" in table["data"]["text/html"]
    assert [figure["source"] for figure in figures] == ["display", "display"]
    images = [base64.b64decode(figure["data"][PNG]) for figure in figures]
    assert all(struct.unpack_from(">8s4x4s", image) == (b"\x89PNG\r\n\x1a\n", b"IHDR") for image in images)
    assert images[0] != images[1]


@pytest.mark.parametrize(
    ("environment", "code"),
    [("python", "x = 5\n "), ("python", "5;  # no"), ("python", "print(1)"), ("node", "const x = 5")],
)
def test_a_cell_without_a_value_has_no_result(stack: Stack, environment: str, code: str) -> None:
    ended = stack.run(environment, code=code, mode="cell")
    assert (ended["state"], ended["results"]) == ("succeeded", [])


def test_stopped_cell_keeps_its_results(stack: Stack) -> None:
    code = "import mayfly, time\nmayfly.result('early')\ntime.sleep(60)"
    ended = stack.run(code=code, mode="cell", limits={"wall_seconds": 4})
    assert ended["reason"] == "timed_out"
    assert [result["data"][JSON] for result in ended["results"]] == ["early"]


def test_results_are_events_of_the_stream_and_absent_from_lists(stack: Stack) -> None:
    ended = stack.run(code="display('a')\n'é' * 40_000", mode="cell")
    stream = stack.client.get(f"/api/v1/executions/{ended['id']}/stream").text
    events = [part.split("\n") for part in stream.split("\n\n") if "event: result" in part]
    sent = [json.loads(line.removeprefix("data: ")) for part in events for line in part if line.startswith("data: ")]
    assert sent == ended["results"]
    assert [result["source"] for result in sent] == ["expression", "display"]
    assert sent[0]["data"][JSON] == "é" * 40_000  # beyond what Redis keeps of an output
    assert sent[0]["omitted"][0]["media_type"] == TEXT
    assert stack.show(ended["id"])["results"] == ended["results"]
    listed = stack.client.get("/api/v1/executions?limit=1").json()["items"][0]
    assert (listed["id"], listed["results"]) == (ended["id"], [])


def test_an_environment_without_cells_is_named(stack: Stack) -> None:
    refused = stack.submit(environment="bash", code="echo 1", mode="cell")
    assert (refused.status_code, refused.json()["code"]) == (422, "cells_unavailable")
    assert "node, python, python-data" in json.dumps(refused.json())
    offered = {one["name"]: one["cells"] for one in stack.client.get("/api/v1/environments").json()["items"]}
    assert (offered["python"], offered["bash"]) == (True, False)


FORGED = """
import os, pathlib, struct
root = pathlib.Path("/tmp/.mayfly-results")
root.mkdir()

def leave(name, **files):
    (root / name).mkdir()
    for kind, content in files.items():
        (root / name / kind.replace("_", ".")).write_bytes(content)

leave("named.0", text_plain=b"\\xff\\x00" * 50_000)
leave("named.1", application_json=b"[" * 100_000 + b"]" * 100_000)
leave("named.2", image_png=b"\\x89PNG\\r\\n\\x1a\\n" + struct.pack(">I4sII", 13, b"IHDR", 2**31 - 1, 2**31 - 1))
leave("named.3", image_png=b"GIF89a", text_html=b"<b>", application_json=b"NaN", audio_wav=b"1")
leave("named.4")
os.symlink("/etc", root / "named.5")
leave("named.6", text_plain=b"x")
(root / "named.6" / "image.png").symlink_to("/usr/bin/python3")
(root / "named.7").write_bytes(b"no directory")
os.mkfifo(root / "named.6" / "text.html")
leave("other.0", text_plain=b"x")
with open(root / "named.6" / "application.json", "wb") as file:
    file.truncate(2**25)
for number in range(3000):
    leave(f"display.{number}", text_plain=b"1")
"""


def test_forged_results_are_bounded_and_only_data(tier: Tier) -> None:
    ended = tier.run(code=FORGED, limits={"disk_bytes": 2**26, "wall_seconds": 60, "cpu_seconds": 60})
    assert (ended["state"], ended["stderr"], ended["security_events"]) == ("succeeded", "", 0)
    first, deep, bomb, mixed, linked, *others = ended["results"]
    assert len(first["data"][TEXT]) == TYPE_BYTES[TEXT]
    assert first["omitted"][0]["size_bytes"] == 100_000
    assert [(list(one["data"]), len(one["omitted"])) for one in (deep, bomb)] == [([TEXT], 1), ([TEXT], 1)]
    assert "deep" in deep["omitted"][0]["reason"] and "pixels" in bomb["omitted"][0]["reason"]
    assert list(mixed["data"]) == [TEXT, "text/html"]
    assert sorted(omitted["media_type"] for omitted in mixed["omitted"]) == [JSON, PNG]
    assert linked["data"] == {TEXT: "x"}
    assert [(one["media_type"], one["size_bytes"]) for one in linked["omitted"]] == [(JSON, 2**25)]
    assert {one["source"] for one in others} == {"display"}
    assert len(ended["results"]) <= 32
    assert others[-1]["omitted"][-1]["media_type"] == "*/*"


def test_results_are_bounded_together(stack: Stack) -> None:
    code = """
    import os, struct
    head = b"\\x89PNG\\r\\n\\x1a\\n" + struct.pack(">I4sII", 13, b"IHDR", 10, 10)
    for number in range(4):
        os.makedirs(f"/tmp/.mayfly-results/named.{number}")
        with open(f"/tmp/.mayfly-results/named.{number}/image.png", "wb") as file:
            file.write(head + os.urandom(3 * 2**20))
    """
    ended = stack.run(code=textwrap.dedent(code))
    kept = [PNG in result["data"] for result in ended["results"]]
    assert kept == [True, True, False, False]
    assert "8388608 bytes" in ended["results"][2]["omitted"][0]["reason"]


@pytest.mark.parametrize(("linked", "count"), [(True, 0), (False, 1)])
def test_a_link_in_place_of_results_is_not_followed(tier: Tier, linked: bool, count: int) -> None:
    """The control: the same files are a result where they lie in the place itself."""
    code = f"""
    import os
    place = {"/output" if linked else "/tmp/.mayfly-results"!r}
    os.makedirs(place + "/named.1")
    open(place + "/named.1/text.plain", "w").write("x")
    if {linked}:
        os.symlink(place, "/tmp/.mayfly-results")
    """
    ended = tier.run(code=textwrap.dedent(code))
    assert (ended["state"], len(ended["results"])) == ("succeeded", count)
