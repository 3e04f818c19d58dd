"""Feature switches in Redis: one hash with the features that are off. An absent feature is on.

The scripts of submissions and of calls of tools read the hash themselves. Other readers cache it: the API for a second,
a worker until its next heartbeat.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from redis.exceptions import ResponseError

from orchestrator.models.fleet import Switch
from orchestrator.store import keys, scripts
from orchestrator.store.allowance import feature_off, read_switch
from orchestrator.store.connection import StoreConnection
from orchestrator.store.malformed import report_malformed

KNOWN_SECONDS = 1.0


class Switches:
    """Reads and changes the switches. Thread-safe."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis: Any = connection
        self._put = connection.script(scripts.PUT_SWITCH)
        self._known: tuple[float, Mapping[str, Switch]] = 0.0, {}  # until when, monotonic

    def off(self) -> Mapping[str, Switch]:
        """The features that are off now, by name; cached for the other methods. Raises :class:`StoreUnavailable`."""
        self._known = time.monotonic() + KNOWN_SECONDS, self._known[1]  # first, so that few threads query at once
        try:
            found = self._redis.hgetall(keys.SWITCHES)
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):  # Redis's code; the janitor mends the key
                raise
            report_malformed("switches", error)
            found = {}
        off = {switch.feature: switch for switch in (read_switch(*pair) for pair in found.items())}
        self._known = time.monotonic() + KNOWN_SECONDS, off
        return off

    def is_off(self, feature: str) -> bool:
        """Whether the feature was off when the switches were last read, without a query."""
        return feature in self._known[1]

    @property
    def is_stale(self) -> bool:
        """Whether the switches were last read more than ``KNOWN_SECONDS`` ago."""
        return time.monotonic() >= self._known[0]

    def check(self, feature: str) -> None:
        """Raise :class:`FeatureOff` if the feature was off when the switches were last read."""
        if (switch := self._known[1].get(feature)) is not None:
            raise feature_off(switch)

    def put(self, switch: Switch, audit: str = "") -> None:
        """Switch a feature on or off, and append to the audit log."""
        self._put(args=[switch.feature, "" if switch.enabled else switch.model_dump_json(), audit])
