"""The bodies of calls, checked against the fixed profile. Pure, but for the table of images.

A container may differ from others in few values: environment, isolation, loopback, uid, limits. They are read from the
body, and the same functions as the worker's (``worker/sandbox/profile.py``, ``worker/drivers/docker/config.py``) build
the whole body from them. The client's body must be equal to it, and the engine gets the built one. So there is no list
of dangerous fields that could lack one: an unknown field, or one in other capitals (which the engine ignores), differs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.environments import Environment, Environments
from orchestrator.errors import EnvironmentUnavailable
from orchestrator.host.posture import INSTALLATION_LABEL, UID_LABEL
from orchestrator.models import Isolation, Limits
from orchestrator.settings import Settings
from worker.drivers.docker.config import WORKER_LABEL, container_config
from worker.drivers.images import built_image
from worker.engine_proxy.calls import Refused, strict_json
from worker.host.hostdirs import HostDir
from worker.sandbox.profile import (
    AGENT_PROCESSES,
    HARDENED_THREADS,
    HARDENED_THREADS_PER_PROCESS,
    STARTING_CORES,
    pids_limit,
    sandbox_profile,
)

NANOCPUS = 10**9
Amount = Annotated[int, Field(gt=0, le=2**62)]  # larger numbers overflow where a limit is computed
DISK = re.compile(r"size=([0-9]{1,18}),")
UID = re.compile(r"[1-9][0-9]{0,9}")  # not \d, which takes the digits of every script
WORKER = re.compile(r"[A-Za-z0-9_.-]{1,200}")
CAPS = {"Memory", "MemorySwap", "NanoCpus", "PidsLimit"}


class _Frozen(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class AskedHostConfig(_Frozen):
    """The values of a creation's ``HostConfig`` that may differ between containers."""

    Runtime: str
    Memory: Amount
    NanoCpus: Amount
    PidsLimit: Amount
    Tmpfs: dict[str, str]


class AskedConfig(_Frozen):
    """The values of a creation that may differ between containers."""

    Image: str
    User: str
    Labels: dict[str, str]
    HostConfig: AskedHostConfig


@dataclass(frozen=True)
class Creation:
    """A permitted creation: the body for the engine, and what the container is."""

    config: dict[str, Any]
    environment: Environment
    isolation: Isolation
    lease: Path  # the directory of its uid, in which the sources of all its mounts lie

    @property
    def sources(self) -> list[Path]:
        return [Path(mount["Source"]) for mount in self.config["HostConfig"]["Mounts"]]


class Bodies:
    """Checks bodies for one installation on one host."""

    def __init__(self, settings: Settings, environments: Environments) -> None:
        self._settings, self._environments = settings, environments

    def image(self, id: str) -> Path:
        """The archive of an image of this host's table. Raises :class:`Refused` for another image."""
        for environment in self._of(id):
            return self._settings.images_path / f"{environment.name}.tar"
        raise Refused("image", "The image is not in this host's table.")

    def creation(self, body: bytes) -> Creation:
        """The permitted creation that a body asks for. Raises :class:`Refused`."""
        asked = strict_json(body)
        try:
            values = AskedConfig.model_validate(asked)
        except ValidationError as error:
            raise Refused("body", "The body is not that of a sandbox.") from error
        differing: set[str] = set()
        for made in self._candidates(values):
            if not (found := differences(asked, made.config)):
                return made
            differing = found if not differing or len(found) < len(differing) else differing
        if not differing:
            raise Refused("image", "The image is not in this host's table.")
        raise Refused("body", f"Not the sandbox's profile: {', '.join(sorted(differing)[:20])}.")

    def update(self, body: bytes, of: Creation) -> dict[str, int]:
        """The permitted change of a container's limits. Raises :class:`Refused`."""
        asked = strict_json(body)
        if not isinstance(asked, dict) or any(type(value) is not int or value <= 0 for value in asked.values()):
            raise Refused("body", "The body is not that of a change of limits.")
        cpus = (os.cpu_count() or 1) * NANOCPUS  # the worker lifts the cap of a container that it is about to kill
        most = _most(of.environment)
        if asked.keys() == {"NanoCpus"} and asked["NanoCpus"] <= cpus:
            return asked
        if (
            asked.keys() == CAPS
            and asked["Memory"] == asked["MemorySwap"] <= most.memory_bytes
            and asked["NanoCpus"] <= most.cpu_cores * NANOCPUS
            and asked["PidsLimit"] <= pids_limit(of.isolation, most)
        ):
            return asked
        raise Refused("body", "The limits are above those of the environment, or others than those of a sandbox.")

    def _of(self, image: str) -> Iterator[Environment]:
        for environment in self._environments.values():
            try:
                found = built_image(self._settings.images_path, environment)
            except EnvironmentUnavailable:
                continue
            if found.id == image:
                yield environment

    def _candidates(self, asked: AskedConfig) -> Iterator[Creation]:
        isolation: Isolation = "hardened" if asked.User == "0:0" else "standard"
        host, uid, worker = asked.HostConfig, asked.Labels.get(UID_LABEL, ""), asked.Labels.get(WORKER_LABEL, "")
        first = self._settings.uid_first
        if not UID.fullmatch(uid) or not first <= int(uid) < first + self._settings.uid_count:
            raise Refused("body", "The uid is not one of this installation.")
        if not WORKER.fullmatch(worker):
            raise Refused("body", "The container names no worker.")
        root = self._settings.sandboxes_path
        lease = HostDir(int(uid), (root if self._settings.sandbox_dir else root.resolve()) / uid)
        labels = {UID_LABEL: uid, INSTALLATION_LABEL: self._settings.installation, WORKER_LABEL: worker}
        (runtime,) = self._settings.runtime_names()[isolation]
        for environment in self._of(asked.Image):
            limits = _limits(environment, isolation, host)
            for loopback in (False, True):
                profile = sandbox_profile(
                    environment,
                    isolation,
                    limits,
                    uid=lease.uid,
                    image=asked.Image,
                    runtime=runtime,
                    binds=lease.binds(loopback),
                    name="",
                    labels=labels,
                    loopback=loopback,
                    agent_uid=lease.uid if isolation == "hardened" else None,
                )
                yield Creation(container_config(profile), environment, isolation, lease.path)


def differences(asked: Any, made: dict[str, Any]) -> set[str]:
    """The fields in which a body differs from a built one, those of ``HostConfig`` one by one."""
    if not isinstance(asked, dict):
        return {"body"}
    found = {name for name in asked.keys() | made.keys() if asked.get(name, ...) != made.get(name, ...)}
    if "HostConfig" in found and isinstance(asked.get("HostConfig"), dict):
        inner = asked["HostConfig"], made["HostConfig"]
        names = {
            name for name in inner[0].keys() | inner[1].keys() if inner[0].get(name, ...) != inner[1].get(name, ...)
        }
        found = found - {"HostConfig"} | {f"HostConfig.{name}" for name in names}
    return {name[:100] for name in found}


def _most(environment: Environment) -> Limits:
    """The largest limits of a container; one with almost no CPU time starts with more of it."""
    maxima = environment.maxima
    return maxima.model_copy(update={"cpu_cores": max(maxima.cpu_cores, STARTING_CORES)})


def _limits(environment: Environment, isolation: Isolation, host: AskedHostConfig) -> Limits:
    """The limits that a body asks for. Raises :class:`Refused` where they are above the environment's."""
    found = DISK.search(host.Tmpfs.get("/work", ""))
    if isolation == "hardened":
        processes = (host.PidsLimit - HARDENED_THREADS) // HARDENED_THREADS_PER_PROCESS
    else:
        processes = host.PidsLimit - AGENT_PROCESSES
    asked = {
        "memory_bytes": host.Memory,
        "cpu_cores": host.NanoCpus / NANOCPUS,
        "processes": processes,
        "disk_bytes": int(found[1]) if found else 0,
    }
    most = vars(_most(environment))
    if over := sorted(name for name, value in asked.items() if not 0 < value <= most[name]):
        raise Refused("body", f"Limits that {environment.name} does not permit: {', '.join(over)}.")
    return environment.defaults.model_copy(update=asked)
