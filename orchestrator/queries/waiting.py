"""Why a queued execution waits: a sentence for its owner, from what the queue and the workers show at this moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from orchestrator import queue
from orchestrator.models import Execution
from orchestrator.models.fleet import ENVIRONMENT, ISOLATION, WorkerStatus
from orchestrator.store import Store, keys
from orchestrator.store.allowance import feature_off


class Situation(NamedTuple):
    """The surroundings of one queued execution.

    ``ahead``: executions of its tenant that go before it; ``retry_seconds``: until its next attempt, after a fault of
    the platform.
    """

    workers: Sequence[WorkerStatus] = ()
    ahead: int | None = None
    held: bool = False
    retry_seconds: float | None = None
    switched_off: str | None = None


def wait_reason(store: Store, execution: Execution) -> str:
    """The reason. Raises :class:`StoreUnavailable`."""
    with store.redis.pipeline(transaction=False) as pipe:
        pipe.zscore(keys.key_held(execution.key_id or ""), execution.id)
        pipe.zscore(keys.RETRYING, execution.id)
        held, retried_at = pipe.execute()
    off = store.switches.off()
    features = (f"{ISOLATION}{execution.isolation}", f"{ENVIRONMENT}{execution.environment}")
    return explained(
        execution,
        Situation(
            store.fleet.alive(),
            queue.ahead(store, execution),
            held is not None,
            None if retried_at is None else max(0.0, float(retried_at) - store.now()),
            next((feature_off(off[name]).message for name in features if name in off), None),
        ),
    )


def explained(execution: Execution, found: Situation) -> str:
    """The first cause that would keep the execution from starting, if all others ended. Pure."""
    offering = [one for one in found.workers if execution.isolation in one.runtimes]
    equipped = [one for one in offering if execution.environment in {offer.name for offer in one.environments}]
    able = [one for one in equipped if not one.draining and not one.trouble and one.engine != "unavailable"]
    slots = sum(one.slots for one in able)
    if found.switched_off:
        return found.switched_off
    if found.held:
        return "Its API key has as many executions on workers as its quota `running` permits."
    if found.retry_seconds is not None:
        return f"A fault of the platform spoilt its last attempt; the next begins in {found.retry_seconds:.0f} s."
    if not found.workers:
        return "No worker is alive."
    if not offering:
        return f"No worker offers the isolation {execution.isolation!r}."
    if not equipped:
        return f"No worker has the image of {execution.environment!r}."
    if not able:
        return "Its workers take no executions now: they drain, or have a trouble that `/readyz` names."
    if all(one.busy >= one.slots for one in able):
        ahead = f", and {found.ahead} executions of its tenant go before it" if found.ahead else ""
        return f"All {slots} slots of its workers are busy{ahead}."
    return "A slot is free, and takes it next."
