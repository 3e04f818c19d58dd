"""The frames of the agent for results that a program has left, or pretends to have left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builders.agent import Agent
from worker.agent.frames import FromAgent, ToAgent
from worker.agent.results import TEXT, TYPE_BYTES, ResultSink

BOUNDS = {"count": 3, "bytes": 1000, "types": {TEXT: 100, "image/png": 100}}


@pytest.fixture
def sent(agent: Agent) -> Callable[..., tuple[list[dict[str, Any]], list[bytes]]]:
    """The agent's frames after a program that gets the directory of results in ``root``: headers, and their data."""

    def run(program: str, results: dict[str, Any] | None = BOUNDS) -> tuple[list[dict[str, Any]], list[bytes]]:
        root = Path(agent.paths["tmp"], ".mayfly-results")
        agent.input("main.py", f"import os, pathlib\nroot = pathlib.Path({str(root)!r})\n{program}")
        agent.start(results=results, artifacts=["nothing"])
        headers: list[dict[str, Any]] = []
        content: list[bytes] = []
        for frame in agent.frames:
            if frame.kind is FromAgent.RESULT:
                headers.append(frame.json())
                content.append(b"")
            elif frame.kind is FromAgent.RESULT_DATA:
                content[-1] += frame.payload
            elif frame.kind is FromAgent.EXIT:
                assert frame.json()["exit_code"] == 0
                break
        agent.write(ToAgent.BYE)
        return headers, content

    return run


LEAVE = """
def leave(name, kind, content):
    (root / name).mkdir(parents=True, exist_ok=True)
    (root / name / kind).write_bytes(content)
"""


def test_results_are_sent_by_source_and_time(sent: Callable[..., Any]) -> None:
    headers, content = sent(
        LEAVE + "for name in ('display.1', 'named.2', 'named.1', 'other.1', '.named.0'):\n"
        "    leave(name, 'text.plain', name.encode())"
    )
    assert content == [b"named.1", b"named.2", b"display.1"]
    assert [(header["number"], header["source"]) for header in headers] == [(0, "named"), (1, "named"), (2, "display")]
    assert headers[0] == {"number": 0, "source": "named", "media_type": TEXT, "size": 7, "length": 7}


def test_text_is_cut_and_other_types_are_left_out(sent: Callable[..., Any]) -> None:
    headers, content = sent(
        LEAVE + "leave('named.1', 'text.plain', b'x' * 101)\nleave('named.1', 'image.png', b'x' * 101)\n"
        "leave('named.1', 'audio.wav', b'x')"
    )
    assert [(header["media_type"], header["size"], header["length"]) for header in headers] == [
        (TEXT, 101, 100),
        ("image/png", 101, 0),
    ]
    assert content == [b"x" * 100, b""]


def test_further_results_are_counted(sent: Callable[..., Any]) -> None:
    headers, _ = sent(LEAVE + "for number in range(5): leave(f'display.{number}', 'text.plain', b'x')")
    assert headers[-1] == {"omitted": 2}
    assert len(headers) == 4


def test_all_results_are_bounded_together(sent: Callable[..., Any]) -> None:
    headers, content = sent(
        LEAVE + "for number in range(3): leave(f'display.{number}', 'text.plain', b'x' * 80)",
        {**BOUNDS, "bytes": 100},
    )
    assert [header["length"] for header in headers] == [80, 20, 0]
    assert content == [b"x" * 80, b"x" * 20, b""]


@pytest.mark.parametrize(
    "program",
    [
        "os.symlink(secret.parent.parent, root)",
        "root.mkdir(); os.symlink(secret.parent, root / 'named.1')",
        "(root / 'named.1').mkdir(parents=True); os.symlink(secret, root / 'named.1' / 'text.plain')",
        "(root / 'named.1').mkdir(parents=True); os.mkfifo(root / 'named.1' / 'text.plain')",
        "(root / 'named.1' / 'text.plain').mkdir(parents=True)",
        "root.mkdir(); (root / 'named.1').write_text('x')",
        "root.write_text('x')",
    ],
)
def test_only_files_in_directories_are_results(sent: Callable[..., Any], tmp_path: Path, program: str) -> None:
    secret = tmp_path / "secret" / "named.1" / "text.plain"
    secret.parent.mkdir(parents=True)
    secret.write_text("secret")
    assert sent(f"secret = pathlib.Path({str(secret)!r})\n{program}") == ([], [])


def test_a_host_that_names_no_bounds_gets_no_results(sent: Callable[..., Any]) -> None:
    assert sent(LEAVE + "leave('named.1', 'text.plain', b'x')", None) == ([], [])


def test_worker_accepts_the_agents_results(sent: Callable[..., Any]) -> None:
    sink = ResultSink(2**20, 2)
    headers, content = sent(
        LEAVE + "leave('named.1', 'text.plain', b'x' * 70_000)\nleave('named.1', 'application.json', b'[1]')\n"
        "leave('display.1', 'text.html', b'<b>')\nleave('display.2', 'text.html', b'<b>')",
        sink.bounds,
    )
    for header, data in zip(headers, content, strict=True):
        sink.begin(header)
        if data:
            sink.data(data)
    first, second = sink.bundles()
    assert (first.data["application/json"], len(first.data[TEXT])) == ([1], TYPE_BYTES[TEXT])
    assert [omitted.media_type for omitted in first.omitted] == [TEXT]
    assert (second.data["text/html"], second.omitted[-1].media_type) == ("<b>", "*/*")
