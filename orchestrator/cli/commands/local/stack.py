"""A single-host installation: Redis, API and worker as background processes under one state directory.

``up`` starts only processes that do not run, as children of a supervisor, which restarts those that end; ``down`` stops
the supervisor and then the others in the opposite order, so that no accepted execution is abandoned. Each process has
a pid file, and all run with the same settings, passed as environment variables. A lock serialises ``up``, ``down`` and
restarts of an installation.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mayfly import Client, MayflyError
from orchestrator.backup.restoration.marker import unfinished
from orchestrator.cli.commands.local.embedded.redis import start_redis
from orchestrator.cli.commands.local.embedded.tool_servers import declares_tool_servers
from orchestrator.cli.commands.local.engine import Engine, EngineUnreachable
from orchestrator.cli.commands.local.processes import Process, until
from orchestrator.cli.connection import URL_FILE
from orchestrator.cli.console import CommandFailed
from orchestrator.cli.verdict import MAYFLYS_FAULT, MISTAKE
from orchestrator.errors import StoreUnavailable
from orchestrator.host import oci
from orchestrator.host.supervision import FILE as REPORT_FILE
from orchestrator.host.token_keys import create
from orchestrator.settings import PACKAGE_ROOT, PREFIX, Settings, create_secret_file, inherited_environment

SUPERVISOR_MODULE = "orchestrator.cli.commands.local.embedded"
SUPERVISOR_STOP_SECONDS = 10.0
REDIS_STOP_SECONDS = 30.0
API_STOP_SECONDS = 15.0
WORKER_STOP_SECONDS = 20.0  # beyond the drain time of its executions
ENGINE_PROXY_STOP_SECONDS = 5.0
BROKER_STOP_SECONDS = 10.0  # beyond the drain time of its calls
READY_SECONDS, LOCK_SECONDS = 180.0, 120.0
MAX_SOCKET_PATH = 100
UIDS = range(1_000_000, 2_000_000_000)  # above the usual uids of users and their containers, below 2^31
PATHS = (
    "blob_dir", "images_dir", "sandbox_dir", "oci_dir", "secret_file", "admin_key_file", "token_keys_file",
    "tool_servers_dir", "tool_secrets_dir", "engine_proxy_socket",
)  # fmt: skip


class Stack:
    """The processes of one installation. ``settings`` have their final state directory."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.directory = settings.state_dir
        self.redis = Process("redis", self.directory)
        self.api = Process("api", self.directory)
        self.worker = Process("worker", self.directory)
        self.broker = Process("broker", self.directory)
        self.engine_proxy = Process("engine-proxy", self.directory)
        self.supervisor = Process("supervisor", self.directory)
        self.url_file = self.directory / URL_FILE

    @property
    def processes(self) -> tuple[Process, ...]:
        """The supervised processes in the order of their start: Redis only if embedded, the broker only if it has been
        started, which is where tool servers are declared.
        """
        redis = (self.redis,) if self.embedded_redis else ()
        proxy = (self.engine_proxy,) if self.settings.uses_engine_proxy else ()
        return (*redis, self.api, *proxy, self.worker, *((self.broker,) if self.broker.pid_file.exists() else ()))

    @property
    def embedded_redis(self) -> bool:
        """Whether Redis is a process of this installation."""
        return not self.settings.redis_url

    @property
    def installation(self) -> str:
        """The label of this installation's containers; derived from its directory, it differs between installations."""
        if "installation" in self.settings.model_fields_set:
            return self.settings.installation
        return "up-" + hashlib.sha256(str(self.directory).encode()).hexdigest()[:12]

    @property
    def uid_first(self) -> int:
        """The first of its uids: a block derived from its directory; two installations on a host rarely share a uid."""
        if "uid_first" in self.settings.model_fields_set:
            return self.settings.uid_first
        count = self.settings.uid_count
        number = int.from_bytes(hashlib.sha256(str(self.directory).encode()).digest()[:8])
        return UIDS.start + number % max(1, len(UIDS) // count) * count

    def as_started(self) -> Settings:
        """The settings of its processes that differ from the configured settings."""
        changes = {"installation": self.installation, "uid_first": self.uid_first}
        return self.settings.model_copy(update=changes)

    @property
    def url(self) -> str:
        """The API's URL."""
        return self.url_file.read_text(encoding="utf-8").strip()

    def prepare(self) -> None:
        """Make the private state directory and its secrets. Raises :class:`CommandFailed` after half a restore."""
        if id := unfinished(self.directory):
            raise CommandFailed(
                f"The restore of backup {id} has not ended; run it again: mayfly backup restore {id} --identity FILE"
            )
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)  # the image builder may have made the directory
        if self.embedded_redis and len(str(self.settings.redis_socket)) > MAX_SOCKET_PATH:
            raise CommandFailed(
                f"{self.directory} is too long a path for a socket; set MAYFLY_STATE_DIR to a shorter one.",
                MISTAKE,
            )
        create_secret_file(self.settings.secret_path)
        create_secret_file(self.settings.admin_key_path, "mfk_")
        create(self.settings.token_keys_path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock this installation against concurrent starts and stops."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.directory / "lock").open("w", encoding="ascii") as file:
            if not until(LOCK_SECONDS, lambda: _lock(file.fileno())):
                raise CommandFailed(f"Another mayfly command is still working on {self.directory}.")
            yield

    @contextmanager
    def redis_alone(self) -> Iterator[None]:
        """Run the embedded Redis, if there is one, without the other processes. Raises :class:`CommandFailed`."""
        others = (self.supervisor, self.api, self.worker, self.broker)
        if running := [process.name for process in others if process.pid() is not None]:
            raise CommandFailed(f"This installation is running ({', '.join(running)}); type: mayfly down")
        started = self.embedded_redis and self.redis.pid() is None
        if started:
            start_redis(self.redis, self.settings)
        try:
            yield
        finally:
            if started:
                self.redis.stop(REDIS_STOP_SECONDS)
                self.settings.redis_socket.unlink(missing_ok=True)

    def start(self) -> list[str]:
        """Start processes that do not run, by a new supervisor; a line for each. Raises :class:`CommandFailed`."""
        if self._is_complete():
            return []
        self.supervisor.stop(SUPERVISOR_STOP_SECONDS)
        reader, writer = os.pipe()
        with os.fdopen(reader, encoding="utf-8") as announced:
            # Without the embedded Redis's URL, by which the supervisor would take it for one of the operator's.
            environment = self.environment() | {f"{PREFIX}REDIS_URL": self.settings.redis_url}
            pid = self.supervisor.start(
                [sys.executable, "-m", SUPERVISOR_MODULE, str(writer)], environment, PACKAGE_ROOT, [writer]
            )
            os.close(writer)
            text = announced.read()
        if not text:
            raise CommandFailed(
                f"The supervisor ended right after its start; see {self.supervisor.log_file}\n"
                f"{self.supervisor.last_words()}",
                MAYFLYS_FAULT,
            )
        found = json.loads(text)
        if "failure" in found:
            raise CommandFailed(found["failure"], found["exit_code"])
        return [*found["started"], f"Supervisor started, pid {pid}: restarts processes that end"]

    def _is_complete(self) -> bool:
        running = all(process.pid() is not None for process in (self.supervisor, *self.processes))
        if not running or not self.url_file.exists():
            return False
        try:
            return self.broker.pid() is not None or not declares_tool_servers(self.settings)
        except StoreUnavailable:
            return False

    def await_ready(self, progress: Callable[[str], None]) -> list[str]:
        """Wait until every environment is offered; their names. Raises :class:`CommandFailed`."""
        missing = ""
        names: list[str] = []

        def ready() -> bool:
            nonlocal missing, names
            for process in self.processes:
                if process.pid() is None:
                    see = f"see {process.log_file}\n{process.last_words()}"
                    raise CommandFailed(f"The {process.name} ended right after its start; {see}", MAYFLYS_FAULT)
            try:
                found = client.ready()
                if found.get("status") == "ok":
                    environments = client.environments()
                    names = [environment.name for environment in environments]
                    missing = ", ".join(e.name for e in environments if e.image is None)
                else:
                    missing = ", ".join(
                        f"{name}: {message}" for name, message in found.get("checks", {}).items() if message != "ok"
                    )
            except MayflyError as error:
                missing = error.detail if error.status else "the API to answer"
            progress(f"waiting for {missing}")
            return bool(names) and not missing

        with Client(self.url, self.settings.admin_key() or "", patience_seconds=0) as client:
            if not until(READY_SECONDS, ready):
                raise CommandFailed(
                    f"Not ready after {READY_SECONDS:g} s, still waiting for {missing}; see {self.worker.log_file}",
                    MAYFLYS_FAULT,
                )
        return names

    def stop(self) -> list[str]:
        """Stop every process, remove every container and socket; a line for each. Idempotent."""
        done = []
        for process, title, grace in (
            (self.supervisor, "Supervisor", SUPERVISOR_STOP_SECONDS),  # first, since it would restart the others
            (self.worker, "Worker", self.settings.drain_seconds + WORKER_STOP_SECONDS),
            (self.engine_proxy, "Proxy", ENGINE_PROXY_STOP_SECONDS),
            (self.broker, "Broker", self.settings.drain_seconds + BROKER_STOP_SECONDS),
            (self.api, "API", API_STOP_SECONDS),
            (self.redis, "Redis", REDIS_STOP_SECONDS),
        ):
            if how := process.stop(grace):
                done.append(f"{title:<9} {how}")
        if removed := self._remove_containers():
            done.append(f"Engine    removed {removed} container(s) that were left")
        if self.worker.pid() is None and self.settings.sandboxes_path.is_dir():
            for left in self.settings.sandboxes_path.iterdir():
                shutil.rmtree(left, ignore_errors=True)
            if self.settings.sandboxes_path.is_symlink():  # the worker's link into memory
                shutil.rmtree(self.settings.sandboxes_path.resolve().parent, ignore_errors=True)
                self.settings.sandboxes_path.unlink()
        sockets = (self.settings.redis_socket, self.settings.engine_proxy_path)
        for file in (*sockets, self.url_file, self.directory / REPORT_FILE):
            file.unlink(missing_ok=True)
        return done

    def environment(self) -> dict[str, str]:
        """The environment variables of the processes."""
        changes = {
            "state_dir": str(self.directory),
            "redis_url": self.settings.effective_redis_url,
            "driver": self.settings.driver,
            "installation": self.installation,
            "uid_first": str(self.uid_first),
            "api_port": str(self.settings.api_port),
        }
        if "rate_limit" not in self.settings.model_fields_set:
            changes["rate_limit"] = "off"
        for name in PATHS:  # absolute, since the processes run in another directory
            if (path := getattr(self.settings, name)) is not None:
                changes[name] = str(path.absolute())
        changes["environments_dirs"] = json.dumps([str(path.absolute()) for path in self.settings.environments_dirs])
        return inherited_environment(**{PREFIX + name.upper(): value for name, value in changes.items()})

    def _remove_containers(self) -> int:
        """Remove containers that a killed worker left in the engine."""
        count = 0
        for bundle in self.settings.oci_path.glob("bundles/*/*"):
            runtime = oci.left(self.settings, bundle)
            if runtime is None or oci.delete(runtime, bundle.name):
                shutil.rmtree(bundle)
                count += 1
        try:
            with Engine(self.settings.docker_url) as engine:
                left = engine.containers(self.installation)
                for id in left:
                    engine.remove(id)
                return count + len(left)
        except EngineUnreachable:
            return count


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
