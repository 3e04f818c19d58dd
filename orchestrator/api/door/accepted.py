"""Log lines of accepted credentials: one for each principal and address within five minutes, in each process.

A line for each request would cost more than the check of its credential. Refused credentials are security events.
"""

from __future__ import annotations

import time
from collections import OrderedDict

import structlog

from orchestrator.audit import ORIGIN, Origin
from orchestrator.identity import Principal

PAUSE_SECONDS = 300.0  # between two lines of a principal and address
MOST_KNOWN = 10_000  # principals and addresses
log = structlog.get_logger()


class AcceptedCredentials:
    """Logs the principals that one API process serves. Used only by the event loop's thread."""

    def __init__(self) -> None:
        self._logged: OrderedDict[tuple[str, str | None], float] = OrderedDict()

    def note(self, principal: Principal) -> None:
        """Log the principal of the current request, unless a line of the last minutes has it and its address."""
        origin, now = ORIGIN.get() or Origin(), time.monotonic()
        pair = (principal.id, origin.address)
        if now - self._logged.get(pair, float("-inf")) < PAUSE_SECONDS:
            return
        self._logged[pair] = now
        self._logged.move_to_end(pair)
        if len(self._logged) > MOST_KNOWN:
            self._logged.popitem(last=False)
        log.info(
            "credential.accepted",
            kind=principal.id.partition(":")[0],
            principal=principal.id,
            tenant=principal.tenant,
            address=origin.address,
            request_id=origin.request_id,
        )
