"""A command line becomes the intended submission."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mayfly import inputs
from orchestrator.cli.commands.executions.feeding import is_fed
from orchestrator.cli.commands.executions.program import Program, guess_environment, parse_size
from orchestrator.cli.connection import Configuration
from tests.builders.sandboxes.scripted import Script

DIRECTORIES = Configuration().environments_dirs


def submission(**typed: object) -> dict[str, object]:
    code, options = Program(**{"no_stdin": True, **typed}).arguments(Configuration())  # type: ignore[arg-type]
    script = Script()
    return script.complete(inputs.submission(code, options, script.calls.put_blob))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("prog.py", b"", "python"),
        ("PROG.PY", b"", "python"),
        ("a.js", b"", "node"),
        ("a.mjs", b"", "node"),
        ("x.sh", b"", "bash"),
        ("x.bash", b"", "bash"),
        ("tool", b"#!/usr/bin/env python3\n", "python"),
        ("tool", b"#!/bin/sh\n", "bash"),
        ("tool", b"#!/usr/bin/env node\n", "node"),
        ("tool", b"#!/usr/bin/perl\n", None),
        ("notes.txt", b"print(1)", None),
    ],
)
def test_environment_is_guessed(name: str, content: bytes, expected: str | None) -> None:
    assert expected == guess_environment(name, content, DIRECTORIES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("65536", 65536), ("512M", 512 * 2**20), ("512MiB", 512 * 2**20), ("1.5g", 3 * 2**29), ("64 kB", 64 * 2**10)],
)
def test_size_with_a_unit_is_parsed(text: str, expected: int) -> None:
    assert expected == parse_size(text)


@pytest.mark.parametrize("text", ["", "M", "-1", "1T", "NaN", "1e3", "0x10"])
def test_invalid_size_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="size"):
        parse_size(text)


def test_a_file_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text("print(1)")
    (tmp_path / "data.bin").write_bytes(b"\xff\x00")
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "x.txt").write_text("é")
    made = submission(path=str(tmp_path / "prog.py"), files=[tmp_path / "data.bin", tmp_path / "tree"], args=["a"])
    assert made == {
        "environment": "python",
        "entrypoint": "prog.py",
        "args": ["a"],
        "env": {},
        "files": [
            {"path": "prog.py", "content": "print(1)", "encoding": "utf-8"},
            {"path": "data.bin", "content": "/wA=", "encoding": "base64"},
            {"path": "tree/deep/x.txt", "content": "é", "encoding": "utf-8"},
        ],
    }


def test_code_and_limits() -> None:
    made = submission(code="1", path="first", args=["second"], timeout_seconds=60, memory="1g", variables=["A=b=c"])
    assert made == {
        "environment": "python",
        "code": "1",
        "args": ["first", "second"],
        "env": {"A": "b=c"},
        "limits": {"wall_seconds": 60, "cpu_seconds": 60, "memory_bytes": 2**30},
    }


@pytest.mark.parametrize(
    "typed",
    [
        {},
        {"path": "/nowhere/prog.py"},
        {"code": "1", "variables": ["nothing"]},
        {"code": "1", "variables": ["=x"]},
        {"code": "1", "args": ["\udcff"]},
        {"code": "1", "files": [Path("/nowhere/data")]},
    ],
)
def test_invalid_options_are_a_usage_error(typed: dict[str, object]) -> None:
    with pytest.raises(typer.BadParameter):
        submission(**typed)


def test_inputs_of_equal_name_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.csv").write_text("")
    with pytest.raises(typer.BadParameter, match=r"both be data\.csv"):
        submission(code="1", files=[tmp_path / "a" / "data.csv", tmp_path / "b" / "data.csv"])


def test_only_pipes_and_files_are_read_as_standard_input(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_RDONLY)
    try:
        assert [is_fed(reader), is_fed(nothing), is_fed(file)] == [True, False, True]
    finally:
        for descriptor in (reader, writer, nothing, file):
            os.close(descriptor)
    assert not is_fed(reader)


def test_a_binary_program_is_refused_with_advice() -> None:
    command = [sys.executable, "-m", "orchestrator.cli", "run", "-"]
    done = subprocess.run(command, input=b"\xff", capture_output=True, check=False)
    assert done.returncode == 2
    assert b"--file" in done.stderr
