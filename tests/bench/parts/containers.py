"""Makes the containers of the variants as the driver ``oci`` makes them, one by one, and counts their CPU time.

A container's CPU time is all that crun, the processes in the container, and this process use for it: crun waits for the
container's first process, which waits for all others, so the kernel adds up everything when crun has ended.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.host.oci import Runtime
from orchestrator.host.rootfs import unpacked
from tests.bench.parts.variants import WRITABLE, Config, Variant
from tests.bench.raw.bundle import environments, leased, profile_of
from tests.bench.raw.waiting import BARE, READ_BYTES, Bare
from tests.bench.systems.programs import PRINT
from tests.builders.records import specification
from worker.agent import requests
from worker.agent.frames import HEADER, Decoder, FromAgent, ToAgent, encode
from worker.drivers.images import built_image
from worker.drivers.oci.config import oci_config, rendered
from worker.drivers.oci.startup_cache import CompiledFilter, SealedProgram

HOST_GONE = 125  # the agent's exit code after the end of its input
ARTIFACTS = (64 * 2**20, 1000)  # bytes and files
NO_RESULTS: dict[str, Any] = {"count": 0, "bytes": 0, "types": {}}


class Cost(NamedTuple):
    """The CPU time of one container, and the time from its start until it waits, in seconds."""

    cpu: float
    ready: float


class Containers:
    """Containers of ``python`` under crun, one at a time."""

    def __init__(self, images: Path, state: Path, work: Path) -> None:
        """``images``: the built images; ``state`` keeps their files between runs; ``work`` is empty."""
        self._environment = environments()["python"]
        image = built_image(images, self._environment)
        self._rootfs = unpacked(state / "rootfs", images / "python.tar", image.id)
        if (path := shutil.which("crun")) is None:
            raise SystemExit("crun is not installed")
        self._path, self._sealed = path, SealedProgram(path)
        self._work, self._crun_state = work, work / "crun"
        self._lease = leased(work)
        self._profile = profile_of(self._environment, image.id, "crun", self._lease, f"mayfly-parts-{os.getpid()}")
        self._filters = CompiledFilter(Runtime("crun", path, (path,)), self._crun_state)
        (self._lease.inputs / self._environment.file_name).write_text(PRINT.code, encoding="utf-8")
        self._bare = Bare(self._environment)
        self.version = Runtime("crun", path, (path,)).version()

    def run(self, variant: Variant) -> Cost:
        """Make a container, run ``print(1)`` in it, and await its end."""
        bundle = Path(tempfile.mkdtemp(prefix="bundle-", dir=self._work))
        try:
            config = self._config(variant, bundle)
            text = rendered(config) if "seccomp" in config["linux"] else json.dumps(config)
            (bundle / "config.json").write_text(text, encoding="utf-8")
            return self._measured(variant, bundle)
        finally:
            shutil.rmtree(bundle)

    def _measured(self, variant: Variant, bundle: Path) -> Cost:
        before, began = _cpu_seconds(), time.monotonic()
        program = self._sealed.path() if variant.sealed else self._path
        command = [program, f"--root={self._crun_state}", *variant.options, "run", f"--bundle={bundle}"]
        with self._rootfs.own(bundle / "root") if variant.overlay else nullcontext():
            process = subprocess.Popen(
                [*command, self._profile.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
            assert process.stdin
            assert process.stdout
            with process.stdin, process.stdout:
                sink, source = process.stdin.fileno(), process.stdout.fileno()
                self._await_ready(variant, source)
                ready = time.monotonic() - began
                self._filters.learn(self._profile)
                self._converse(variant, sink, source)
        code = process.wait(60)
        if code != (HOST_GONE if variant.side == "agent without a program" else 0):
            raise AssertionError(f"{variant.part}: crun ended with {code}")
        return Cost(_cpu_seconds() - before, ready)

    def _config(self, variant: Variant, bundle: Path) -> Config:
        process = dict(self._rootfs.process)
        if variant.side == "least Python":
            process["Entrypoint"] = self._bare.command
        elif variant.side == "least Python with site":
            process["Entrypoint"] = ["/usr/bin/python3", "-c", BARE]
        root = bundle / "root" if variant.overlay else self._rootfs.path
        annotations = self._filters.annotations(self._profile) if variant.compiled else {}
        config = oci_config(self._profile, root, process, annotations)
        scratch = bundle / "scratch"
        for directory in (scratch, *(scratch / Path(path).name for path in WRITABLE)):
            directory.mkdir()
            os.chown(directory, self._profile.uid, self._profile.uid)
        variant.change(config, scratch)
        return config

    def _await_ready(self, variant: Variant, source: int) -> None:
        if variant.side.startswith("least"):
            self._bare.ready(source)
        elif not _frames(source, FromAgent.READY):
            raise AssertionError(f"{variant.part}: the agent ended before it was ready")

    def _converse(self, variant: Variant, sink: int, source: int) -> None:
        if variant.side.startswith("least"):
            self._bare.converse(sink, source, PRINT.document())
            return
        if variant.side == "agent without a program":
            return  # the agent ends with its input
        limits = self._environment.defaults
        prepare = requests.prepare(self._environment, "standard", limits, limits.cpu_seconds)
        without = {} if variant.program_filters else {"answers": "", "denial_log": ""}
        if prepare is not None and variant.ahead:
            os.write(sink, _edited(prepare, without))
            time.sleep(variant.idle_seconds)
        start = requests.start(
            specification("bench"), self._environment, limits.cpu_seconds, *ARTIFACTS, NO_RESULTS, leave=True,
            prepared=variant.ahead,
        )  # fmt: skip
        os.write(sink, start)
        if not _frames(source, FromAgent.EXIT):
            raise AssertionError(f"{variant.part}: the agent ended before its program")


def _edited(frame: bytes, fields: dict[str, Any]) -> bytes:
    """A PREPARE frame with some fields changed."""
    return encode(ToAgent.PREPARE, json.loads(frame[HEADER.size :]) | fields)


def _frames(source: int, until: FromAgent) -> bool:
    """Read frames up to one of that kind; ``False`` at the end of the stream."""
    decoder = Decoder()
    while data := os.read(source, READ_BYTES):
        if any(frame.kind is until for frame in decoder.feed(data)):
            return True
    return False


def _cpu_seconds() -> float:
    """CPU time of this process, and of its ended children with all that they have waited for."""
    used = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
