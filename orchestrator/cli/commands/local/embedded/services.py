"""The processes of a stack, each with its start. They are children of the supervisor, which starts them all."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

from orchestrator.backup.errors import BackupError
from orchestrator.cli.commands.local.embedded.redis import start_redis
from orchestrator.cli.commands.local.embedded.supervisor import Service
from orchestrator.cli.commands.local.embedded.tool_servers import declares_tool_servers
from orchestrator.cli.commands.local.processes import Process, free_port
from orchestrator.cli.commands.local.stack import API_STOP_SECONDS, Stack
from orchestrator.cli.console import CommandFailed
from orchestrator.errors import StoreUnavailable
from orchestrator.migrations.applying import MigrationRefused
from orchestrator.migrations.upgrading import upgrade
from orchestrator.settings import PACKAGE_ROOT
from orchestrator.store.platform.schema import NUMBER

ANY_HOST = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to reach, not where to listen


class Services:
    """Starts the processes of one stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def start_missing(self) -> tuple[dict[str, Service], list[str]]:
        """Start processes that do not run, in the order of their needs; every service by name, and a line for each
        start. Raises :class:`CommandFailed` or :class:`StoreUnavailable`.
        """
        stack = self._stack
        services = {"redis": Service(stack.redis, self._start_redis)} if stack.embedded_redis else {}
        services["api"] = Service(stack.api, self._start_api)
        if stack.settings.uses_engine_proxy:
            services["engine-proxy"] = Service(stack.engine_proxy, self._start_engine_proxy)
        services["worker"] = Service(stack.worker, self._start_worker)
        if stack.api.pid() is not None and not stack.url_file.exists():
            stack.api.stop(API_STOP_SECONDS)
        started = [line for service in services.values() for line in _started(service)]
        if declares_tool_servers(stack.settings):
            services["broker"] = Service(stack.broker, self._start_broker)
            started += _started(services["broker"])
        return services, started

    def _start_redis(self) -> list[str]:
        pid = start_redis(self._stack.redis, self._stack.settings)
        return [f"Redis     started, pid {pid}, on {self._stack.settings.redis_socket}"]

    def _start_api(self) -> list[str]:
        stack, settings = self._stack, self._stack.settings
        migrated = self._migrate()
        port = settings.api_port or self._port_before()
        port = free_port(settings.api_host, port, "API", "MAYFLY_API_PORT")
        stack.settings = settings.model_copy(update={"api_port": port})
        pid = self._start_python(stack.api, "orchestrator.api")
        host = ANY_HOST.get(settings.api_host, settings.api_host)
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        stack.url_file.write_text(url + "\n", encoding="utf-8")
        return [*migrated, f"API       started, pid {pid}, on {url}"]

    def _start_engine_proxy(self) -> list[str]:
        settings = self._stack.settings
        if port := settings.engine_metrics_port:
            free_port(settings.metrics_host, port, "engine proxy's metrics", "MAYFLY_ENGINE_METRICS_PORT")
        pid = self._start_python(self._stack.engine_proxy, "worker.engine_proxy")
        return [f"Proxy     started, pid {pid}, on {settings.engine_proxy_path}"]

    def _start_worker(self) -> list[str]:
        settings = self._stack.settings
        if port := settings.metrics_port:
            free_port(settings.metrics_host, port, "worker's metrics", "MAYFLY_METRICS_PORT")
        pid = self._start_python(self._stack.worker, "worker")
        return [f"Worker    started, pid {pid}, with {settings.slots} slots"]

    def _start_broker(self) -> list[str]:
        settings = self._stack.settings
        if port := settings.tool_metrics_port:
            free_port(settings.metrics_host, port, "broker's metrics", "MAYFLY_TOOL_METRICS_PORT")
        return [f"Broker    started, pid {self._start_python(self._stack.broker, 'orchestrator.broker')}"]

    def _start_python(self, process: Process, module: str) -> int:
        return process.start([sys.executable, "-m", module], self._stack.environment(), PACKAGE_ROOT)

    def _port_before(self) -> int:
        """The port of the API that has ended, whose clients know it; 0 without such an API."""
        return (urlsplit(self._stack.url).port or 0) if self._stack.url_file.exists() else 0

    def _migrate(self) -> list[str]:
        """Bring the data to the schema of this version; a line if it had another. Raises :class:`CommandFailed`."""
        try:
            found = upgrade(self._stack.settings)
        except (MigrationRefused, BackupError, StoreUnavailable) as error:
            raise CommandFailed(f"The data cannot be migrated: {error}") from error
        return [f"Data      migrated from schema {found} to {NUMBER}"] if found != NUMBER else []


def _started(service: Service) -> list[str]:
    return service.start() if service.process.pid() is None else []
