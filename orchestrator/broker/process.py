"""The composition of one broker process, from its start to its end.

An event loop in the main thread has the upstreams and their calls (``serving.py``). Threads: ``mailbox.py`` takes and
settles calls, ``lease.py`` renews the broker's lease, learns which upstreams it serves, and reads declarations. SIGTERM
or SIGINT: take no more calls, finish running calls within ``drain_seconds``, give the upstreams back, exit. A second
signal: exit at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
from functools import partial

import structlog

from orchestrator.broker.auditing import CallAudit
from orchestrator.broker.checks import Checks, Owner
from orchestrator.broker.declared.secrets import Secret, secret_of
from orchestrator.broker.health import Health
from orchestrator.broker.http import HttpBounds, HttpLink, HttpTools
from orchestrator.broker.lease import Lease
from orchestrator.broker.links.opening import Filter, Opener
from orchestrator.broker.sandboxes import SandboxLauncher
from orchestrator.broker.serving import Serving
from orchestrator.errors import SpecificationRejected
from orchestrator.host.confinement import check_confinement
from orchestrator.mcp.budget.personal_data import PersonalDataFilter
from orchestrator.models.tool_servers import ToolServer
from orchestrator.settings import Settings
from orchestrator.store import Store, keys, open_store
from orchestrator.store.executions.sealing import open_sealed
from orchestrator.store.malformed import MALFORMED
from orchestrator.store.platform.presence import Presence, process_of

BEATS_PER_LEASE = 5
log = structlog.get_logger()


class Broker:
    """One broker process. Raises ``FileNotFoundError`` or ``ValueError`` without the installation's key."""

    def __init__(self, settings: Settings) -> None:
        self.id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._settings, self._key = settings, settings.secret()
        self._store = open_store(settings)
        self._lacking = check_confinement("broker", settings.expect_confinement)
        self.presence = Presence(self._store.schema, process_of(self.id, "broker"))

    def main(self) -> int:
        """Work until a signal stops the broker; the exit code."""
        self.presence.wait()
        asyncio.run(self._main())
        self.presence.stop()
        return 0

    async def _main(self) -> None:
        settings, store = self._settings, self._store
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, stopping)
        http = HttpTools(HttpBounds.of(settings))
        built_in = partial(HttpLink, http, settings.tool_response_bytes)
        opener = Opener(settings.tool_response_bytes, self._secret, SandboxLauncher(settings), self._filter, built_in)
        checks = Checks(self._key, self._owner, store.tools.catalogues.of, settings.tool_request_bytes)
        audit = CallAudit(store, self.id, self._key, settings.audit_tool_calls)
        serving = Serving(store, self.id, opener.open, checks, audit, settings.tool_refresh_seconds)
        lease = Lease(store, self._key, self.id, serving, http.use_cache, settings.tool_servers_path)
        health = Health(settings.metrics_host, settings.tool_metrics_port, lease, serving, self._lacking)
        health.start()
        self.presence.start()
        lease.start()
        serving.mailbox.start()
        log.info("broker.started", broker=self.id, metrics_port=health.server_port)
        await stopping.wait()
        log.info("broker.stopping", broker=self.id)
        await serving.drain(settings.drain_seconds)
        await asyncio.to_thread(serving.mailbox.stop)
        await asyncio.to_thread(lease.stop)
        health.stop()
        log.info("broker.stopped", broker=self.id)

    def _stop(self, stopping: asyncio.Event) -> None:
        if stopping.is_set():
            os._exit(1)
        stopping.set()

    def _secret(self, tenant: str, server: ToolServer) -> Secret:
        return secret_of(self._settings.tool_secrets_path, tenant, server)

    def _filter(self, tenant: str, server: ToolServer) -> Filter | None:
        wanted = server.filtered or not {"*", tenant}.isdisjoint(self._settings.mcp_filtered)
        return PersonalDataFilter() if wanted else None

    def _owner(self, execution: str, tenant: str) -> Owner:
        return owner_of(self._store, self._key, execution, tenant)


def owner_of(store: Store, key: bytes, execution: str, tenant: str) -> Owner:
    """The tools of an execution, from its verified specification, and its submitting principal, from its record.

    Raises :class:`PlatformError`.
    """
    body, signature, view = store.redis.hmget(keys.execution(execution), "spec", "signature", "view")
    if body is None or signature is None:
        raise SpecificationRejected("the execution has ended")
    specification = open_sealed(execution, body, signature.decode(errors="replace"), key)
    if specification.tenant != tenant:
        raise SpecificationRejected("it belongs to another tenant")
    return Owner(tuple(specification.tools), _principal(view))


def _principal(view: bytes | None) -> str | None:
    try:
        found = json.loads(view or b"{}")["principal"]
    except MALFORMED:
        return None
    return found if isinstance(found, str) else None
