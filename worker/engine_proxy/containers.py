"""The containers that this proxy made, and whose the others are.

A container can be attached, started and changed only in the life of the proxy that created it, attached once and
started once. The containers of an earlier life have lost their streams; they can be inspected, killed and removed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from worker.engine_proxy.bodies import Creation
from worker.engine_proxy.calls import Refused

MOST_CONTAINERS = 500  # at once: as many as a host has slots and warm containers, many times over


@dataclass
class Made:
    """One container. ``decided`` is set once its mounts are ``verified``, or the container is refused or gone."""

    creation: Creation
    is_attached: bool = False
    is_started: bool = False
    verified: bool = False
    decided: threading.Event = field(default_factory=threading.Event)


class Containers:
    """The containers by their ids. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[str, Made] = {}
        self._reserved = 0  # for creations that the engine has not answered
        self._ours: set[str] = set()  # of others of this installation, whose labels were read

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Room for one container during its creation. Raises :class:`Refused` beyond what workers make on a host."""
        with self._lock:
            if len(self._made) + self._reserved >= MOST_CONTAINERS:
                raise Refused("container", f"{MOST_CONTAINERS} containers are there already.")
            self._reserved += 1
        try:
            yield
        finally:
            with self._lock:
                self._reserved -= 1

    def add(self, id: str, creation: Creation) -> None:
        """Remember a container that was created."""
        with self._lock:
            self._made[id] = Made(creation)

    def add_ours(self, id: str) -> None:
        """Remember a container whose labels are this installation's."""
        with self._lock:
            self._ours.add(id)

    def are_ours(self, id: str) -> bool:
        """Whether a container is known as one of this installation."""
        return id in self._made or id in self._ours

    def made(self, id: str) -> Made:
        """A container that this proxy created. Raises :class:`Refused`."""
        try:
            return self._made[id]
        except KeyError as error:
            raise Refused("container", "This proxy has not created the container.") from error

    def attach(self, id: str) -> Made:
        """Take a container's only stream. Raises :class:`Refused`."""
        with self._lock:
            made = self.made(id)
            if made.is_attached:
                raise Refused("container", "The container was attached already.")
            made.is_attached = True
            return made

    def start(self, id: str) -> Made:
        """Take a container's only start. Raises :class:`Refused`."""
        with self._lock:
            made = self.made(id)
            if made.is_started:
                raise Refused("container", "The container was started already.")
            made.is_started = True
            return made

    def forget(self, id: str) -> None:
        """Forget a container that is gone, and let its stream end. Idempotent."""
        with self._lock:
            self._ours.discard(id)
            made = self._made.pop(id, None)
        if made is not None:
            made.decided.set()
