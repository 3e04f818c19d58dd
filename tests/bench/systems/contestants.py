"""The contestants: Mayfly with each driver, raw loops, and peers; absent ones with the reason."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import docker

from tests.bench.systems.child import Absent, Child, Variant, raw_command
from tests.bench.systems.images import ENVIRONMENTS, peer_images, sandbox_images
from tests.bench.systems.mayfly import DRIVERS, Driver, Mayfly, installed, known
from tests.bench.systems.programs import Program
from tests.bench.systems.venvs import PEERS, Peer, interpreter
from tests.builders.processes.packages import fetched
from tests.harness import IMAGES

OCI, DOCKER = "Mayfly oci/crun", "Mayfly docker/runc"
WAITING, AGENT, BARE = "crun waiting", "crun waiting, agent", "crun waiting, bare"
LOOP, EPICBOX = "engine loop, runc", "epicbox"
COMPARED = (OCI, WAITING, AGENT, BARE, DOCKER, LOOP)  # a ratio is taken of their throughput
ALL = frozenset(ENVIRONMENTS)
HYBRID = Path("/sys/fs/cgroup/unified")
ENGINE = {
    "run": "docker run --rm",
    "loop runc": LOOP,
    "loop crun": "engine loop, crun",
    "waiting runc": "engine waiting, runc",
    "waiting crun": "engine waiting, crun",
}
CRUN = {"run": "crun run", "waiting": WAITING, "waiting, agent": AGENT, "waiting, bare": BARE}


class Package(NamedTuple):
    """A release of Debian's packages, pinned by digest."""

    release: str
    file: str
    sha256: str


RUNSC = Package(
    "20240729",
    "pool/main/g/golang-gvisor-gvisor/runsc_0.0~20240729.0-4~bpo12+2_amd64.deb",
    "afdde883e3876ea807e19c708d4432674a20cb10186a7a5b554d62f38ea8de46",
)
HARDENED = f"Mayfly oci/runsc {RUNSC.release}"


class Contestant(Protocol):
    """The interface of every contestant. Times are seconds."""

    name: str

    @property
    def about(self) -> dict[str, str]: ...
    def takes(self, program: Program) -> bool: ...
    def latency(self, program: Program, runs: int) -> list[float]: ...
    def throughput(self, program: Program, seconds: float, at_once: int) -> list[float]: ...
    def burst(self, program: Program, count: int, at_once: int) -> float: ...


@dataclass
class Field:
    """All contestants."""

    mayfly: list[Mayfly] = field(default_factory=list)
    raw: list[Variant] = field(default_factory=list)
    peers: list[Variant] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def everybody(self) -> list[Contestant]:
        return [*self.mayfly, *self.raw, *self.peers]

    @property
    def best(self) -> Mayfly:
        """The fastest of the drivers that are there: they are listed in that order."""
        return self.mayfly[-1]

    def named(self, name: str) -> Contestant | None:
        return next((one for one in self.everybody if one.name == name), None)


@contextmanager
def gathered(state: Path, environments: tuple[str, ...], peers: bool, only: Container[str]) -> Iterator[Field]:
    """The contestants, ready; ended with the context. ``state`` keeps files that are made once.

    With ``python`` alone, nothing else waits in any pool. ``only`` names contestants.
    """
    state.mkdir(parents=True, exist_ok=True)
    try:
        api = docker.APIClient()
    except docker.errors.DockerException as error:
        raise SystemExit(f"There is no container engine to compare with: {error}") from error
    runtimes = sorted(api.info()["Runtimes"])
    api.close()
    images = sandbox_images(IMAGES, environments)
    setting: dict[str, Any] = {"images": images, "runtimes": runtimes, "state": str(state)}
    found = Field()
    with ExitStack() as cleanup:
        logs = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="mayfly-bench-")))

        def children(names: dict[str, str], languages: frozenset[str], make: Callable[[], Child]) -> list[Variant]:
            try:
                child = make()
            except Absent as error:
                found.absent |= dict.fromkeys(names.values(), str(error))
                return []
            cleanup.callback(child.close)
            found.absent.update({name: "not on this host" for key, name in names.items() if key not in child.about})
            there = {key: name for key, name in names.items() if key in child.about and name in only}
            return [Variant(name, child, key, languages) for key, name in there.items()]

        all_drivers = (*(hardened(state / "runsc") if HARDENED in only else ()), *DRIVERS)
        for driver in (driver for driver in all_drivers if driver.contestant in only):
            try:
                refuse_absent(driver, runtimes)
                fewer = {"pool_size": 0} if environments == ("python",) else {}
                found.mayfly.append(cleanup.enter_context(installed(driver, logs, **fewer)))
            except Absent as error:
                found.absent[driver.contestant] = str(error)
        found.raw += children(
            ENGINE, ALL, lambda: Child(raw_command("engine", hybrid_cgroups=False), setting, logs / "engine.log")
        )
        found.raw += children(CRUN, ALL, lambda: _crun(setting, logs))
        if peers:
            setting["peer_images"] = peer_images(images)
        for peer in PEERS if peers else ():
            found.peers += children(peer.variants, peer.languages, _starter(peer, setting, state, logs))
        yield found


def hardened(directory: Path) -> list[Driver]:
    """The hardened tier with this host's gVisor, and with that of Debian's backports, which is fetched once.

    Raises :class:`SystemExit` if Debian no longer has that package.
    """
    command = directory / RUNSC.release / "runsc"
    command.parent.mkdir(parents=True, exist_ok=True)
    if not command.exists() and not fetched(RUNSC.file, RUNSC.sha256, "usr/bin/runsc", command):
        raise SystemExit(f"Debian has runsc {RUNSC.release} no longer: pin its successor in {__file__}")
    return [
        Driver("oci", "runsc", "hardened"),
        Driver("oci", "runsc", "hardened", RUNSC.release, command.parent),
    ]


def refuse_absent(driver: Driver, runtimes: list[str]) -> None:
    """Raise :class:`Absent` for a driver that this host or this version of Mayfly does not have."""
    if not known(driver):
        raise Absent("this version of Mayfly does not have that driver")
    if driver.driver == "docker" and driver.runtime not in runtimes:
        raise Absent(f"the container engine has no runtime {driver.runtime}")
    if driver.driver == "oci" and shutil.which(driver.runtime) is None:
        raise Absent(f"{driver.runtime} is not installed")


def _crun(setting: dict[str, Any], logs: Path) -> Child:
    if shutil.which("crun") is None:
        raise Absent("crun is not installed")
    return Child(raw_command("crun", hybrid_cgroups=HYBRID.is_dir()), setting, logs / "crun.log")


def _starter(peer: Peer, setting: dict[str, Any], state: Path, logs: Path) -> Callable[[], Child]:
    return lambda: Child([interpreter(peer, state), str(peer.path)], setting, logs / f"{peer.path.stem}.log")


def versions(found: Field) -> dict[str, dict[str, str]]:
    """The versions of each contestant."""
    return json.loads(json.dumps({one.name: one.about for one in found.everybody}))  # type: ignore[no-any-return]
