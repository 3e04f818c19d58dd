"""Every system call has the effect listed in ``worker/sandbox/seccomp.py``, on each runtime, call by call.

A sandbox without seccomp is the control: the kernel's own answer there distinguishes an EPERM of the filter from an
EPERM of the kernel, and shows that a permitted call has the same effect as without the filter.
"""

from __future__ import annotations

import errno
import json
import platform
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.harness import Way
from tests.hostile.around_classes import ALLOWED, DENIED, NO_EFFECT, around_classes
from tests.hostile.kernel import entries
from tests.hostile.sandbox import Bench, Edit, Sandbox
from worker.agent.conversation import AGENT_UNFILTERED
from worker.drivers.oci.config import oci_config
from worker.sandbox import bpf, seccomp
from worker.sandbox.arguments import AF_UNIX, CLONE_NEW_ANY, PRCTL, RLIMIT_CORE, RLIMIT_COUNT
from worker.sandbox.log_filter import TIOCLINUX, TIOCSTI, log_filter
from worker.sandbox.syscalls import name_of, number_of

MACHINE = platform.machine()
NUMBERS = range(520)  # the kernel's highest is below
FAR = (1000, 65_535, 2**30 - 1)
X32 = 0x40000000
NOTHING = (-1,) * 6  # no descriptor, no address, no process, no flags that exist
PROBE = (Path(__file__).parent / "seccomp_probe.c").read_text()
KILLED, MISSING = "killed", "missing"
# Since Linux 6.14 no filter sees these two; they do nothing but return to a probe that a tracer has set.
UNFILTERED = ("uretprobe", "uprobe")
# Arguments with which a call that is let through under a condition, or that does something, is tried.
PARTICULAR: dict[str, tuple[int, ...]] = {
    "socket": (1, 1, 0),
    "socketpair": (1, 1, 0, -1),
    "clone": (signal.SIGCHLD, 0, 0, 0, 0),
    "personality": (0xFFFFFFFF,),
    "prlimit64": (0, -1, 0, 0),
    "setrlimit": (7, 0),
    "prctl": (3,),
    "setsockopt": (-1, 1, 2),
    "getsockopt": (-1, 1, 3),
    "fcntl": (-1, 1),
    "ioctl": (-1, 0x541B),
    "madvise": (-1, -1, 0),
    "fadvise64": (-1, 0, 0, 0),
    "mmap": (0, 0, 0, 0, -1, 0),
    "open": (-1, 0),
    "openat": (-1, -1, 0),
    "preadv2": (-1, -1, -1, -1, -1, 0),
    "pwritev2": (-1, -1, -1, -1, -1, 0),
    "inotify_add_watch": (-1, -1, 2),
    "setpriority": (0, 0, 19),
    "sched_setaffinity": (0, -1, -1),
}


class Call(NamedTuple):
    """One attempt; ``fate`` overrules the lists' entry of the name."""

    how: str
    number: int
    arguments: tuple[int, ...] = NOTHING
    fate: str | None = None

    @property
    def name(self) -> str | None:
        return name_of(self.number, MACHINE) if self.how != "i" else None


def every_number() -> Iterator[Call]:
    for number in (*NUMBERS, *FAR):
        name = name_of(number, MACHINE) or ""
        how = {"pause": "b", "vfork": "v", "fork": "f", "clone": "f"}.get(name, "n")
        yield Call(how, number, PARTICULAR.get(name, NOTHING))


def with_arguments() -> Iterator[Call]:
    """The classes into which the conditions on arguments split a call."""

    def called(name: str, fate: str, *arguments: int) -> Call:
        number = number_of(name, MACHINE)
        assert number is not None
        return Call("f" if name == "clone" else "n", number, arguments, fate)

    yield from (called(name, fate, *arguments) for name, fate, arguments in around_classes(MACHINE))
    for name in ("socket", "socketpair"):
        for family in range(60):
            fate = KILLED if family in seccomp.TRIPWIRE_FAMILIES else ALLOWED if family == AF_UNIX else DENIED
            yield called(name, fate, family, 1, 0, -1)
            yield called(name, fate, family + 2**32, 1, 0, -1)  # the kernel takes an int
        yield called(name, DENIED, -1, 1, 0, -1)
    for bit in range(32):
        if CLONE_NEW_ANY >> bit & 1:
            yield called("clone", DENIED, 1 << bit | signal.SIGCHLD, 0, 0, 0, 0)
    yield called("clone", ALLOWED, 0x00800000 | signal.SIGCHLD, 0, 0, 0, 0)  # CLONE_UNTRACED, the control
    for persona in (0x0008, 0x0040000, 0x400000, 0xFFFFFFFE):
        yield called("personality", DENIED, persona)
    for pid in (1, 2, -1, 2**31 - 1):
        yield called("prlimit64", DENIED, pid, 7, 0, 0)
    for limit in range(RLIMIT_COUNT):
        fate = DENIED if limit == RLIMIT_CORE else ALLOWED
        for high in (0, 2**32):  # the kernel takes an int
            yield called("prlimit64", fate, 0, limit + high, 1, 0)  # an address that is none
            yield called("setrlimit", fate, limit + high, 1)
        yield called("prlimit64", ALLOWED, 0, limit, 0, 1)
    yield called("prlimit64", DENIED, 0, RLIMIT_CORE, 2**32, 0)
    options = {option for group in PRCTL.values() for option in group}
    for option in {*range(100), *options} - {22}:
        # Of the options that are let through, only those that ask are tried without harm to what follows.
        yield called("prctl", ALLOWED if option in options else DENIED, option, -1, -1, -1, -1)
    yield called("prctl", DENIED, 22, 2, 0)


def other_entries() -> Iterator[Call]:
    for number in (*NUMBERS, *FAR):
        yield Call("n", X32 + number, fate=KILLED)
    for number in NUMBERS:
        yield Call("i", number, fate=KILLED)


def fate_in_lists(name: str | None, allow: dict[str, str], tripwires: dict[str, str]) -> str:
    if name is not None and any(name in names.split() for names in tripwires.values()):
        return KILLED
    if name is not None and (name in PARTICULAR or any(name in names.split() for names in allow.values())):
        return ALLOWED
    if name in seccomp.NO_EFFECT:
        return NO_EFFECT
    return MISSING if name in seccomp.HIDDEN_ARGUMENTS else DENIED


def named(line: str) -> str:
    """The probe's line with names for numbers."""
    what, _, number = line.partition(" ")
    if what == "error":
        return errno.errorcode.get(int(number), line)
    return signal.Signals(int(number)).name if what == "signal" else what


def highest_listed(allow: dict[str, str], tripwires: dict[str, str]) -> int:
    names = {name for lists in (allow, tripwires) for group in lists.values() for name in group.split()}
    return max(number_of(name, MACHINE) or 0 for name in names)


def differences(
    runtime: str,
    outcomes: dict[Call, str],
    control: dict[Call, str],
    allow: dict[str, str] = seccomp.ALLOW,
    tripwires: dict[str, str] = seccomp.TRIPWIRES,
) -> list[str]:
    """Where the outcomes contradict the lists."""
    # runc answers ENOSYS beyond the highest number its profile has, so that libc falls back.
    beyond = highest_listed(allow, tripwires) if runtime == "runc" else 2**64
    found = []
    for call, outcome in outcomes.items():
        fate = call.fate or fate_in_lists(call.name, allow, tripwires)
        if fate == DENIED and call.number > beyond:
            fate = MISSING
        expected = {
            KILLED: "SIGSYS",
            DENIED: "EPERM",
            MISSING: "ENOSYS",
            NO_EFFECT: "ok",
            ALLOWED: control.get(call),
        }[fate]
        if outcome != expected and not (call.name in UNFILTERED and outcome == control[call]):
            found.append(f"{call.how} {call.number} {call.name} {call.arguments}: {outcome}, {fate} means {expected}")
    return found


@pytest.fixture(scope="module")
def bench(images: Path, image_of: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    image_of("c")
    made = Bench(tmp_path_factory.mktemp("bench"), images)
    yield made
    made.close()


Probe = Callable[..., dict[Call, str]]


@pytest.fixture(scope="module")
def probe(bench: Bench) -> Probe:
    def attempt(
        calls: list[Call], runtime: str, *args: str, confined: bool = True, denial_log: bytes = b""
    ) -> dict[Call, str]:
        with bench.sandbox(environment="c", edit=made_by(runtime, confined)) as sandbox:
            return outcomes_in(sandbox, calls, *args, denial_log=denial_log)

    return attempt


def made_by(runtime: str, confined: bool = True) -> Edit:
    """A container of that runtime, and maybe without a filter."""

    def edit(config: dict[str, Any]) -> None:
        config["HostConfig"]["Runtime"] = runtime
        if not confined:
            config["HostConfig"]["SecurityOpt"][1] = "seccomp=unconfined"

    return edit


def outcomes_in(sandbox: Sandbox, calls: list[Call], *args: str, denial_log: bytes = b"") -> dict[Call, str]:
    lines = (f"{call.how} {call.number} {' '.join(map(str, (*call.arguments, *NOTHING)[:6]))}\n" for call in calls)
    (sandbox.lease.host_dir.inputs / "calls.txt").write_text("".join(lines))
    ran = sandbox.run(PROBE, *args, denial_log=denial_log)
    assert ran.exit["exit_code"] == 0, ran
    return dict(zip(calls, map(named, ran.stdout.splitlines()), strict=True))


@pytest.fixture(scope="module")
def control(probe: Probe) -> dict[Call, str]:
    """The answers of the kernel without a filter."""
    return probe([*every_number(), *with_arguments()], "runc", confined=False)


@pytest.fixture(scope="module", params=["runc", "crun"])
def tried(
    request: pytest.FixtureRequest, need_runtime: Callable[..., None], probe: Probe
) -> tuple[str, dict[Call, str]]:
    runtime = request.param
    need_runtime(runtime)
    entries = other_entries() if MACHINE == "x86_64" else ()
    return runtime, probe([*every_number(), *with_arguments(), *entries], runtime)


def test_every_call_ends_as_listed(tried: tuple[str, dict[Call, str]], control: dict[Call, str]) -> None:
    runtime, outcomes = tried
    found = differences(runtime, outcomes, control)
    assert not found, "\n".join(found)


def test_filter_holds_in_descendants_after_exec(tried: tuple[str, dict[Call, str]], probe: Probe) -> None:
    runtime, outcomes = tried
    deep = probe(list(outcomes), runtime, "deep")
    assert {call: deep[call] for call in outcomes if deep[call] != outcomes[call]} == {}


@pytest.mark.skipif(MACHINE != "x86_64", reason="others have no such entries")
@pytest.mark.parametrize("kind", entries.KINDS)
def test_other_system_call_entries_exist(bench: Bench, kind: str) -> None:
    """The control: without the filter the kernel answers the calls that ``entries.py`` tries."""
    with bench.sandbox(environment="c", edit=made_by("runc", confined=False)) as sandbox:
        found = json.loads(sandbox.run(entries.PROBE, kind).stdout)
    assert found.keys() == entries.ENTRIES.keys()
    assert "SIGSYS" not in found.values()
    assert [found[name] for name in ("int 0x80", "int 0x80 from 32-bit code", "a 32-bit program")] == ["entered"] * 3


def test_cached_filter_equals_a_freshly_compiled_filter(
    images: Path,
    need_runtime: Callable[..., None],
    tmp_path: Path,
    control: dict[Call, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need_runtime("crun", "oci")
    bench = Bench(tmp_path, images, Way("oci-crun"))
    with bench.sandbox(environment="c"):
        pass  # its runtime compiles
    # Without the profile nothing stands in its way but what the first one left.
    monkeypatch.setattr("worker.drivers.oci.sandbox.oci_config", _with_no_profile)
    with bench.sandbox(environment="c") as sandbox:
        outcomes = outcomes_in(sandbox, [*every_number(), *with_arguments(), *other_entries()])
    bench.close()
    found = differences("crun", outcomes, control)
    assert not found, "\n".join(found)


def _with_no_profile(*arguments: Any) -> dict[str, Any]:
    config = oci_config(*arguments)
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_KILL_PROCESS"}
    return config


def moved(lists: dict[str, str], name: str, into: bool) -> dict[str, str]:
    """The lists without the name, or with it in a group of its own."""
    rest = {why: " ".join(one for one in names.split() if one != name) for why, names in lists.items()}
    return {**rest, "moved here": name} if into else rest


@pytest.mark.parametrize("name", ["getpid", "close", "ptrace", "unshare", "splice", "memfd_create"])
@pytest.mark.parametrize("group", [ALLOWED, KILLED, DENIED])
def test_a_name_in_another_group_is_found(
    tried: tuple[str, dict[Call, str]], control: dict[Call, str], name: str, group: str
) -> None:
    runtime, outcomes = tried
    where = fate_in_lists(name, seccomp.ALLOW, seccomp.TRIPWIRES)
    allow = moved(seccomp.ALLOW, name, group == ALLOWED)
    tripwires = moved(seccomp.TRIPWIRES, name, group == KILLED)
    found = differences(runtime, outcomes, control, allow, tripwires)
    assert len(found) == (0 if group == where else 1)
    assert all(f" {name} " in one for one in found)


def test_an_argument_with_another_fate_is_found(tried: tuple[str, dict[Call, str]], control: dict[Call, str]) -> None:
    runtime, outcomes = tried
    for call in with_arguments():
        for fate in {ALLOWED, KILLED, DENIED} - {call.fate}:
            # Where the kernel by itself answers as the filter would, allowed and denied look alike.
            alike = KILLED not in (fate, call.fate) and control[call] == "EPERM"
            wrong = call._replace(fate=fate)
            assert alike or differences(runtime, {wrong: outcomes[call]}, {wrong: control[call]}), call


def test_agents_filter_denies_only_its_listed_calls(tried: tuple[str, dict[Call, str]], probe: Probe) -> None:
    runtime, outcomes = tried
    ioctl = number_of("ioctl", MACHINE) or 0
    # Denied by the container's filter already, and logged by this one
    typing = [Call("n", ioctl, (0, request)) for request in (TIOCSTI, TIOCLINUX)]
    calls = [*every_number(), *with_arguments()]
    before = {**outcomes, **dict.fromkeys(typing, "EPERM")}
    after = probe([*calls, *typing], runtime, denial_log=log_filter(MACHINE))
    changed = {call: outcome for call, outcome in after.items() if outcome != before[call]}
    assert set(changed.values()) == {"EPERM"}
    newer = {call for call in changed if before[call] == "ENOSYS"}  # which runc hides, and this filter logs
    assert {call.name for call in changed.keys() - newer} == {"seccomp"}
    assert {call.name for call in newer} <= {"memfd_secret"}
    assert {after[call] for call in typing} == {"EPERM"}


def test_agent_that_cannot_install_its_filter_starts_no_program(bench: Bench) -> None:
    with bench.sandbox() as sandbox:
        with pytest.raises(AssertionError, match="ended before its program"):
            sandbox.run("print('ran')", denial_log=b"\xff" * bpf.INSTRUCTION.size)
        ended = sandbox.lease.sandbox.wait(60)
        assert ended is not None and ended.exit_code == AGENT_UNFILTERED
        assert "seccomp filter" in repr(sandbox.lease.sandbox.diagnostics)
    with bench.sandbox() as sandbox:  # the control
        assert sandbox.run("print('ran')", denial_log=log_filter(MACHINE)).stdout == "ran\n"
