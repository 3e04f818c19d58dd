"""Messages and exit codes of the real command: one line for each mistake, with a remedy."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.settings import PREFIX, inherited_environment
from tests.builders.one_execution import ended, serving

NOWHERE = "http://127.0.0.1:1"
DATA = b"a,b\n"
SAVED = {"path": "copy.csv", "size": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()}


def mayfly(url: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in inherited_environment().items() if not name.startswith(PREFIX)}
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *words],
        env=clean | {f"{PREFIX}URL": url, f"{PREFIX}TOKEN": "t"} | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(ended()) as address:
        yield address


@pytest.mark.parametrize(
    ("words", "variables", "code", "printed", "advice"),
    [
        (("run", "-c", "1"), {"MAYFLY_URL": NOWHERE}, 125, f"The Mayfly API at {NOWHERE} does not answer", "mayfly up"),
        (("ls",), {"MAYFLY_URL": NOWHERE}, 125, "does not answer", "make up"),
        (("run", "-c", "1"), {"MAYFLY_URL": "http://[::1"}, 2, "is not a URL", "MAYFLY_URL"),
        (("run",), {}, 2, "give a FILE", "-c CODE"),
        (("run", "nowhere.py"), {}, 2, "nowhere.py: No such file or directory", "--help"),
        (("run", "/tmp"), {}, 2, "/tmp is a directory", "--file"),
        (("run", "/etc/hostname"), {}, 2, "cannot derive the environment", "--env (bash, node, python"),
        (("run", "-c", "1", "--file", "nowhere.csv"), {}, 2, "nowhere.csv: No such file", "--help"),
        (("run", "-c", "1", "--timeout", "soon"), {}, 2, "'--timeout'", "such as 2.5"),
        (("run", "-c", "1", "--timeout", "nan"), {}, 2, "'--timeout'", "such as 2.5"),
        (("run", "-c", "1", "--memory", "lots"), {}, 2, "'lots' is not a size", "512M"),
        (("run", "-c", "1", "--set-env", "A"), {}, 2, "'A' is not NAME=VALUE", "--help"),
        (("run", "-c", "1", "--speed", "1"), {}, 2, "No such option: --speed", "mayfly run --help"),
        (("run", "-c"), {}, 2, "'-c' requires an argument", "mayfly run --help"),
        (("show",), {}, 2, "Missing argument 'ID'", "mayfly show --help"),
        (("ls", "-n", "many"), {}, 2, "'--limit'", "mayfly ls --help"),
        (("runn",), {}, 2, "No such command 'runn'", "'run'"),
        (("--speed",), {}, 2, "No such option: --speed", "mayfly --help"),
        (("keys", "frobnicate"), {}, 2, "No such command", "mayfly keys --help"),
        (("run", "a.py"), {"MAYFLY_ENVIRONMENTS_DIRS": "/etc"}, 2, "MAYFLY_ENVIRONMENTS_DIRS", "JSON list"),
        (("down",), {"MAYFLY_SLOTS": "many"}, 2, "MAYFLY_SLOTS", "integer"),
    ],
)
def test_mistake_is_reported_in_a_line_with_a_remedy(
    url: str, words: tuple[str, ...], variables: dict[str, str], code: int, printed: str, advice: str
) -> None:
    done = mayfly(url, *words, **variables)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("mayfly: ")
    assert printed in line
    assert advice in line


def test_server_other_than_mayfly_is_named() -> None:
    with serving(["no", "object"]) as address:  # type: ignore[arg-type]
        done = mayfly(address, "ls")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"The server at {address} is not a Mayfly API. Set MAYFLY_URL" in done.stderr


@pytest.mark.parametrize(
    ("execution", "code"),
    [
        (ended(), 0),
        (ended("failed", "nonzero_exit", "user", exit_code=7), 7),
        (ended("failed", "nonzero_exit", "user", exit_code=124), 124),
        (ended("failed", "timed_out", "user", exit_code=124), 124),
        (ended("failed", "cpu_exceeded", "user", exit_code=124), 124),
        (ended("failed", "output_exceeded", "user", exit_code=124), 137),
        (ended("failed", "oom_killed", "user", exit_code=137), 137),
        (ended("failed", "signalled", "user", exit_code=139, signal="SIGSEGV"), 139),
        (ended("failed", "pids_exceeded", "user", exit_code=1), 1),
        (ended("failed", "disk_exceeded", "user", exit_code=5), 5),
        (ended("failed", "compile_failed", "user", exit_code=1, compile={"exit_code": 3}), 3),
        (ended("failed", "security_violation", "policy", exit_code=159), 126),
        (ended("errored", "worker_lost", "platform", exit_code=None), 125),
        (ended("errored", "queue_expired", "platform", exit_code=None), 125),
        (ended("cancelled", "cancelled_by_operator", exit_code=None), 130),
    ],
    ids=lambda value: value["reason"] if isinstance(value, dict) else None,
)
def test_run_exits_as_documented(execution: dict[str, Any], code: int) -> None:
    with serving(execution) as address:
        done = mayfly(address, "run", "-c", "1")
    assert (done.returncode, done.stdout) == (code, "1\n")
    quiet = execution["reason"] in (None, "nonzero_exit")
    assert done.stderr.startswith(f"mayfly: {execution['reason']}: ") is not quiet
    assert len(done.stderr.splitlines()) == (0 if quiet else 1)


REJECTED = {"path": "big.bin", "reason": "too_large", "bound": 67108864}


def test_artifacts_that_were_left_out_are_named_and_out_is_incomplete(tmp_path: Path) -> None:
    with serving(ended(artifacts=[SAVED], artifacts_rejected=[REJECTED]), DATA) as address:
        done = mayfly(address, "run", "-c", "1", "--out", str(tmp_path / "out"))
        without = mayfly(address, "run", "-c", "1")
        shown = mayfly(address, "show", "x")
        saved = mayfly(address, "show", "x", "--out", str(tmp_path / "again"))
    line = "big.bin: too_large, the bound is 67108864"
    assert (done.returncode, done.stderr) == (1, f"mayfly: left out: {line}\n")
    assert (tmp_path / "out" / "copy.csv").read_bytes() == DATA
    assert (without.returncode, without.stderr) == (0, f"mayfly: left out: {line}\n")
    assert f"left out\t{line}\n" in shown.stdout
    assert (shown.returncode, saved.returncode) == (0, 1)


def test_complete_artifacts_exit_as_the_program_does(tmp_path: Path) -> None:
    with serving(ended(artifacts=[SAVED], artifacts_rejected=[]), DATA) as address:
        done = mayfly(address, "run", "-c", "1", "--out", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


IMAGE = {"source": "display", "data": {"text/plain": "<Figure>", "image/png": "iVBORw=="}}
VALUE = {
    "source": "expression",
    "data": {"text/plain": "42"},
    "omitted": [{"media_type": "text/html", "size_bytes": 300_000, "reason": "Too large."}],
}


def test_results_are_printed_behind_the_output_and_images_saved(tmp_path: Path) -> None:
    with serving(ended(results=[VALUE, IMAGE])) as address:
        done = mayfly(address, "run", "--cell", "-c", "1", "--out", str(tmp_path / "out"))
        (tmp_path / "file").write_text("")
        unsaved = mayfly(address, "run", "--cell", "-c", "1", "--out", str(tmp_path / "file"))
        shown = mayfly(address, "show", "x")
    assert (done.returncode, done.stdout) == (0, "1\n42\n")
    assert done.stderr == "mayfly: result 1, text/html: Too large.\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result-2.png"]
    assert (tmp_path / "out" / "result-2.png").read_bytes() == b"\x89PNG"
    assert (unsaved.returncode, "was not saved" in unsaved.stderr) == (1, True)
    assert "result\texpression: 42\n" in shown.stdout


def test_many_rejected_artifacts_take_few_lines_and_drive_no_terminal() -> None:
    rejected = [{"path": f"{n}\x1b[2J\n", "reason": "too_many", "bound": 1000} for n in range(500)]
    with serving(ended(artifacts_rejected=rejected)) as address:
        done = mayfly(address, "run", "-c", "1")
    lines = done.stderr.splitlines()
    assert lines[0] == "mayfly: left out: 0\\x1b[2J\\n: too_many, the bound is 1000"
    assert lines[10:] == ["mayfly: left out: 490 more; `mayfly show x` lists them"]


def test_artifacts_that_cannot_be_saved_do_not_hide_the_programs_exit_code(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    failed = ended("failed", "nonzero_exit", "user", exit_code=7, artifacts=[SAVED])
    for execution, code in ((failed, 7), (ended(artifacts=[SAVED]), 1)):
        with serving(execution, DATA) as address:
            done = mayfly(address, "run", "-c", "1", "--out", str(tmp_path / "file"))
        assert done.returncode == code
        assert "was not saved" in done.stderr


@pytest.mark.parametrize("words", [(), ("keys",)])
def test_a_group_without_a_command_answers_with_its_help(words: tuple[str, ...]) -> None:
    done = mayfly(NOWHERE, *words)
    text = done.stdout + done.stderr
    assert f"Usage: mayfly {' '.join((*words, '[OPTIONS]'))}" in text
    assert text.count("Usage: ") == 1
    assert "mayfly: " not in text


def test_version_and_examples_need_no_api() -> None:
    version = mayfly(NOWHERE, "--version")
    assert (version.returncode, version.stdout.split()[0], version.stderr) == (0, "mayfly", "")
    text = mayfly(NOWHERE, "run", "--help").stdout
    assert "mayfly run prog.py --file data.csv --out results/" in text
    assert "put beside the" in text
