"""Workers that exit at a given step, and the crew that replaces them.

The worker is the product's, in a process of its own; what passes a step is wrapped from outside, so that nothing in the
product is there for tests. Processes are forked from one that has imported everything, since a hundred of them shall
not cost a hundred seconds.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator import queue
from orchestrator.api.__main__ import main as serve
from orchestrator.logs import configure_logging
from orchestrator.settings import Settings
from orchestrator.store import output
from orchestrator.store.executions import records
from orchestrator.store.executions.submission import Submissions
from tests.chaos.installations.directories import Directories
from tests.chaos.installations.weaker import WEAKER
from tests.harness import eventually
from worker.attempt.output import OutputSink
from worker.drivers.base import Driver, Sandbox
from worker.host.hostdirs import HostDirs
from worker.pool.pool import Pool
from worker.process import Worker, driver_of
from worker.sandbox.profile import SandboxProfile

# In the order in which an execution passes them.
STEPS = (
    "taken",  # popped and claimed; nothing else knows
    "launching",  # the container exists, its worker has no answer yet
    "launched",  # it is leased to the execution
    "started",  # the start frame is sent
    "running",  # Redis knows that it runs
    "printing",  # some of its output is handed on
    "uncommitted",  # it has ended; Redis does not know
    "committed",  # Redis knows
    "removing",  # the container is gone, its directory and uid are not
    "unacknowledged",  # RQ does not know
)
END_SECONDS = 120.0  # a worker drains for 20, and then waits for Redis or a runtime at most as long again
STACK = (
    "line 1 in <module>\n"  # the last line that faulthandler writes of a fork: the outermost frame of its main thread
)
UNKNOWN = 255  # the exit code, when the parent of a killed process missed it
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.chaos.installations.preloaded"])


class Fate(NamedTuple):
    """How a worker ends by itself: when it passes a step for the so-manieth time. Without a step it does not."""

    step: str = ""
    passes: int = 1


class Life:
    """Counts how often a worker passes the step at which it ends, and notes the step in ``deaths`` when it does."""

    def __init__(self, fate: Fate, deaths: Path) -> None:
        self._step, self._left = fate
        self._deaths = os.open(deaths, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._lock = threading.Lock()

    def passes(self, step: str) -> None:
        if step == self._step:
            with self._lock:
                self._left -= 1
                if self._left == 0:
                    os.write(self._deaths, f"{step}\n".encode())
                    os.kill(os.getpid(), signal.SIGKILL)

    def before(self, step: str, owner: Any, name: str) -> None:
        """Let every call of a method begin with that step."""
        inner = getattr(owner, name)

        @wraps(inner)
        def outer(*args: Any, **named: Any) -> Any:
            self.passes(step)
            return inner(*args, **named)

        setattr(owner, name, outer)

    def after(self, step: str, owner: Any, name: str) -> None:
        """Let every call of a method that did what it should end with that step."""
        inner = getattr(owner, name)

        @wraps(inner)
        def outer(*args: Any, **named: Any) -> Any:
            answer = inner(*args, **named)
            if answer not in (None, False) or step in ("launching", "running", "committed"):
                self.passes(step)
            return answer

        setattr(owner, name, outer)

    def wrap(self) -> None:
        """Wrap what passes the steps."""
        self.after("taken", queue.Deliveries, "take")
        self.after("launched", Pool, "take")
        self.before("started", OutputSink, "begin")
        self.after("running", records.Records, "start")
        self.after("printing", output.Output, "append")
        self.before("uncommitted", records.Records, "commit")
        self.after("committed", records.Records, "commit")
        self.before("removing", HostDirs, "release")
        take = queue.Deliveries.take

        def acknowledging(self_: Any, isolations: Any, done: Any = None, *, spare: bool = False) -> Any:
            if done is not None:
                self.passes("unacknowledged")
            return take(self_, isolations, done, spare=spare)

        setattr(queue.Deliveries, "take", acknowledging)  # noqa: B010 - as `outer` above, it is any function


def become(env: dict[str, str], log: Path) -> Settings:
    """Run this forked process as part of an installation, for as long as its parent lives."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end_with_parent, name="orphan", daemon=True).start()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    faulthandler.register(signal.SIGUSR2)  # writes every thread's stack to the log
    os.environ.update(env)
    settings = Settings()
    configure_logging(settings.log_level)
    return settings


def serve_until(passes: int, env: dict[str, str], log: Path) -> None:
    """Run an API until it has accepted so many executions; it ends before its answer for the last."""
    become(env, log)
    life = Life(Fate("accepted", passes), log.with_name("deaths"))
    life.after("accepted", Submissions, "submit")
    serve()


def live(env: dict[str, str], fate: Fate, log: Path, weaker: Sequence[str]) -> None:
    """A worker's life, in a process of its own. With ``MAYFLY_DRIVER`` unset its containers are directories."""
    settings = become(env, log)
    life = Life(fate, log.with_name("deaths"))
    life.wrap()
    for name in weaker:
        WEAKER[name]()

    def make_driver(settings: Settings, worker: str) -> Driver:
        driver: Any = (
            driver_of(settings, worker)
            if "MAYFLY_DRIVER" in env
            else Directories(settings.state_dir.absolute() / "containers", worker)
        )
        handle_of = driver.sandbox

        def sandbox(profile: SandboxProfile) -> Sandbox:
            made = handle_of(profile)
            life.after("launching", made, "start")
            return made  # type: ignore[no-any-return]

        driver.sandbox = sandbox
        return driver  # type: ignore[no-any-return]

    sys.exit(Worker(settings, make_driver).main())


def _sent(pid: int, number: int) -> bool:
    """Whether there was a process to signal: it may have ended without being reaped yet."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _signals_of(pid: int) -> list[str]:
    """The signals that a process has pending, blocks, ignores and handles, and its pipes, as the kernel shows them."""
    process = Path(f"/proc/{pid}")
    try:
        lines = (process / "status").read_text(encoding="utf-8", errors="replace").splitlines()
        pipes = [f"{link.name}: {link.readlink()}" for link in (process / "fd").iterdir()]
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile, or closed one
        return []
    shown = [line for line in lines if line.startswith(("State", "Sig", "Shd"))]
    return shown + [pipe for pipe in pipes if "pipe:" in pipe]


class Crew:
    """Keeps so many workers alive: in the place of one that has ended another begins, with the next fate there is."""

    def __init__(
        self, size: int, env: dict[str, str], directory: Path, fates: Iterator[Fate], weaker: Sequence[str] = ()
    ) -> None:
        self._env, self._directory, self._fates, self._weaker = env, directory, fates, weaker
        self._lock = threading.Lock()
        self._leaving = threading.Event()
        self.born: set[int] = set()  # pids
        self._alive: list[BaseProcess] = []
        self.fated = True  # whether there are fates left
        self.ended: list[int] = []  # exit codes of those that were not killed
        self.unattended = False  # whether one was killed while all were ending
        self._threads = [threading.Thread(target=self._keep, name=f"crew-{n}") for n in range(size)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def pids(self) -> list[int]:
        """Of the workers there are now."""
        with self._lock:
            return self._pids()

    def _pids(self) -> list[int]:
        return [process.pid for process in self._alive if process.pid is not None]

    def deaths(self) -> Counter[str]:
        """How many ended at which step."""
        deaths = self._directory / "deaths"
        return Counter(deaths.read_text(encoding="ascii").split() if deaths.exists() else ())

    def signal(self, number: int, chosen: Callable[[list[int]], list[int]] = list) -> list[int]:
        """Send a signal to all of them, or those that are chosen; the pids of those that got it."""
        with self._lock:
            return [pid for pid in chosen(self._pids()) if _sent(pid, number)]

    def spare(self) -> None:
        """Let those that come from now on live; those that are there may end as they would."""
        self._fates = iter(())

    def successor(self) -> Crew:
        """One worker that lives, to tidy up behind these."""
        crew = Crew(1, self._env, self._directory, iter(()), self._weaker)
        crew.born, crew.ended = self.born, self.ended
        crew.start()
        return crew

    def stop(self) -> None:
        """End all in good order, and start no more. A worker that does not end fails the test with its stacks."""
        self._leaving.set()
        with self._lock:
            for process in self._alive:
                process.terminate()
        deadline = time.monotonic() + END_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        before = self._stacks()
        late = self.signal(signal.SIGUSR2)
        signals = [_signals_of(pid) for pid in late]
        self.signal(signal.SIGCONT)
        try:
            if late:
                eventually(lambda: self._stacks() >= before + len(late), "the workers' stacks are in their logs", 60)
        finally:
            self.signal(signal.SIGKILL)
            for thread in self._threads:
                thread.join()
        if late:
            raise AssertionError(f"Workers {late} did not end within {END_SECONDS:g} s.\n{signals}\n{self._logs()}")

    def _logs(self) -> str:
        """The ends of the workers' logs."""
        return "\n".join(path.read_text(errors="replace")[-8000:] for path in self._directory.glob("worker-*.log"))

    def _stacks(self) -> int:
        """How often faulthandler has written the stacks of a worker."""
        logs = self._directory.glob("worker-*.log")
        return sum(path.read_text(errors="replace").count(STACK) for path in logs)

    def _keep(self) -> None:
        while (process := self._bear()) is not None:
            process.join()
            with self._lock:
                self._alive.remove(process)
                # SIGTERM ends one that has not begun to listen, and has nothing yet.
                if process.exitcode not in (-signal.SIGKILL, -signal.SIGTERM, UNKNOWN):
                    self.ended.append(process.exitcode or 0)
                elif self._leaving.is_set():
                    self.unattended = True
            process.close()

    def _bear(self) -> BaseProcess | None:
        with self._lock:
            if self._leaving.is_set():
                return None
            log = self._directory / f"worker-{len(self.born) % 8}.log"
            fate = next(self._fates, None)
            self.fated = self.fated and fate is not None
            process = FORKS.Process(target=live, args=(self._env, fate or Fate(), log, self._weaker))
            process.start()
            assert process.pid is not None
            self.born.add(process.pid)
            self._alive.append(process)
            return process
