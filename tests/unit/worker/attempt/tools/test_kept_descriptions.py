"""Descriptions of tools are kept for equal executions, and made again after a change."""

from __future__ import annotations

import json

from orchestrator.models import Specification
from orchestrator.models.tools import CallerTool, Catalogue, Tool
from orchestrator.store.tools.shapes import Seen
from tests.bench.tokens.catalogues import LISTED
from tests.builders.records import specification
from worker.attempt.tools.descriptions import Descriptions, searched

READ = Tool(server="files", name="read", input_schema={})
FILES = (Catalogue(server="files", state="ready", tools=(READ,), digest="1", since=LISTED),)
SHAPES = Seen(b"1", {"files.read": {"type": "string"}})
OWN = CallerTool(name="ask", inputSchema={"type": "object"})


def spec(*tools: str | CallerTool, tenant: str = "t", entrypoint: str = "main.py") -> Specification:
    return specification(tenant).model_copy(update={"tools": tools, "entrypoint": entrypoint})


def test_equal_executions_share_their_files() -> None:
    descriptions = Descriptions()
    first = descriptions.of(FILES, spec("*"))
    assert descriptions.of(FILES, spec("*")) is first
    assert set(first.files) == {"INDEX", "names.json", "files/read.py"}


def test_each_difference_makes_another_description() -> None:
    descriptions = Descriptions()
    changed = (FILES[0].model_copy(update={"digest": "2"}),)
    found = [
        descriptions.of(FILES, spec("*")),
        descriptions.of(FILES, spec("files.read")),
        descriptions.of(FILES, spec("*", OWN)),
        descriptions.of(FILES, spec("*", entrypoint="main.js")),
        descriptions.of(FILES, spec("*", tenant="u")),
        descriptions.of(changed, spec("*")),
        descriptions.of(FILES, spec("*"), SHAPES),
        descriptions.of(FILES, spec("*", OWN), destructive=frozenset()),
        descriptions.of(FILES, spec("*", OWN), destructive=frozenset({"files"})),
    ]
    assert len({id(one) for one in found}) == len(found)
    assert "caller/ask.py" in found[2].files
    assert "files/read.d.ts" in found[3].files
    assert set(found[7].files) == {"INDEX", "names.json", "caller/ask.py"}, "its server's policy refuses the other"
    assert "files/read.py" in found[8].files
    names = [json.loads(searched(one, '{"query": "", "detail": "names"}').result or "") for one in found[7:]]
    assert names == [["caller.ask"], ["caller.ask", "files.read"]]


def test_shapes_seen_before_stand_in_files_and_answers() -> None:
    description = Descriptions().of(FILES, spec("*"), SHAPES)
    assert "def read() -> str:  # seen before" in description.files["files/read.py"]
    outcome = searched(description, '{"query": "read"}')
    assert json.loads(outcome.result or "") == [
        {"name": "files.read", "signature": "files.read() -> str  # seen before"}
    ]
