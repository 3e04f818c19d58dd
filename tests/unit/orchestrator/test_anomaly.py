"""The detector in simulated days: silent for steady traffic of any variance, and quick for bursts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from random import Random
from typing import NamedTuple

import pytest

from orchestrator.anomaly import (
    BUCKETS,
    FACTOR,
    MINIMUM,
    PROBABILITY,
    WINDOWS,
    Finding,
    Learned,
    Series,
    beta_binomial_tail,
    findings,
    judge,
    minimum,
    negative_binomial_tail,
)

DAY = 8640
HOUR = 360


def poisson(rng: Random, mean: float) -> int:
    """Exact for small means, and rounded from a normal distribution for large ones."""
    if mean > 30:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    count, product, bound = -1, 1.0, math.exp(-mean)
    while product > bound:
        product *= rng.random()
        count += 1
    return max(count, 0)


def binomial(rng: Random, of: int, share: float) -> int:
    """Exact for small numbers, by the gaps between hits; rounded from a normal distribution for large ones."""
    if share > 0.5:
        return of - binomial(rng, of, 1 - share)
    if of * share > 30:
        return min(of, max(0, round(rng.gauss(of * share, math.sqrt(of * share * (1 - share))))))
    count, at = -1, 0
    while share > 0 and at <= of:
        at += 1 + int(math.log(1 - rng.random()) / math.log1p(-share))
        count += 1
    return max(count, 0)


class Traffic(NamedTuple):
    """The mean rate of ends per second, and the share that is counted."""

    rate: float
    share: float
    style: str = "even"

    def buckets(self, rng: Random, number: int) -> Iterator[tuple[int, int]]:
        """(ended, counted) in each bucket."""
        drift = 1.0
        for bucket in range(number):
            mean, share = self.rate * 10, self.share
            match self.style:
                case "bursty":  # varies by 100 % from bucket to bucket
                    mean *= rng.expovariate(1)
                case "daily":
                    mean *= 1 + 0.9 * math.sin(2 * math.pi * bucket / DAY)
                case "away" if bucket // 540 % 3 == 2:  # no worker for an hour and a half, again and again
                    mean = 0
                case "drifting":
                    drift = 0.97 * drift + 0.03 * rng.gammavariate(2, 0.5)
                    share = min(0.9, share * drift)
                case "doubling":
                    mean *= 2 ** (bucket / (2 * HOUR))
                case "batches":
                    ended = sum(1 + int(rng.expovariate(1 / 4)) for _ in range(poisson(rng, mean / 5)))
                    yield ended, binomial(rng, ended, share)
                    continue
            ended = poisson(rng, mean)
            yield ended, binomial(rng, ended, share)


def alarms(
    series: Series, ended: Sequence[int], counts: Sequence[int], probability: float = PROBABILITY, first: int = 6
) -> list[tuple[int, Finding]]:
    """The detector's findings in one series: the number of each bucket, and the finding at its end."""
    counted, all_ended = ([0, *accumulate(numbers)] for numbers in (counts, ended))
    found = []
    for end in range(first, len(counts) + 1):
        looks = [w for w in WINDOWS if counted[end] - counted[max(0, end - 6 * w)] >= minimum(series, w)]
        if not looks:
            continue  # as `findings` does, so that a day takes a second
        for minutes in looks:
            size = 6 * minutes
            first_bucket = max(end - BUCKETS, 0)
            begin = first_bucket + (end - first_bucket) % size
            windows = [[b - a for a, b in pairwise(sums[begin : end + 1 : size])] for sums in (counted, all_ended)]
            tried = windows[1] if series.dimension != "source" else []
            if finding := judge(series, windows[0], tried, minutes, probability):
                found.append((end - 1, finding))
                break
    return found


RATES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
MIXTURE = [
    *(Traffic(rate, share) for rate in RATES for share in (0.001, 0.02, 0.4) if rate * share < 10),
    *(Traffic(rate, 0.05, style) for rate in RATES[:-1] for style in ("bursty", "daily", "away", "drifting")),
    *(Traffic(rate, share, "batches") for rate in (0.1, 1.0) for share in (0.02, 0.2, 0.5)),
    *(Traffic(rate, share, "doubling") for rate in (0.003, 0.01) for share in (0.02, 0.2)),
]
SOURCES = [Traffic(rate, 1.0, style) for rate in RATES[:-1] for style in ("even", "bursty")]


def day(seed: int, probability: float = PROBABILITY, number: int = DAY) -> list[tuple[Traffic, Finding]]:
    """Every finding in a day's buckets of all traffic, from the detector's cold start on."""
    rng = Random(seed)
    found = []
    for dimension, mixture in (("tenant", MIXTURE), ("source", SOURCES)):
        for traffic in mixture:
            ended, counts = zip(*traffic.buckets(rng, number), strict=True)
            what = "platform" if dimension == "tenant" else "security"
            printed = alarms(Series(dimension, "x", what), ended, counts, probability)
            found += [(traffic, finding) for _, finding in printed]
    return found


DAYS = [
    pytest.param(1, DAY, id="1"),
    pytest.param(2, DAY, id="2", marks=pytest.mark.complete),
    pytest.param(3, DAY // 6, id="a morning"),
]


@pytest.mark.parametrize(("seed", "number"), DAYS)
def test_a_day_of_steady_traffic_raises_no_alarm(seed: int, number: int) -> None:
    assert len(MIXTURE) + len(SOURCES) >= 50
    assert day(seed, number=number) == []


def test_detector_with_a_high_probability_raises_false_alarms() -> None:
    assert len(day(1, probability=1e-2, number=DAY // 6)) > 10


BURSTS = {
    "a tenant's programs begin to fail": ("tenant", "user", Traffic(1, 0.02), Traffic(1, 0.6)),
    "fast traffic begins to fail": ("tenant", "user", Traffic(100, 0.02), Traffic(100, 0.6)),
    "failures rise to five times what they were": ("environment", "user", Traffic(10, 0.04), Traffic(10, 0.2)),
    "somebody tries the wall": ("tenant", "policy", Traffic(1, 0), Traffic(1, 0.5)),
    "ten times the security events": ("tenant", "security", Traffic(10, 0.01), Traffic(10, 0.1)),
    "a worker breaks": ("worker", "platform", Traffic(1, 0), Traffic(1, 1)),
    "a worker breaks a little": ("worker", "platform", Traffic(10, 0.0001), Traffic(10, 0.05)),
    "ten times the wrong keys": ("source", "security", Traffic(0.1, 1), Traffic(1, 1)),
    "wrong keys after none at all": ("source", "security", Traffic(0, 1), Traffic(1, 1)),
    "traffic falls by half and fails": ("tenant", "user", Traffic(2, 0.02), Traffic(1, 0.6)),
}


@pytest.mark.parametrize("name", BURSTS)
def test_a_burst_is_reported_within_a_minute(name: str) -> None:
    dimension, what, before, burst = BURSTS[name]
    series = Series(dimension, "x", what)
    for seed in range(10):
        rng = Random(seed)
        buckets = [*before.buckets(rng, 2 * HOUR), *burst.buckets(rng, 6)]
        ended, counts = zip(*buckets, strict=True)
        printed = alarms(series, ended, counts)
        assert printed, seed
        at, finding = printed[0]
        assert 2 * HOUR <= at < 2 * HOUR + 6
        assert finding.observed == sum(counts[at - 5 : at + 1])
        assert finding.ended == (sum(ended[at - 5 : at + 1]) if dimension != "source" else 0)
        assert finding.minutes == 1
        assert FACTOR * finding.expected <= finding.threshold <= finding.observed
        likely = before.share * before.rate * 60
        assert finding.expected == pytest.approx(likely, rel=0.5, abs=0.1)


SMALL_BURSTS = {
    "ten times the security events, six a minute": ("tenant", "security", Traffic(1, 0.01), Traffic(1, 0.1)),
    "a worker fails now and then": ("worker", "platform", Traffic(0.5, 0), Traffic(0.5, 0.2)),
    "seven failures a minute": ("tenant", "user", Traffic(0.2, 0.02), Traffic(0.2, 0.6)),
}


@pytest.mark.parametrize("name", SMALL_BURSTS)
def test_a_burst_too_small_for_a_minute_is_reported_within_five(name: str) -> None:
    dimension, what, before, burst = SMALL_BURSTS[name]
    series = Series(dimension, "x", what)
    seen = 0
    for seed in range(100):
        rng = Random(seed)
        ended, counts = zip(*before.buckets(rng, 2 * HOUR), *burst.buckets(rng, 30), strict=True)
        printed = alarms(series, ended, counts, first=2 * HOUR)
        seen += bool(printed)
        for at, finding in printed:
            assert finding.observed == sum(counts[at + 1 - 6 * finding.minutes : at + 1])
    assert seen >= 95


def test_no_detector_sees_six_of_sixty_without_false_alarms() -> None:
    """The best possible test of an exactly known rate (Neyman and Pearson's), silent for a thousand days."""

    def reaches(least: int, share: float) -> float:
        return sum(math.comb(60, n) * share**n * (1 - share) ** (60 - n) for n in range(least, 61))

    minutes = 1000 * 24 * 60  # those that do not overlap, of one series
    least = next(n for n in range(60) if reaches(n, 0.01) * minutes < 1)
    assert reaches(least, 0.1) < 0.3


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Traffic(1, 0.05), Traffic(10, 0.05)),  # more traffic that fails no more often
        (Traffic(0.01, 0.05), Traffic(50, 0.05)),  # a job begins after a quiet hour
        (Traffic(10, 0.05), Traffic(0.2, 0.9)),  # what is left at night fails, and is little
        (Traffic(0, 0), Traffic(10, 1)),  # nothing is known of this one yet
        (Traffic(1, 0.2), Traffic(1, 0.35)),  # worse, and no burst
    ],
)
def test_normal_variation_is_not_reported(before: Traffic, after: Traffic) -> None:
    for seed in range(10):
        rng = Random(seed)
        ended, counts = zip(*[*before.buckets(rng, 2 * HOUR), *after.buckets(rng, 6)], strict=True)
        assert alarms(Series("tenant", "x", "platform"), ended, counts) == []


def steady_then(series: Series, last: int, ended: int = 600, past: int = 60) -> Finding | None:
    return judge(series, [0] * past + [last], [ended] * past + [max(ended, last)])


@pytest.mark.parametrize(("what", "least"), MINIMUM.items())
def test_smallest_reported_burst(what: str, least: int) -> None:
    series = Series("worker", "w", what)
    assert steady_then(series, least - 1) is None
    finding = steady_then(series, least)
    assert finding is not None
    assert (finding.observed, finding.expected, finding.threshold) == (least, 0, least)


def test_ten_minutes_of_past_are_needed() -> None:
    series = Series("worker", "w", "platform")
    assert steady_then(series, 500, past=9) is None
    assert steady_then(series, 500, past=10) is not None


def test_the_threshold_is_where_alarms_begin() -> None:
    series = Series("tenant", "t", "policy")
    past = [3, 1, 2, 0, 4, 2] * 10
    finding = judge(series, [*past, 100], [60] * 60 + [200])
    assert finding is not None
    assert judge(series, [*past, finding.threshold], [60] * 60 + [200]) is not None
    assert judge(series, [*past, finding.threshold - 1], [60] * 60 + [200]) is None


def test_burst_ends_when_its_rate_falls() -> None:
    """A second burst within the hour is not reported again; after the hour it is."""
    burst = [20] * 3
    counts = [0] * HOUR + burst + [0] * 60 + burst + [0] * (HOUR + 6) + burst
    reported = [at for at, _ in alarms(Series("worker", "w", "platform"), [100] * len(counts), counts)]
    assert reported[0] == HOUR
    assert not [at for at in reported if HOUR + 60 < at < 2 * HOUR]
    assert reported[-1] == len(counts) - 1


def test_series_are_judged_by_themselves() -> None:
    """By the function that production calls: whole buckets, several series."""
    good, bad, other = (Series("tenant", "t", "ok"), Series("tenant", "t", "policy"), Series("tenant", "u", "ok"))
    rejected = Series("source", "api", "security")
    buckets = [{good: 20, other: 5} for _ in range(BUCKETS - 1)]
    assert findings([*buckets, {good: 20, other: 5}], 60) == []
    found = findings([*buckets, {good: 12, bad: 8, other: 5, rejected: 40}], 60)
    assert {finding.series: (finding.observed, finding.ended) for finding in found} == {
        bad: (8, 120),
        rejected: (40, 0),
    }
    assert findings([*buckets, {good: 12, bad: 8, rejected: 40}], 0) == []


def exactly(pmf: Callable[[int], float], count: int, end: int) -> float:
    return sum(pmf(n) for n in range(count, end))


def test_tail_probabilities_match_their_distributions() -> None:
    # A shape of 1 is the geometric distribution; shares of 1 and 1 are the even one.
    assert negative_binomial_tail(Learned(3.0, 1.0, 0.0), 20) == pytest.approx(0.75**20, rel=1e-3)
    assert beta_binomial_tail(Learned(0.5, 1.0, 1.0), 8, 9) == pytest.approx(2 / 10)
    # A large shape is Poisson, and a large shape and others are binomial.
    poissonian = exactly(lambda n: math.exp(-4 - math.lgamma(n + 1)) * 4.0**n, 15, 80)
    assert negative_binomial_tail(Learned(4.0, 1e7, 0.0), 15) == pytest.approx(poissonian, rel=1e-3)
    even = exactly(lambda n: math.comb(40, n) * 0.1**n * 0.9 ** (40 - n), 15, 41)
    assert beta_binomial_tail(Learned(0.1, 1e6, 9e6), 15, 40) == pytest.approx(even, rel=1e-3)
