"""Judges the counters at the end of each bucket, and reports each burst once.

The janitor calls :meth:`Alarms.round`. Between rounds an instance only keeps counters of past buckets; Redis has the
active alarms, so another process can continue. An alarm is written before it is recorded as written: a crash in between
repeats the alarm, and never loses it.
"""

from __future__ import annotations

import structlog

from orchestrator import metrics
from orchestrator.anomaly import (
    BUCKET_SECONDS,
    BUCKETS,
    EVERYONE_ELSE,
    MINUTE_BUCKETS,
    PAST_MINUTES,
    Finding,
    Series,
    findings,
)
from orchestrator.models.security import SecurityEvent, UnusualRate
from orchestrator.store import Store
from orchestrator.store.platform.rates import Alarm

QUIET_BUCKETS = 30  # a burst is over after five minutes with usual numbers
WHAT = {
    "user": ("attempts failed by the programs' own fault", "Compare the programs submitted since."),
    "policy": ("attempts were ended for breaking the sandbox's rules", "`mayfly events` shows the blocked actions."),
    "platform": ("attempts failed by Mayfly's or its host's fault", "See the workers' logs and `mayfly doctor`."),
    "security": ("executions or requests had blocked actions", "`mayfly events` lists the events."),
}  # fmt: skip
log = structlog.get_logger()


class Alarms:
    """The detector's state, its clock and its reports."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._full: list[dict[Series, int]] = []
        self._end = 0

    def round(self) -> None:
        """Judge new counters. Raises :class:`StoreUnavailable`."""
        rates = self._store.rates
        end = rates.bucket()
        if end == self._end:
            return
        since = rates.since(end)
        first = max(self._end, end - BUCKETS) if end > self._end else end - BUCKETS  # Redis's clock may be set back
        self._full = (self._full + rates.read(range(first, end)))[-BUCKETS:]
        self._end = end
        past_minutes = max(0, min(PAST_MINUTES, (end - since) // MINUTE_BUCKETS - 1))
        alarms = rates.alarms()
        for series, alarm in list(alarms.items()):
            if end - alarm.last > QUIET_BUCKETS:
                del alarms[series]
                rates.clear(series)
                lasted = (alarm.last - alarm.began) * BUCKET_SECONDS
                log.info("anomaly.ended", **series._asdict(), lasted_seconds=lasted)
        for finding in findings(self._full, past_minutes):
            known = alarms.get(finding.series)
            if known is None:
                self._report(finding)
            rates.keep(finding.series, Alarm(end if known is None else known.began, end))

    def _report(self, finding: Finding) -> None:
        dimension, name, what = finding.series
        evidence = UnusualRate(
            dimension=dimension,
            name=name,
            what=what,
            observed=finding.observed,
            expected=round(finding.expected, 2),
            threshold=finding.threshold,
            ended=finding.ended,
            window_seconds=60 * finding.minutes,
            past_seconds=60 * finding.past_minutes,
        )
        tenant = name if dimension == "tenant" and name != EVERYONE_ELSE else None
        event = SecurityEvent("anomaly", sentence(finding), evidence=evidence)
        self._store.security.add(event, tenant=tenant, source="janitor")
        metrics.anomalies.labels(dimension, what).inc()


def sentence(finding: Finding) -> str:
    """The alarm's text for an operator, with its numbers."""
    dimension, name, what = finding.series
    happened, remedy = WHAT[what]
    where = f"any other {dimension}" if name == EVERYONE_ELSE else f"{dimension} {name}"
    return (
        f"In {where}, {finding.observed} {happened} within {60 * finding.minutes} s. The {finding.past_minutes} minutes"
        f" before make {finding.expected:.2g} likely and {finding.threshold} unusual. {remedy}"
    )
