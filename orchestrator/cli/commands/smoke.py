"""``mayfly smoke``: whether an installation does what its clients need, by one use of each part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from mayfly import Client, MayflyError
from orchestrator.cli.connection import Configuration, credential_of
from orchestrator.cli.console import CommandFailed, Json, print_json
from orchestrator.cli.verdict import refusal

PRINTED, WRITTEN = "smoke\n", b"artifact"
OUTPUT = f"print({PRINTED.strip()!r}); open('/output/smoke.bin', 'wb').write({WRITTEN!r})"
FAILURE = "import sys; sys.exit(3)"
LONG = "import time; print('begun', flush=True); time.sleep(200)"
LABELS = {"mayfly": "smoke"}


class Differs(Exception):
    """An answer differs from the expectation."""


class Smoke:
    """The steps, each over the results of the earlier ones. Executions are deleted after the last step."""

    def __init__(self, client: Client, environment: str, timeout_seconds: float) -> None:
        self._client, self._seconds = client, timeout_seconds
        self._options: dict[str, Any] = {"environment": environment, "labels": LABELS, "priority": "high"}
        self._ids: list[str] = []

    @property
    def steps(self) -> dict[str, Callable[[], None]]:
        """Every step by its name, in order."""
        return {
            "readiness": self._readiness,
            "execution": self._execution,
            "output": self._output,
            "artifact": self._artifact,
            "reason": self._reason,
            "stream": self._stream,
            "cancel": self._cancel,
        }

    def close(self) -> None:
        """Delete the executions."""
        for id in self._ids:
            self._client.delete(id)

    def _readiness(self) -> None:
        _expect(self._client.ready().get("status"), "ok")

    def _execution(self) -> None:
        self._run = self._ended(OUTPUT)
        _expect((self._run.state, self._run.exit_code), ("succeeded", 0))

    def _output(self) -> None:
        _expect(self._client.output(self._run.id), PRINTED.encode())

    def _artifact(self) -> None:
        _expect(b"".join(self._client.artifact(self._run.id, "smoke.bin")), WRITTEN)

    def _reason(self) -> None:
        failed = self._ended(FAILURE)
        _expect((failed.state, failed.reason, failed.fault), ("failed", "nonzero_exit", "user"))

    def _stream(self) -> None:
        self._long = self._client.submit(LONG, limits={"wall_seconds": self._seconds}, **self._options).id
        self._ids.append(self._long)
        for event in self._client.follow(self._long):
            if event.type == "stdout":
                return
        raise Differs("the stream ended without output")

    def _cancel(self) -> None:
        self._client.cancel(self._long)
        ended = self._client.wait(self._long, self._seconds)
        _expect((ended.state, ended.reason), ("cancelled", "cancelled_by_user"))

    def _ended(self, code: str) -> Any:
        """An execution of the code once it has ended."""
        id = self._client.submit(code, limits={"wall_seconds": self._seconds}, **self._options).id
        self._ids.append(id)
        return self._client.wait(id, self._seconds)


def smoke(
    url: Annotated[str | None, typer.Argument(help="URL of the API, instead of MAYFLY_URL.")] = None,
    env: Annotated[str, typer.Option("--env", help="Environment with Python.")] = "python",
    timeout: Annotated[float, typer.Option("--timeout", min=1, max=60, help="Seconds for each execution.")] = 60.0,
    json: Json = False,
) -> None:
    """Use each part of an installation once. Exits with 1, and names the step, if one fails."""
    place, token = credential_of(Configuration.from_environment())
    done: list[str] = []
    with Client(url or place, token, patience_seconds=0) as client:
        test = Smoke(client, env, timeout)
        for name, step in {**test.steps, "deletion": test.close}.items():
            try:
                step()
            except (Differs, MayflyError) as error:
                why = refusal(error) if isinstance(error, MayflyError) else str(error)
                if json:
                    print_json({"passed": done, "failed": name, "reason": why})
                raise CommandFailed(f"Step {name} failed: {why}") from error
            done.append(name)
            if not json:
                typer.echo(f"ok  {name}")
    if json:
        print_json({"passed": done, "failed": None, "reason": None})


def _expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise Differs(f"{found!r}, not {wanted!r}")
