"""Detects bursts of failures or security events against a series' own recent past. Pure: counts in, findings out.

**The counts.** Every ended attempt counts once for its tenant, its environment and its worker, as ``ok`` or by the
fault of its failure: ``user``, ``policy``, ``platform`` (an attempt that is queued again is ``platform`` too). Every
execution with a blocked action counts once more, as ``security``. A security event without an execution counts for its
tenant or worker, or otherwise for its source, such as ``api``. One (dimension, name), such as (tenant, acme), is a
series. Counts lie in buckets of 10 seconds.

**The comparison.** At the end of each bucket, the last minute is compared with the hour before it, of the same series;
and without a finding, the last five minutes with the time before them. The detector uses no data beyond an hour,
compares no series with each other, and ignores a past of fewer than ten such windows.

**The five-minute window.** A minute reveals large bursts at once, but hardly small ones: six of sixty after a rate of
one in a hundred is, for a single minute, too likely by chance for any rule that is silent for a thousand days (the best
possible rule would detect a quarter of them: ``docs/anomalies.md``). Over five minutes such a burst is significant.

**The conditions.** The number in the window must meet three conditions, so that an alarm is worth reading:

1. It is at least ``MINIMUM``, of five minutes twice that: one failure in a quiet series is no burst.
2. It is at least twice (``FACTOR``) the number expected from the past, both for a window and for as many attempts as
   ended in this window: a burst, not a drift, a daily pattern, or only more traffic.
3. It is improbable: a series with this past has such a share with a probability below ``PROBABILITY``. For events
   without an execution (the dimension ``source``) the number in that time is used.

**The probability.** The number is taken as beta-binomial, or negative binomial in a ``source``: what binomial and
Poisson counts become when their rate is known only from a past of limited length (Jeffreys' prior, half an event). A
short or empty past thus requires a larger burst, and for a tenant without a past nothing is improbable. Bursty traffic
varies more than that; the variation is measured over the windows of the past hour (the excess of their variance over
their mean, doubled, because an hour is a poor sample), and each series is assumed to vary by at least 14 % between
windows (``SPREAD``).

**The threshold of 10⁻⁷.** A thousand series are judged 8,640 times a day for four kinds of count: 35 million times.
Nearly all are far below the threshold: in simulated days (``docs/anomalies.md``) the first false alarms appear at 10⁻⁵.

**Limits.** The detector misses bursts smaller than ``MINIMUM``; failures that were already more than half of all
attempts; growth of less than twofold in an hour; a drop, such as traffic that stops; and a series without a past (a new
tenant shows in its environment and worker only). For an hour after a burst its series hardly detects another, since the
first belongs to its past: an hourly burst is usual. A rarer batch that fails as a whole is reported each time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import ceil, exp, inf, lgamma, log, log1p
from typing import NamedTuple

BUCKET_SECONDS = 10
MINUTE_BUCKETS = 6
PAST_MINUTES = 60
LEAST_PAST_WINDOWS = 10
BUCKETS = (PAST_MINUTES + 1) * MINUTE_BUCKETS
KEPT_SECONDS = (BUCKETS + 2 * MINUTE_BUCKETS) * BUCKET_SECONDS
MOST_SERIES = 1000  # in one bucket
EVERYONE_ELSE = "*"  # the common name of further series; no tenant, environment or worker has that name
NO_FAULT = "ok"

# Users' programs fail for a living, and one wrong key is tried again and again; five of anything else are worth a look.
MINIMUM = {"user": 10, "policy": 5, "platform": 5, "security": 5}
MINIMUM_OF_SOURCE = 20
WINDOWS = {1: 1, 5: 2}  # the minutes looked at, shortest first, and by how much more the minimum is for so many
ENDS = (NO_FAULT, "user", "policy", "platform")
SOURCE = "source"  # the dimension whose series have events and no executions
FACTOR = 2.0
PROBABILITY = 1e-7
SPREAD = 0.02  # relative variance from window to window that is always allowed for: 0.14²
CAUTION = 2.0  # an hour shows too little of how wild a series can be
PRIOR = 0.5  # Jeffreys': half an event before anything was seen


class Series(NamedTuple):
    """One counter: ``what`` is an end (``ENDS``) or ``security``."""

    dimension: str
    name: str
    what: str


class Finding(NamedTuple):
    """An unusual window: the observed number, the expected number, and the least unusual number."""

    series: Series
    observed: int
    expected: float
    threshold: int
    ended: int
    minutes: int
    past_minutes: int


def findings(buckets: Sequence[Mapping[Series, int]], past_minutes: int) -> list[Finding]:
    """The current findings.

    ``buckets`` are :data:`BUCKETS` tallies, oldest first; ``past_minutes`` is the number of minutes before the last one
    in which the installation counted.
    """
    now: dict[Series, int] = {}
    for bucket in buckets[-MINUTE_BUCKETS * max(WINDOWS) :]:
        for series, count in bucket.items():
            now[series] = now.get(series, 0) + count
    found = []
    for series, observed in now.items():
        if observed < minimum(series):
            continue
        of = [series._replace(what=what) for what in ENDS] if series.dimension != SOURCE else []
        for minutes in WINDOWS:
            known = (past_minutes + 1) // minutes
            counts = windows(buckets, [series], minutes)[-known:]
            ended = windows(buckets, of, minutes)[-known:] if of else []
            if known and (finding := judge(series, counts, ended, minutes)):
                found.append(finding)
                break
    return found


def minimum(series: Series, minutes: int = 1) -> float:
    """The least number in a window that can be unusual; infinite for series that serve only for comparison."""
    return WINDOWS[minutes] * (MINIMUM_OF_SOURCE if series.dimension == SOURCE else MINIMUM.get(series.what, inf))


def windows(buckets: Sequence[Mapping[Series, int]], of: Iterable[Series], minutes: int) -> list[int]:
    """The sums of a series in windows of the given minutes, oldest first, without an incomplete first window."""
    wanted, size = list(of), minutes * MINUTE_BUCKETS
    sums = [sum(bucket.get(series, 0) for series in wanted) for bucket in buckets]
    return [sum(sums[at : at + size]) for at in range(len(sums) % size, len(sums), size)]


def judge(
    series: Series, counts: Sequence[int], ended: Sequence[int], minutes: int = 1, probability: float = PROBABILITY
) -> Finding | None:
    """Whether the last of some windows is unusual after those before it.

    ``counts`` are the series' numbers in each window, oldest first, and ``ended`` the ended attempts in it; empty for a
    series of events.
    """
    if len(counts) <= LEAST_PAST_WINDOWS or counts[-1] < minimum(series, minutes):
        return None
    observed, past = counts[-1], counts[:-1]
    expected = sum(past) / len(past)
    if observed < FACTOR * expected:
        return None
    if ended:
        # Executions with a blocked action may still run, so the count can exceed the number of ended executions.
        *past_tries, tries = [max(pair) for pair in zip(counts, ended, strict=True)]
        if not any(past_tries):
            return None
        expected = max(expected, sum(past) / sum(past_tries) * tries)
        tail = partial(beta_binomial_tail, _learned(past, past_tries), of=tries)
    else:
        tail = partial(negative_binomial_tail, _learned(past, [1] * len(past)))

    def improbable(count: int) -> bool:
        return tail(count=count, enough=probability) < probability

    if observed < FACTOR * expected or not improbable(observed):
        return None
    least = ceil(max(minimum(series, minutes), FACTOR * expected))
    threshold = least + bisect_left(range(least, observed), True, key=improbable)
    return Finding(series, observed, expected, threshold, ended[-1] if ended else 0, minutes, minutes * len(past))


class Learned(NamedTuple):
    """The knowledge of a rate from the past.

    ``mean`` is for one unit of exposure. ``shape`` is its certainty: the rate varies by ``mean / √shape``. ``others``
    relates to ``shape`` as uncounted to counted attempts.
    """

    mean: float
    shape: float
    others: float


def _learned(counts: Sequence[int], exposures: Sequence[int]) -> Learned:
    total, exposure = sum(counts), sum(exposures)
    likely = [total / exposure * each for each in exposures]
    excess = sum((count - mu) ** 2 - mu for count, mu in zip(counts, likely, strict=True))
    wild = CAUTION * max(0.0, excess) / sum(mu * mu for mu in likely) if total else 0.0
    shape = 1 / (SPREAD + wild + 1 / (total + PRIOR))
    return Learned((total + PRIOR) / exposure, shape, shape * (exposure - total + PRIOR) / (total + PRIOR))


def negative_binomial_tail(learned: Learned, count: int, enough: float = 1.0) -> float:
    """The probability of at least ``count``, above the mean, in one unit; a sum that reaches ``enough`` stops there."""
    mean, shape, _ = learned
    q = mean / (mean + shape)
    first = lgamma(count + shape) - lgamma(shape) - lgamma(count + 1) + shape * log1p(-q) + count * log(q)
    return _tail(first, lambda n: (n + shape) / (n + 1) * q, count, enough)


def beta_binomial_tail(learned: Learned, count: int, of: int, enough: float = 1.0) -> float:
    """The probability that at least ``count`` of ``of``, above the mean, are counted; likewise."""
    _, a, b = learned
    first = lgamma(of + 1) - lgamma(count + 1) - lgamma(of - count + 1)
    first += _log_beta(count + a, of - count + b) - _log_beta(a, b)
    return _tail(first, lambda n: (of - n) / (n + 1) * (n + a) / (of - n - 1 + b) if n < of else 0.0, count, enough)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def _tail(log_first: float, ratio: Callable[[int], float], count: int, enough: float) -> float:
    term = total = exp(log_first)
    while term > total / 1e4 and total < enough:  # above the mean, the terms only fall
        term *= ratio(count)
        total += term
        count += 1
    return total
