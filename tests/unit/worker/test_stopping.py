"""The signals that stop a worker: which step each one causes, and that none is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

# A process that works until a file descriptor is closed, and prints the steps that its signals cause.
PROGRAM = """
import os, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from worker.stopping import StopSignals

{before}
signals = StopSignals()
{during}
ended = threading.Event()

def step(name, last):
    print(name, flush=True)
    if name == last:
        ended.set()

with ThreadPoolExecutor(1) as executor:
    work = executor.submit(lambda: ended.wait(60) and {work})
    print("ready", flush=True)
    signals.follow(work, lambda: step("drain", {last!r}), lambda: step("hand back", {last!r}), {drain_seconds})
print("over", flush=True)
"""


class Process:
    """One such process."""

    def __init__(
        self, last: str, drain_seconds: float = 60, *, before: str = "", during: str = "", work: str = "None"
    ) -> None:
        source = PROGRAM.format(last=last, drain_seconds=drain_seconds, before=before, during=during, work=work)
        self._popen = subprocess.Popen(
            [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.line() == "ready"

    def line(self) -> str:
        assert self._popen.stdout is not None
        return self._popen.stdout.readline().strip()

    def send(self, number: int) -> None:
        self._popen.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        with self._popen:  # not `communicate`, which misses what `line` has buffered
            return self._popen.wait(30), self._popen.stdout.read(), self._popen.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_drains(number: int) -> None:
    process = Process("drain")
    process.send(number)
    assert process.end() == (0, "drain\nover\n", "")


def test_second_signal_hands_back() -> None:
    process = Process("hand back")
    process.send(signal.SIGTERM)
    assert process.line() == "drain"
    process.send(signal.SIGTERM)
    assert process.end() == (0, "hand back\nover\n", "")


def test_end_of_the_drain_time_hands_back() -> None:
    process = Process("hand back", drain_seconds=0.2)
    process.send(signal.SIGTERM)
    assert process.end() == (0, "drain\nhand back\nover\n", "")


def test_signal_before_the_wait_drains() -> None:
    """The signal arrives between the construction and the wait."""
    process = Process("drain", during="os.kill(os.getpid(), signal.SIGTERM)")
    assert process.end() == (0, "drain\nover\n", "")


# The main thread does not notice this signal: another thread is the only one that does not block it.
ELSEWHERE = """
receiver = threading.Thread(target=time.sleep, args=[60], daemon=True)
receiver.start()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
"""


def test_signal_that_another_thread_receives_drains() -> None:
    process = Process("drain", during=ELSEWHERE)
    process.send(signal.SIGTERM)
    assert process.end() == (0, "drain\nover\n", "")


# Descriptors that other code closes by mistake: a wake-up pipe would be among them, and its signals lost.
def test_closed_descriptors_lose_no_signal() -> None:
    process = Process("drain", during="os.closerange(3, 100)")
    process.send(signal.SIGTERM)
    assert process.end() == (0, "drain\nover\n", "")


def test_end_of_the_work_ends_the_wait() -> None:
    source = textwrap.dedent(
        """
        from concurrent.futures import ThreadPoolExecutor
        from worker.stopping import StopSignals
        signals = StopSignals()
        with ThreadPoolExecutor(1) as executor:
            signals.follow(executor.submit(lambda: None), lambda: print("drain"), lambda: print("hand back"), 1.0)
        """
    )
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=30, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_error_of_the_work_ends_the_process() -> None:
    process = Process("drain", work="1 / 0")
    process.send(signal.SIGTERM)
    code, _, err = process.end()
    assert code == 1
    assert "ZeroDivisionError" in err
