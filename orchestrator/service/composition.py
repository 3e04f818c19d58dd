"""All use cases of an installation, put together over one store: what each front door is built from."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.environments import load_environments
from orchestrator.identity import ApiKeys
from orchestrator.identity.rate_limits import RateLimiter
from orchestrator.janitor.janitor import Janitor
from orchestrator.queries.results import Results
from orchestrator.queries.wakeups import Wakeups
from orchestrator.service import Service
from orchestrator.service.operation import Operation
from orchestrator.service.security_reports import SecurityReports
from orchestrator.settings import Settings
from orchestrator.store import open_store


class UseCases(NamedTuple):
    """The use cases of one process, and the janitor that goes with them."""

    service: Service
    results: Results
    operation: Operation
    reports: SecurityReports
    api_keys: ApiKeys
    rate_limiter: RateLimiter
    wakeups: Wakeups
    janitor: Janitor


def open_use_cases(settings: Settings) -> UseCases:
    """Put them together. Nothing is contacted yet."""
    store = open_store(settings)
    environments = load_environments(settings.environments_dirs)
    results = Results(store, environments)
    return UseCases(
        service=Service(store, environments, settings, results),
        results=results,
        operation=Operation(store),
        reports=SecurityReports(store.security),
        api_keys=ApiKeys(store, settings.admin_key()),
        rate_limiter=RateLimiter(store, settings.rate_limit),
        wakeups=Wakeups(settings.effective_redis_url),
        janitor=Janitor(store, settings),
    )
