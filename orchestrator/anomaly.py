"""Tells a burst of failures or security events from a series' own recent past. Pure: counts in, findings out.

**What is counted.** Every attempt that ends counts once for its tenant, its environment and its worker, as ``ok`` or by
whose fault it failed: ``user``, ``policy``, ``platform`` (an attempt given back to be tried again is ``platform`` too).
Every execution in which something was blocked counts once more, as ``security``, however often it tried. A security
event that belongs to no execution counts for its tenant or worker, or else for its source, for instance ``api``. One
(dimension, name), such as (tenant, acme), is a series. Counts lie in buckets of 10 seconds.

**What is compared.** Each time a bucket is full, the last minute with the hour before it, of the same series; and if
that says nothing, the last five minutes with what came before them. Nothing is learned beyond an hour, nothing is
compared between series, and a past of fewer than ten such windows says nothing.

**Why five minutes too.** A minute shows large bursts at once, and hardly shows small ones: six of sixty where it
used to be one in a hundred is, for a single minute, too likely an accident for any rule that is silent for a thousand
days (the best there can be would see a quarter of them: ``docs/anomalies.md``). Over five minutes it is none.

**What is unusual.** Three things must hold of the number seen in the window, so that an alarm is worth reading:

1. It is at least ``MINIMUM``, of five minutes twice that: one failure in a quiet series is no burst.
2. It is at least twice (``FACTOR``) what the past makes likely, both for a window and for as many attempts as ended in
   this one: a burst, not a drift, a daily pattern, or only more traffic.
3. It is improbable: a series with this past shows so many out of so many with a probability below ``PROBABILITY``.
   Where events belong to no execution (the dimension ``source``) it is so many in so long.

**Why that probability can be trusted.** The number is taken as beta-binomial, or negative binomial in a ``source``:
what binomial and Poisson counts become when their rate is known only from a past of limited length (Jeffreys' prior,
half an event). A short or empty past hence asks for a larger burst by itself, and of a tenant of whom nothing is known
yet nothing is improbable. Traffic that comes in clumps is wilder than that; how much is measured over the windows
of the past hour (by how much their variance exceeds their mean, doubled, because an hour measures it badly), and no
series is held to be steadier than 14 % from one to the next (``SPREAD``).

**Why one in 10⁷.** A thousand series are looked at 8,640 times a day for four kinds of count: 35 million times. Nearly
all are far from the edge: in simulated days (``docs/anomalies.md``) the first false alarms come at one in 10⁵.

**What it cannot see.** A burst smaller than ``MINIMUM``; failures that were more than half of all before; what grows
slower than twofold in an hour; a drop, such as traffic that stops; a series without a past (a new tenant shows in its
environment and worker only). For an hour after a burst its series hardly sees another, as the first is its past by
then: what comes every hour is usual. A batch that fails as a whole and comes less often is reported each time.
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
EVERYONE_ELSE = "*"  # the name of what comes after those; no tenant, environment or worker is called so
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
    """An unusual window: what was seen in it, what was likely, and the least that would have been unusual."""

    series: Series
    observed: int
    expected: float
    threshold: int
    ended: int
    minutes: int
    past_minutes: int


def findings(buckets: Sequence[Mapping[Series, int]], past_minutes: int) -> list[Finding]:
    """What is unusual now.

    ``buckets`` are :data:`BUCKETS` tallies, oldest first; ``past_minutes`` is for how many minutes before the last one
    there was anyone to count.
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
    """The least number in a window that can be unusual; infinite for what is only counted to compare with."""
    return WINDOWS[minutes] * (MINIMUM_OF_SOURCE if series.dimension == SOURCE else MINIMUM.get(series.what, inf))


def windows(buckets: Sequence[Mapping[Series, int]], of: Iterable[Series], minutes: int) -> list[int]:
    """The sum of some series in each window of so many minutes, oldest first; a first one that is not whole is left."""
    wanted, size = list(of), minutes * MINUTE_BUCKETS
    sums = [sum(bucket.get(series, 0) for series in wanted) for bucket in buckets]
    return [sum(sums[at : at + size]) for at in range(len(sums) % size, len(sums), size)]


def judge(
    series: Series, counts: Sequence[int], ended: Sequence[int], minutes: int = 1, probability: float = PROBABILITY
) -> Finding | None:
    """Whether the last of some windows is unusual after those before it.

    ``counts`` are what the series counted in each window, oldest first, and ``ended`` the attempts that ended in it;
    empty where a series has events only.
    """
    if len(counts) <= LEAST_PAST_WINDOWS or counts[-1] < minimum(series, minutes):
        return None
    observed, past = counts[-1], counts[:-1]
    expected = sum(past) / len(past)
    if observed < FACTOR * expected:
        return None
    if ended:
        # What was blocked has not always ended yet, so more can be counted than have ended.
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
    """What a past tells of a rate.

    ``mean`` is for one unit of exposure. ``shape`` is how sure that is: the rate itself varies by ``mean / √shape``.
    ``others`` is to ``shape`` as what was not counted is to what was.
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
