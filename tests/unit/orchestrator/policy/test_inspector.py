"""The helper processes that read sources: the cost of hostile sources, which never harm the caller."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import PolicyUnavailable
from orchestrator.policy import helper, inspector
from orchestrator.policy.inspector import MAX_SOURCE_BYTES, MAX_SUBMISSION_BYTES, Inspector
from orchestrator.policy.syntax import Inspection
from tests.harness import ROOT, eventually, is_running

MIB = 2**20
DEEP = 100_000
LARGE = MAX_SOURCE_BYTES
# Boots a helper with something about it changed: negative controls, and helpers that misbehave.
CHANGED = inspector.BOOT.replace(".helper import main; main()", " import helper; {}; helper.main()")
NO_TIMER = CHANGED.format("helper.CPU_SECONDS = 1000.0")
NO_MEMORY_BOUND = CHANGED.format(
    f"helper.CPU_SECONDS = 1000.0; helper.LIMITS = [l for l in helper.LIMITS if l[0] != {resource.RLIMIT_AS}]"
)

# Each fills the bound on a source or nests as deep as it can. Where EITHER is expected, the machine decides whether it
# fits into the bounds; the rule of "more findings" is that of "findings".
EITHER = "either"
HOSTILE = {
    "10 MB": ("x = 1\n" * (10 * MIB // 6), "not_inspected"),
    "parentheses": ("(" * DEEP + ")" * DEEP, "syntax_error"),
    "brackets": ("[" * DEEP + "]" * DEEP, "syntax_error"),
    "braces": ("{" * DEEP + "}" * DEEP, "syntax_error"),
    "open parentheses": ("(" * DEEP, "syntax_error"),
    "calls, nested": ("f(" * 199 + ")" * 199, None),
    "minus": ("-" * DEEP + "1", "not_inspected"),
    "not": ("not " * (DEEP // 2) + "1", "not_inspected"),
    "tilde": ("~" * DEEP + "1", "not_inspected"),
    "attributes": ("a" + ".a" * DEEP, "not_inspected"),
    "calls in a row": ("a" + "()" * DEEP, "not_inspected"),
    "subscripts": ("a" + "[0]" * (DEEP // 2), "not_inspected"),
    "elif": ("if a:\n pass\n" + "elif a:\n pass\n" * 15_000, "not_inspected"),
    "else if": ("1 if 1 else " * 20_000 + "1", "not_inspected"),
    "lambda": ("lambda:" * 30_000 + "1", "not_inspected"),
    "indentation": ("".join(" " * depth + "if a:\n" for depth in range(500)), "syntax_error"),
    "plus": ("1" + "+1" * DEEP, "not_inspected"),
    "power": ("1" + "**1" * (DEEP // 2), "not_inspected"),
    "comparisons": ("1" + "<1" * DEEP, EITHER),
    "f-string, nested": ("f'{" * 150 + "1", "syntax_error"),
    "f-string, long": ("f'" + "{a}" * 80_000 + "'", EITHER),
    "NUL bytes": ("\0" * LARGE, "not_inspected"),
    "decimal digits": ("9" * 100_000, EITHER),
    "hexadecimal digits": ("0x" + "f" * (LARGE - 2), None),
    "names": ("a," * (LARGE // 2), EITHER),
    "statements": ("a()\n" * (LARGE // 4), EITHER),
    "findings": ("eval;" * 5_000, "dynamic_code"),
    "more findings": ("eval;" * (LARGE // 5), EITHER),
    "texts": ("'/proc/self'," * (LARGE // 13), "suspicious_path"),
    "carriage returns": ("\r" * LARGE, None),
    "decorators": ("@a\n" * 80_000 + "def f(): pass", EITHER),
    "a name": ("a" * LARGE, None),
    "a long import": ("import " + "os." * 5_000 + "os", "import_process"),
    "imports from far": ("from a" + ".a" * 5_000 + " import " + "a, " * 40_000 + "a", None),
}  # fmt: skip


@pytest.fixture
def inspecting() -> Iterator[Inspector]:
    """An inspector with time for a slow machine."""
    made = Inspector()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SUBMISSION_SECONDS", "START_SECONDS"):
            patch.setattr(inspector, name, 60.0)
        yield made
        made.stop()
    assert helpers() == []


def helpers() -> list[psutil.Process]:
    """The helper processes of this process."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.ZombieProcess):  # of another test of this lane: it has no command
            found += [child] if "orchestrator.policy" in " ".join(child.cmdline()) else []
    return found


def rules(inspection: Inspection) -> set[str]:
    return {found.rule for found in inspection.findings}


def peak_bytes(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


class Peaks:
    """The most memory any helper of ours held while it was watched."""

    def __enter__(self) -> Peaks:
        self.bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError, psutil.Error):  # it is gone
                for process in helpers():
                    self.bytes = max(self.bytes, peak_bytes(process.pid))


def test_hostile_sources_cost_little_in_the_helper_and_nothing_in_the_api(inspecting: Inspector) -> None:
    assert inspecting.inspect("t", [b"import os"])[0].findings[0].rule == "import_process"
    before = psutil.Process().memory_info().rss
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    with Peaks() as peaks:
        for name, (text, expected) in HOSTILE.items():
            source = text.encode()
            (inspection,) = inspecting.inspect("t", [source])
            if expected is EITHER:
                assert rules(inspection) in ({"not_inspected"}, {"dynamic_code"} if "findings" in name else set()), name
            else:
                assert rules(inspection) == ({expected} if expected else set()), name
            assert len(inspection.findings) <= 100
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert peaks.bytes < helper.ADDRESS_SPACE_BYTES
    assert psutil.Process().memory_info().rss - before < 48 * MIB  # the sources themselves are held here
    assert after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime < 10
    assert inspecting.inspect("t", [b"import os"])[0].findings[0].rule == "import_process"


def test_source_takes_more_memory_without_the_bound(inspecting: Inspector, monkeypatch: pytest.MonkeyPatch) -> None:
    source = HOSTILE["statements"][0].encode()
    monkeypatch.setattr(
        inspector, "BOOT", NO_MEMORY_BOUND.replace("helper.main()", "helper.CPU_SECONDS = 60; helper.main()")
    )
    with Peaks() as peaks:
        (inspection,) = inspecting.inspect("t", [source])
    assert rules(inspection) == set()
    assert peaks.bytes > helper.ADDRESS_SPACE_BYTES


SLOW = ("f'" + "{a}" * 80_000 + "'").encode()
slow = pytest.mark.skipif(sys.version_info >= (3, 12), reason="this parser is not slow on any source known here")


@slow
def test_slow_source_is_ended_by_its_cpu_time(inspecting: Inspector) -> None:
    (inspection,) = inspecting.inspect("t", [SLOW])
    assert "more than 1 s of CPU time" in inspection.findings[0].message


@slow
def test_slow_source_without_cpu_timer_is_ended_by_wall_time(
    inspecting: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspector, "BOOT", NO_TIMER)
    monkeypatch.setattr(inspector, "SUBMISSION_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(PolicyUnavailable, match=r"within 0\.5 s"):
        inspecting.inspect("t", [SLOW])
    assert time.monotonic() - began > 0.4


def test_unresponsive_helper_is_replaced(inspecting: Inspector, monkeypatch: pytest.MonkeyPatch) -> None:
    inspecting.inspect("t", [b""])
    monkeypatch.setattr(inspector, "SUBMISSION_SECONDS", 0.5)
    (process,) = helpers()
    process.suspend()
    with pytest.raises(PolicyUnavailable):
        inspecting.inspect("t", [b"import os"])
    monkeypatch.undo()
    assert rules(inspecting.inspect("t", [b"import os"])[0]) == {"import_process"}


def test_source_that_ends_its_helper_ends_the_submissions_inspection(
    inspecting: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = "helper.inspect = lambda s, _, i=helper.inspect: helper.os.abort() if s == b'crash' else i(s)"
    monkeypatch.setattr(inspector, "BOOT", CHANGED.format(crash))
    before, culprit, after, large = inspecting.inspect("t", [b"import os", b"crash", b"import os", b"x" * (LARGE + 1)])
    assert rules(before) == {"import_process"}
    assert "the parser failed" in culprit.findings[0].message
    assert "another source" in after.findings[0].message
    assert "larger than" in large.findings[0].message
    assert rules(inspecting.inspect("t", [b"import os"])[0]) == {"import_process"}


def test_a_submission_is_read_up_to_its_bound(inspecting: Inspector) -> None:
    source = b"import os" + b"#" * (LARGE - 9)
    whole = MAX_SUBMISSION_BYTES // LARGE
    found = [rules(inspection) for inspection in inspecting.inspect("t", [source] * (whole + 1))]
    assert found == [{"import_process"}] * whole + [{"not_inspected"}]
    assert [rules(found) for found in inspecting.inspect("t", [source + b"#"])] == [{"not_inspected"}]


def test_helper_killed_during_inspection_is_replaced_and_source_read(inspecting: Inspector) -> None:
    inspecting.inspect("t", [b""])
    (process,) = helpers()
    process.suspend()  # so that it is busy with the source for as long as this test wants
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(inspecting.inspect, "t", [b"import os"])
        eventually(lambda: inspecting._tenants, "the source is being inspected")
        time.sleep(0.05)  # for the source to be on its way; either side of that moment must do
        process.kill()
        assert rules(answer.result(60)[0]) == {"import_process"}
    assert [found.pid for found in helpers()] != [process.pid]


def test_helper_killed_between_sources_is_replaced(inspecting: Inspector) -> None:
    for number in range(3):
        assert rules(inspecting.inspect("t", [b"import os  # %d" % number])[0]) == {"import_process"}
        (process,) = helpers()
        process.kill()


def test_a_source_is_read_once_for_each_tenant(inspecting: Inspector, monkeypatch: pytest.MonkeyPatch) -> None:
    first = inspecting.inspect("t", [b"import os"])
    monkeypatch.setattr(inspector, "_inspected", lambda *_: pytest.fail("a helper was asked"))
    assert inspecting.inspect("t", [b"import os"]) == first
    for tenant, source in (("u", b"import os"), ("t", b"import os ")):
        with pytest.raises(pytest.fail.Exception):
            inspecting.inspect(tenant, [source])


def test_source_whose_helpers_are_always_killed_is_not_inspected(
    inspecting: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = CHANGED.format("helper.inspect = lambda *_: helper.os.kill(helper.os.getpid(), 9)")
    monkeypatch.setattr(inspector, "BOOT", dying)
    (inspection,) = inspecting.inspect("t", [b"import os"])
    assert "every helper that reads it is killed" in inspection.findings[0].message


@pytest.mark.parametrize(
    "answer",
    [
        "{'findings': 1}",
        "{'findings': [['a', 'b', 1, 1]] * 101}",
        "['x']",
        "{'findings': [], 'more': 1}",
        "'x' * 300_000",
    ],
)
def test_malformed_helper_answer_is_rejected(
    inspecting: Inspector, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    lying = CHANGED.format(f"helper.json.dumps = lambda _, dumps=helper.json.dumps: dumps({answer})")
    monkeypatch.setattr(inspector, "BOOT", lying)
    assert [rules(found) for found in inspecting.inspect("t", [b"import os"])] == [{"not_inspected"}]


@pytest.mark.parametrize("boot", ["raise SystemExit(1)", "print('x' * 100)", "print(chr(0) * 4 + 'x')"])
def test_helper_start_failure_is_policy_unavailable(
    inspecting: Inspector, monkeypatch: pytest.MonkeyPatch, boot: str
) -> None:
    monkeypatch.setattr(inspector, "BOOT", boot)
    with pytest.raises(PolicyUnavailable):
        inspecting.inspect("t", [b"import os"])


def test_missing_interpreter_is_policy_unavailable(inspecting: Inspector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(PolicyUnavailable):
        inspecting.inspect("t", [b"import os"])


def test_helper_process_is_bounded_and_isolated(inspecting: Inspector) -> None:
    inspecting.inspect("t", [b""])
    (process,) = helpers()
    assert process.environ() == {}
    assert process.cwd() == "/"
    for limit, value in helper.LIMITS:
        assert process.rlimit(limit) == (value, value)
    assert Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip() == "1000"
    open_files = sorted(os.readlink(entry.path) for entry in os.scandir(f"/proc/{process.pid}/fd"))
    assert open_files[0] == "/dev/null" and {name.split(":")[0] for name in open_files[1:]} == {"socket"}
    assert len(open_files) == 3


def test_helper_ends_with_its_parent() -> None:
    program = (
        "import time; from orchestrator.policy.inspector import Inspector; i = Inspector(); i.inspect('t', [b''])\n"
        "print(i._idle[-1]._process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not is_running(pid), "the helper ends")


def test_slow_sources_of_a_tenant_do_not_delay_others(inspecting: Inspector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspector, "TURN_SECONDS", 0.3)
    inspecting.inspect("slow", [b""])
    (process,) = helpers()
    process.suspend()
    with ThreadPoolExecutor() as pool:
        held = pool.submit(inspecting.inspect, "slow", [b"import os"])
        eventually(lambda: inspecting._tenants, "the source is being inspected")
        with pytest.raises(PolicyUnavailable):
            inspecting.inspect("slow", [b"import os"])
        assert rules(inspecting.inspect("other", [b"import os"])[0]) == {"import_process"}
        assert not held.done()
        process.resume()
        assert rules(held.result(60)[0]) == {"import_process"}


def test_threads_get_their_own_answers(inspecting: Inspector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspector, "TURN_SECONDS", 60.0)

    def ask(number: int) -> bool:
        (inspection,) = inspecting.inspect(f"t{number % 5}", [b"\n" * number + b"import os"])
        return [found.line for found in inspection.findings] == [number + 1]

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(ask, range(300)))
    assert len(helpers()) <= inspector.HELPERS


@pytest.mark.parametrize(("kept", "replaced"), [(0, True), (helper.KEPT_BYTES, False)])
def test_helper_with_grown_memory_is_replaced(
    inspecting: Inspector, monkeypatch: pytest.MonkeyPatch, kept: int, replaced: bool
) -> None:
    started: list[int] = []

    class Recorded(subprocess.Popen[bytes]):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            started.append(self.pid)

    monkeypatch.setattr(inspector, "BOOT", CHANGED.format(f"helper.KEPT_BYTES = {kept}"))
    monkeypatch.setattr(subprocess, "Popen", Recorded)
    inspecting.inspect("t", [b""])
    assert rules(inspecting.inspect("t", [b"import os"])[0]) == {"import_process"}
    assert len(started) == (3 if replaced else 1)  # the next one is started at once, and waits


def test_an_ordinary_source_costs_little(inspecting: Inspector) -> None:
    def cpu_seconds() -> float:
        """Of this process and of the helper."""
        return sum(sum(one.cpu_times()[:2]) for one in (psutil.Process(), *helpers()))

    inspecting.inspect("t", [b"print(1)"])
    before, count = cpu_seconds(), 300
    for _ in range(count):
        inspecting.inspect("t", [b"print(1)"])
    assert (cpu_seconds() - before) / count < 0.005  # 0.0002 on an idle machine


def test_a_signal_from_the_terminal_is_not_for_helpers(inspecting: Inspector) -> None:
    inspecting.inspect("t", [b""])
    (process,) = helpers()
    assert os.getpgid(process.pid) != os.getpgrp()


@pytest.fixture(scope="module")
def shared() -> Iterator[Inspector]:
    made = Inspector()
    yield made
    made.stop()


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(sources=st.lists(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()), max_size=4))
def test_any_sources_give_as_many_results(shared: Inspector, sources: list[bytes]) -> None:
    assert len(shared.inspect("t", sources)) == len(sources)
