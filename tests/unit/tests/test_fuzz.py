"""The fuzz targets pass for known inputs and detect a weakened parser, and the fuzzer finds a planted fault.

``make fuzz`` looks for longer. What it finds is fixed, and its input enters ``FOUND``.
"""

from __future__ import annotations

import hmac
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import orchestrator.policy.inspector
import orchestrator.policy.syntax
import orchestrator.store.content.directory
import orchestrator.store.executions.sealing
import tests.fuzz.outside
import tests.fuzz.sandbox
import worker.agent.call_stream
import worker.agent.conversation
import worker.agent.frames
import worker.agent.report
import worker.agent.results
import worker.attempt.artifacts
import worker.sandbox.readback
from tests.fuzz.inputs import pieces
from tests.fuzz.inputs.seeds import KINDS, RECORD, dictionary, seeds
from tests.fuzz.outside import GENUINE
from tests.fuzz.policy import inspector
from tests.fuzz.targets import TARGETS
from tests.harness import ROOT
from worker.agent.frames import FromAgent

SECONDS = 1
HAS_BUILDS = (sys.platform, platform.machine(), sys.implementation.name) == ("linux", "x86_64", "cpython")
fuzzer = pytest.mark.skipif(
    find_spec("atheris") is None and not (HAS_BUILDS and "CI" in os.environ),
    reason="atheris is not installed; where it has builds, deploy/setup.sh --dev installs it",
)


@pytest.fixture(autouse=True, scope="module")
def no_helper_stays() -> Iterator[None]:
    yield
    inspector().stop()


def frames(*printed: tuple[FromAgent, bytes]) -> bytes:
    """An input for the session's target, of an environment that compiles."""
    return b"\0\2" + pieces.join((KINDS.index(kind), payload) for kind, payload in printed)


def artifact(path: bytes) -> bytes:
    """An input for the artifacts' target: one file of one byte."""
    return pieces.join([(0, b'{"path": "%s", "size": 1}' % path), (1, b"x")])


def report(*changes: tuple[bytes, bytes]) -> bytes:
    """An input for the report's target: the honest one with some text changed."""
    text = tests.fuzz.sandbox.REPORTS["standard"].encode()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return b"\0" + text


# Each of these broke the promise of its target once.
FOUND = {
    "a report that is no JSON": ("report", b""),
    "a mount's path that is a list": ("report", report((b'["/",', b'[["/"],'))),
    "capability sets under other names": ("report", report((b'"CapEff"', b'"CapOff"'))),
    "a seal that is not ASCII": ("sealed", pieces.join([(0, b"x"), (0, "ü".encode())])),
    "a time that is no number": ("session", frames((FromAgent.COMPILED, b'{"exit_code": 0, "wall_seconds": NaN}'))),
    "an infinite time": ("session", frames((FromAgent.COMPILED, b'{"exit_code": 0, "wall_seconds": 1e999}'))),
    "a time beyond any float": (
        "session",
        frames((FromAgent.COMPILED, b'{"exit_code": 0, "wall_seconds": %s}' % (b"9" * 400))),
    ),
    "half a surrogate pair": (
        "session",
        frames(
            (FromAgent.COMPILED, b'{"exit_code": 0, "wall_seconds": 1}'),
            (FromAgent.EXIT, b'{"exit_code": 0, "disk_full": ["\\ud800"]}'),
        ),
    ),
    "a name that is a URL": ("artifacts", artifact(b"data:text/\\u00fc,x")),
    "a process id of 5000 digits": ("records", RECORD.replace(b"pid=27186", b"pid=%s" % (b"9" * 5000))),
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_holds_for_its_seeds(target: str) -> None:
    assert len(seeds()[target]) > 1
    for seed in seeds()[target]:
        TARGETS[target](seed)


@pytest.mark.parametrize("what", FOUND)
def test_earlier_findings_stay_fixed(what: str) -> None:
    target, data = FOUND[what]
    TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_target_holds_for_noise(target: str, data: st.DataObject) -> None:
    numbers = st.integers(0, 255)
    pairs = st.lists(st.tuples(numbers, st.binary(max_size=40)), max_size=12).map(pieces.join)
    TARGETS[target](data.draw(st.one_of(st.binary(max_size=300), pairs, st.tuples(numbers, pairs).map(_led))))


def _led(parts: tuple[int, bytes]) -> bytes:
    return bytes(parts[:1]) + parts[1]


def anything(*_: Any, **__: Any) -> bool:
    return True


def unbounded(self: worker.agent.call_stream.CallStream) -> worker.agent.call_stream.Request | None:
    """As :meth:`CallStream.next`, with the body of every call."""
    self._body_bytes = 2**32
    return next_call(self)


next_call = worker.agent.call_stream.CallStream.next


def leaky(self: worker.attempt.artifacts.ArtifactSink, chunk: bytes) -> None:
    """As :meth:`ArtifactSink.data`, into a file of the name that the program chose."""
    if self._writer is not None:
        assert isinstance(self._blobs, orchestrator.store.content.directory.DirectoryBlobs)
        (self._blobs._root.parent / self._path).write_bytes(chunk)


# A reader made worse, and an input by which its target notices. The names are where the target, or the reader, looks.
WEAKENED: dict[str, tuple[str, Any, str, Any, bytes]] = {
    "frames of any size": (
        "frames",
        worker.agent.frames,
        "MAX_FRAME_BYTES",
        2**31,
        b"\x01O\x7f\xff\xff\xff" + b"x" * 10,
    ),
    "bodies of any size": (
        "calls",
        worker.agent.call_stream.CallStream,
        "next",
        unbounded,
        seeds()["calls"][0],
    ),
    "a path is not checked": ("artifacts", worker.attempt.artifacts, "acceptable_path", anything, artifact(b"../x")),
    "files lie under their own names": (
        "artifacts",
        worker.attempt.artifacts.ArtifactSink,
        "data",
        leaky,
        artifact(b"x"),
    ),
    "rejections pile up": (
        "artifacts",
        worker.attempt.artifacts,
        "MAX_REJECTIONS",
        10**9,
        pieces.join([(2, b'{"path": "x", "why": "fifo"}')] * 101),
    ),
    "the agent sends what the worker refuses": (
        "paths",
        tests.fuzz.sandbox,
        "is_bad_name",
        lambda path: False,
        b"a\x07",
    ),
    "the worker refuses what the agent sends": (
        "paths",
        tests.fuzz.sandbox,
        "acceptable_path",
        lambda path: False,
        b"a",
    ),
    "a name is part of the record": (
        "records",
        tests.fuzz.outside,
        "untrusted",
        lambda text: b'"%s"' % text,
        pieces.join([(0, b'x" exe="y" sig=0')]),
    ),
    "JSON may have any depth": (
        "results",
        worker.agent.results,
        "_depth_exceeds",
        lambda *_: False,
        pieces.join([(1, b"[" * 240 + b"]" * 240)]),
    ),
    "any bytes are an image": (
        "results",
        worker.agent.results,
        "_png",
        lambda content: "eA==",
        pieces.join([(3, b"x")]),
    ),
    "mounts are not compared": ("report", worker.sandbox.readback, "_mounts", lambda *_: [], report((b"noexec,", b""))),
    "imports are not looked at": ("policy", orchestrator.policy.syntax, "module_rule", lambda name: None, b"pass"),
    "sources are not read": (
        "inspector",
        orchestrator.policy.inspector,
        "_inspected",
        lambda *_: orchestrator.policy.syntax.Inspection([]),
        pieces.join([(0, b"pass")]),
    ),
    "any seal holds": (
        "sealed",
        hmac,
        "compare_digest",
        anything,
        pieces.join([(0, GENUINE.model_dump_json().encode()), (0, b"no seal")]),
    ),
    "compilers may say anything": (
        "session",
        worker.agent.conversation,
        "COMPILE_OUTPUT_BYTES",
        10**9,
        frames(
            *[(FromAgent.COMPILE_STDOUT, b"x" * 60_000)] * 2, (FromAgent.COMPILED, b'{"exit_code":0,"wall_seconds":1}')
        ),
    ),
    "a specification loses a field": (
        "submission",
        tests.fuzz.outside,
        "seal",
        lambda specification, key: orchestrator.store.executions.sealing.seal(
            specification.model_copy(update={"args": ()}), key
        ),
        seeds()["submission"][0],
    ),
}


def test_every_target_can_fail() -> None:
    assert {target for target, *_ in WEAKENED.values()} == TARGETS.keys()


@pytest.mark.parametrize("what", WEAKENED)
def test_a_weakened_reader_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, place, name, worse, data = WEAKENED[what]
    TARGETS[target](data)
    monkeypatch.setattr(place, name, worse)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        TARGETS[target](data)


def test_words_are_in_the_fuzzers_format() -> None:
    assert all(line.startswith('"') and line.endswith('"') and line.isascii() for line in dictionary().splitlines())


def fuzz(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", "--directory", str(directory), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)


# A fuzzer's start takes five seconds of CPU time for each target. Frames, the session and submissions are read by the
# processes that matter most; all targets read their seeds and noise above.
FEW = ("frames", "session", "submission")


@fuzzer
@pytest.mark.parametrize("names", [FEW, pytest.param((), marks=pytest.mark.complete)], ids=["few", "all"])
def test_short_fuzz_run_finds_nothing(tmp_path: Path, names: tuple[str, ...]) -> None:
    done = fuzz(tmp_path, "--seconds", str(SECONDS), *names)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = {line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines()}
    assert runs.keys() == set(names or TARGETS)


@fuzzer
def test_a_run_finds_the_planted_fault(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "--seconds", "60", "--module", "tests.fuzz.planted")
    assert done.returncode == 1, done.stdout
    assert "the planted fault" in done.stderr
    (kept,) = (tmp_path / "found" / "planted").iterdir()
    assert f"planted --input {kept}" in done.stderr
    again = fuzz(tmp_path, "--module", "tests.fuzz.planted", "planted", "--input", str(kept))
    assert again.returncode == 1
    assert "RuntimeError: the planted fault" in again.stderr


BEGINNING = """
import sys, threading
from pathlib import Path
from tests.fuzz.writes import only_below
with only_below(Path("/nowhere")):
    pass
if "in Python" in sys.argv:
    sys.addaudithook(lambda event, args: None)
died = threading.Event()
sys.unraisablehook = lambda said: died.set()
sys.setswitchinterval(1e-6)
threading.settrace(lambda *said: None)
def begin():
    for _ in range(1000):
        if not died.is_set():
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()
beginning = [threading.Thread(target=begin) for _ in range(4)]
for thread in beginning:
    thread.start()
for thread in beginning:
    thread.join()
sys.exit(7 if died.is_set() else 0)
"""


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the interpreter has no such fault any more")
@pytest.mark.parametrize(("hook", "code"), [("as it is", 0), ("in Python", 7)])
def test_write_observer_ends_no_measured_thread(hook: str, code: int) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", BEGINNING, hook]
    tries = 60 if hook == "in Python" else 1  # the control's fault needs a switch of threads at the wrong moment
    runs = (subprocess.run(command, cwd=ROOT, env=env, timeout=60, capture_output=True) for _ in range(tries))
    assert code in (run.returncode for run in runs)
