"""The features of specifications that came after version 0.1.0, by which workers of several versions share the queues.

A worker refuses a specification with unknown fields. A field that came later is therefore excluded while it has its
default value (``exclude_if``), and has a row in ``FEATURES``: the *level* from which workers have the feature. An
execution waits in the lane of its isolation and of the highest level that it uses. A worker serves the lanes up to its
own level; an older worker does not know later lanes, so it cannot claim such an execution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from orchestrator.models import ISOLATIONS, Specification
from orchestrator.models.fleet import FIRST_LEVEL


class Feature(NamedTuple):
    """The level of the first workers with a feature, and whether a specification uses the feature."""

    level: int
    is_used: Callable[[Specification], bool]


FEATURES: dict[str, Feature] = {}  # by the model and the field, such as `Specification.mode`
LEVEL = max((feature.level for feature in FEATURES.values()), default=FIRST_LEVEL)  # of this version's workers


def used(specification: Specification) -> dict[str, int]:
    """The features that a specification uses, with their levels."""
    return {name: feature.level for name, feature in FEATURES.items() if feature.is_used(specification)}


def lane(isolation: str, level: int) -> str:
    """The name of a lane; that of the first level is the isolation's."""
    return isolation if level == FIRST_LEVEL else f"{isolation}-{level}"


def lane_of(specification: Specification) -> str:
    """The lane in which an execution waits."""
    return lane(specification.isolation, max(used(specification).values(), default=FIRST_LEVEL))


def lanes(isolations: Iterable[str], level: int = LEVEL) -> list[str]:
    """The lanes that a worker of a level serves, which offers these isolations."""
    return [lane(isolation, one) for isolation in isolations for one in range(FIRST_LEVEL, level + 1)]


LANES = tuple(lanes(ISOLATIONS))
