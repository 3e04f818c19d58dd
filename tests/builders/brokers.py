"""Real brokers, and tool servers for them, on a real Redis."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2

from orchestrator import queue
from orchestrator.models.tool_servers import ToolServer
from orchestrator.models.tools import Catalogue, ToolOutcome
from orchestrator.settings import Settings, create_secret_file
from orchestrator.store import Store, open_store
from orchestrator.store.executions.records import QueueBounds
from orchestrator.store.executions.sealing import seal
from orchestrator.store.tools.replies import Replies
from tests.builders.records import claimed, now, specification
from tests.builders.tool_calls import tool_call
from tests.harness import ROOT, Process, RedisServer, eventually, free_port

MODULE = "tests.builders.tools.tool_server"


class Brokers:
    """Brokers of one installation, a process that calls, and the tool servers of tenant ``t``."""

    def __init__(self, directory: Path, redis: RedisServer, **settings: Any) -> None:
        self.directory, self.redis = directory, redis
        shared = Path(tempfile.mkdtemp(prefix="mayfly-ledger-"))  # pytest's directories are closed to other users
        shared.chmod(0o755)
        self.ledger = shared / "ledger"
        self.ledger.touch()
        self.ledger.chmod(0o666)
        state = directory / "state"
        create_secret_file(state / "secret")
        users = directory / "users"
        names = {
            "state_dir": state, "redis_url": redis.url, "tool_commands": True, "tool_users_dir": users, **settings,
        }  # fmt: skip
        self.settings = Settings(**names)
        self.env = {
            f"MAYFLY_{name.upper()}": json.dumps(value) if isinstance(value, list) else str(value)
            for name, value in names.items()
        }
        self.key = self.settings.secret()
        self.store: Store = open_store(self.settings)
        self.replies = Replies(self.store.tools.calls, self.key)
        self.replies.start()
        self.brokers: list[Process] = []
        self.ports: list[int] = []
        self.servers: list[Process] = []

    def start(self) -> Process:
        """Start a broker; returns when it is ready."""
        port = free_port()
        command = [sys.executable, "-m", "orchestrator.broker"]
        log = self.directory / f"broker-{len(self.brokers)}.log"
        broker = Process(command, {**self.env, "MAYFLY_TOOL_METRICS_PORT": str(port)}, log)
        self.brokers.append(broker)
        self.ports.append(port)
        eventually(lambda: self.status(port, "/readyz") == 200, "the broker is ready", 180)
        return broker

    def status(self, port: int, path: str) -> int:
        try:
            return httpx2.get(f"http://127.0.0.1:{port}{path}", timeout=60).status_code
        except httpx2.TransportError:
            return 0

    def metrics(self, index: int = 0) -> dict[str, float]:
        text = httpx2.get(f"http://127.0.0.1:{self.ports[index]}/metrics", timeout=60).text
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def over_pipe(self, name: str = "test", tenant: str = "t", **fields: Any) -> None:
        """Declare a tool server on a pipe, as a file of the operator does."""
        env = {"PYTHONPATH": str(ROOT), "LEDGER": str(self.ledger), "PYTHONDONTWRITEBYTECODE": "1"}
        command = (sys.executable, "-m", MODULE, "stdio")
        self.declare(
            ToolServer(name=name, command=command, env=env, origin="file", connect_seconds=60, **fields), tenant
        )

    def over_http(self, name: str = "test", port: int | None = None, **fields: Any) -> int:
        """Declare a tool server over HTTP, and start it unless its port is given."""
        if port is None:
            port = free_port()
            self.serve(port)
        self.declare(ToolServer(name=name, url=f"http://127.0.0.1:{port}/mcp", **fields))
        return port

    def serve(self, port: int) -> Process:
        """Start a tool server over HTTP."""
        env = {"LEDGER": str(self.ledger)}
        command = [sys.executable, "-m", MODULE, "http", str(port), "json"]
        self.servers.append(Process(command, env, self.directory / f"server-{port}.log"))
        eventually(lambda: self.status(port, "/nothing") != 0, "the tool server answers", 60)
        return self.servers[-1]

    def declare(self, server: ToolServer, tenant: str = "t") -> None:
        self.store.tools.servers.put(tenant, server, self.key)

    def catalogue(self, name: str = "test") -> Catalogue | None:
        return next((one for one in self.store.tools.catalogues.of("t") if one.server == name), None)

    def ready(self, name: str = "test", state: str = "ready") -> Catalogue:
        """Wait until a server is in that state."""

        def found() -> Catalogue | None:
            catalogue = self.catalogue(name)
            return catalogue if catalogue is not None and catalogue.state == state else None

        return eventually(found, f"tool server {name} is {state}", 180)

    def submit(
        self,
        tool: str,
        server: str = "test",
        within: float = 30.0,
        by: tuple[str, int] | None = None,
        **arguments: Any,
    ) -> Future[ToolOutcome]:
        """Call a tool, directly or by an execution's attempt; its outcome comes later."""
        outcome: Future[ToolOutcome] = Future()
        fields: dict[str, Any] = {"server": server, "tool": tool, "arguments": json.dumps(arguments)}
        if by is not None:
            fields |= {"execution": by[0], "attempt": by[1]}
        call = tool_call(self.replies.reply_to, within, **fields)
        self.replies.submit(call, outcome.set_result)
        return outcome

    def call(
        self,
        tool: str,
        server: str = "test",
        within: float = 30.0,
        by: tuple[str, int] | None = None,
        **arguments: Any,
    ) -> ToolOutcome:
        """Call a tool, and wait for its outcome."""
        return self.submit(tool, server, within, by, **arguments).result(within + 30)

    def called(self, tool: str, mark: str) -> int:
        """How often a tool was called with that mark."""
        return self.ledger.read_text().splitlines().count(f"{tool} {mark}")

    def stop(self) -> None:
        """End everything, also after a failure."""
        with ExitStack() as ends:
            ends.callback(shutil.rmtree, self.ledger.parent)
            ends.callback(self.store.redis.close)
            ends.callback(self.replies.stop)
            for process in reversed((*self.brokers, *self.servers)):
                ends.callback(process.stop)

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-4000:] for path in sorted(self.directory.glob("*.log")))


def code(outcome: ToolOutcome) -> str:
    """``ok``, or the code of the failure."""
    return outcome.failure.code if outcome.failure else "ok"


def running(brokers: Brokers, *tools: str, principal: str | None = None) -> tuple[str, int]:
    """An execution of tenant ``t`` that runs, and may call these tools; and its attempt."""
    made = specification().model_copy(update={"tools": tools})
    sealed, signature = seal(made, brokers.key)
    bounds = QueueBounds(100, 100)
    submitter = {"principal": principal} if principal else None
    brokers.store.records.submit(made, sealed, signature, queue.envelope(made), bounds, None, submitter=submitter)
    claim = claimed(brokers.store, made.id)
    brokers.store.records.start(claim, now())
    return claim.id, claim.attempt
