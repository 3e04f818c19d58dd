"""Outputs and files piece by piece: pieces put together equal the whole; images are images."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image

from orchestrator.mcp.budget import count
from tests.builders.mcp_calls import Agent
from tests.harness import Stack

PROGRAM = """
import os, sys
for n in range(3000):
    print(f"line {n}: caf\\u00e9 \\U0001f98b" + "x" * (n % 40))
os.write(2, bytes(range(256)) * 20)
open("text.csv", "w").write("".join(f"{n},{n * n}\\n" for n in range(5000)))
open("binary.bin", "wb").write(os.urandom(5000))
"""
IMAGES = """
from PIL import Image
Image.effect_noise((2400, 1200), 90).convert("RGB").save("large.png")
Image.new("RGBA", (20, 10), (255, 0, 0, 0)).save("small.png")
open("broken.png", "wb").write(b"\\x89PNG\\r\\n\\x1a\\n" + b"\\0" * 100)
"""


@pytest.fixture(scope="module")
def printed(stack: Stack) -> dict[str, Any]:
    return stack.run(code=PROGRAM)


def whole(agent: Agent, limit: int, **asked: Any) -> bytes:
    """All pieces put together."""
    parts, offset = [], 0
    while True:
        found = agent.call("read_output", limit_tokens=limit, offset=offset, **asked)
        piece = found["structuredContent"]
        texts = "".join(block["text"] for block in found["content"])
        spent = count(texts) + count(json.dumps(piece, ensure_ascii=False, separators=(",", ":")))
        assert spent <= limit
        assert piece["offset"] == offset
        content = piece["content"]
        parts.append(base64.b64decode(content) if piece.get("encoding") == "base64" else content.encode())
        if piece["end"]:
            return b"".join(parts)
        assert piece["next_offset"] > offset
        offset = piece["next_offset"]


@pytest.mark.parametrize("limit", [1500, 4000])
def test_pieces_put_together_equal_the_whole(stack: Stack, printed: dict[str, Any], limit: int) -> None:
    agent, id = Agent(stack), printed["id"]
    for stream in ("stdout", "stderr"):
        exact = stack.client.get(f"/api/v1/executions/{id}/{stream}").content
        assert whole(agent, limit * (2 if stream == "stdout" else 1), execution_id=id, stream=stream) == exact
    assert whole(agent, limit, execution_id=id, artifact="binary.bin") == stack.artifact(printed, "binary.bin")
    assert whole(agent, limit * 3, execution_id=id, artifact="text.csv") == stack.artifact(printed, "text.csv")


def test_lines_are_found_by_number_and_expression(stack: Stack, printed: dict[str, Any]) -> None:
    agent, id = Agent(stack), printed["id"]
    third = agent.call("read_output", execution_id=id, artifact="text.csv", line=3, limit_tokens=200)
    assert third["structuredContent"]["content"].startswith("2,4\n3,9\n")
    found = agent.call("read_output", execution_id=id, artifact="text.csv", grep=r"^49\d\d,\d+00$", limit_tokens=2000)
    lines = [f"{n + 1}:{n},{n * n}" for n in range(4900, 5000) if str(n * n).endswith("00")]
    assert found["structuredContent"]["content"].split("\n") == lines
    assert found["structuredContent"]["end"]
    pages, offset = [], 0
    while True:
        page = agent.call("read_output", execution_id=id, grep="caf.*x{39}$", offset=offset, limit_tokens=300)
        pages += page["structuredContent"]["content"].split("\n")
        if page["structuredContent"]["end"]:
            break
        offset = page["structuredContent"]["next_offset"]
    assert [int(line.split(":")[0]) for line in pages if line] == [n + 1 for n in range(3000) if n % 40 == 39]
    hostile = agent.call("read_output", execution_id=id, grep="(x+x+)+y", limit_tokens=300)
    assert hostile["structuredContent"]["end"]
    behind = agent.error("read_output", execution_id=id, offset=10**9)
    assert f"there are {printed['stdout_bytes']} bytes" in behind
    assert "files: binary.bin, text.csv" in agent.error("read_output", execution_id=id, artifact="no.txt")


def test_images_come_back_in_a_size_that_models_take(stack: Stack) -> None:
    made = stack.run("python-data", code=IMAGES, limits={"wall_seconds": 60})
    assert made["state"] == "succeeded", made["stderr"]
    agent = Agent(stack)
    large, small = (
        agent.call("read_output", execution_id=made["id"], artifact=name)["content"][0]
        for name in ("large.png", "small.png")
    )
    assert (large["type"], small["mimeType"]) == ("image", "image/png")
    data = base64.b64decode(large["data"])
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (1568, 784)
    assert len(data) <= 750_000
    assert base64.b64decode(small["data"]) == stack.artifact(made, "small.png")
    assert len(stack.artifact(made, "large.png")) > 1_000_000
    assert "not_an_image" in agent.error("read_output", execution_id=made["id"], artifact="broken.png")
    raw = agent.call("read_output", execution_id=made["id"], artifact="broken.png", offset=0)
    assert raw["structuredContent"]["encoding"] == "base64"


def test_outputs_and_files_are_resources(stack: Stack, printed: dict[str, Any]) -> None:
    agent, base = Agent(stack), f"mayfly://executions/{printed['id']}"
    listed = {one["uri"]: one for one in agent.result("resources/list")["resources"]}
    assert listed[f"{base}/artifacts/text.csv"]["size"] == len(stack.artifact(printed, "text.csv"))
    assert agent.result("resources/read", {"uri": f"{base}/stdout"})["contents"][0]["text"] == printed["stdout"]
    binary = agent.result("resources/read", {"uri": f"{base}/artifacts/binary.bin"})["contents"][0]
    assert base64.b64decode(binary["blob"]) == stack.artifact(printed, "binary.bin")
    missing = agent.request("resources/read", {"uri": f"{base}/artifacts/none"}).json()
    assert missing["error"]["code"] == -32602
    assert missing["error"]["data"]["uri"] == f"{base}/artifacts/none"
    templates = agent.result("resources/templates/list")["resourceTemplates"]
    assert [one["name"] for one in templates] == ["output", "artifact"]


def test_list_of_resources_is_bounded_by_tokens(stack: Stack) -> None:
    names = "[f'file {n} ' + 'name ' * 12 for n in range(90)]"
    made = stack.run(code=f"for name in {names}: open(name, 'w').write(name)")
    assert len(made["artifacts"]) == 90
    listed = Agent(stack).result("resources/list")["resources"]
    assert 1500 < count(json.dumps(listed, separators=(",", ":"))) <= 2100
    every = [{**listed[0], "name": one["path"]} for one in made["artifacts"]]
    assert count(json.dumps(every, separators=(",", ":"))) > 2100, "the control: all of them would cost more"
