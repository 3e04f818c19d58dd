"""``mayfly run`` and ``mayfly submit``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from mayfly import TERMINAL, Client, Conflict, Execution, MayflyError, StreamEvent, UnsafeArtifact, WaitTimeout
from orchestrator.cli.commands.executions.feeding import Feeding
from orchestrator.cli.commands.executions.program import Program, takes_program
from orchestrator.cli.connection import Configuration, connect
from orchestrator.cli.console import (
    PIPE_CLOSED,
    Json,
    close_stdout,
    complain,
    human_bytes,
    note,
    print_json,
)
from orchestrator.cli.verdict import exit_code, explanation, left_out, refusal

if TYPE_CHECKING:
    from rich.status import Status

CANCEL_SECONDS = 10.0
SHOWN_REJECTED = 10

Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Directory for the files the program leaves in /work and /output."),
]


@takes_program
def run(program: Program, out: Out = None, json: Json = False) -> None:
    """Run a program in a sandbox of its own; print its output, and exit with its exit code.

    Examples:
    mayfly run prog.py --file data.csv --out results/

    mayfly run -c 'print(6 * 7)' --timeout 2 --memory 256M

    echo hello | mayfly run -c 'print(input())'

    mayfly run --cell -c '{"answer": 6 * 7}'

    mayfly run prog.py -- --its --own arguments

    Exit codes: the program's own; 128+N killed by signal N; 124 out of time; 125 a fault of Mayfly; 126 refused by
    policy; 2 a usage mistake; 1 some of its files were not saved.
    """
    code, options = program.arguments(Configuration.from_environment(), feed=True)
    with connect() as client:
        with Interruptible(client) as interruptible:
            execution = client.submit(code, **options)
            interruptible.id = execution.id
            with Feeding(client, execution.id, program.live):
                if not json:
                    stream(client, execution.id)
                execution = client.wait(execution.id)
        if json:
            print_json(execution.document)
        else:
            print_results(execution)
            if explained := explanation(execution):
                complain(f"{explained} [{execution.id}]")
            complain_of_rejected(execution)
        saved = save_artifacts(client, execution, out) if out is not None else True
        if out is None and execution.artifacts:
            names = ", ".join(artifact.path for artifact in execution.artifacts[:5])
            note(f"The program left {len(execution.artifacts)} file(s): {names}. Save them with --out DIR.")
    raise typer.Exit(exit_code(execution) or (0 if saved else 1))


@takes_program
def submit(program: Program, json: Json = False) -> None:
    """Queue a program and print its id at once; `mayfly logs -f ID` follows it."""
    code, options = program.arguments(Configuration.from_environment())
    with connect() as client:
        execution = client.submit(code, **options)
    if json:
        print_json(execution.document)
    else:
        typer.echo(execution.id)


class Interruptible:
    """A context in which an interrupt, or a disconnected reader of the output, cancels the execution before the command
    ends.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.id: str | None = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGTERM, _terminated)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGTERM, self._before)
        if isinstance(error, BrokenPipeError):
            close_stdout()
            self._cancel()
            raise typer.Exit(PIPE_CLOSED) from error
        if isinstance(error, KeyboardInterrupt):
            self._cancel()
            raise typer.Exit(128 + (error.args[0] if error.args else signal.SIGINT)) from error

    def _cancel(self) -> None:
        if self.id is None:
            return
        try:
            self._client.cancel(self.id)
            ended = self._client.wait(self.id, CANCEL_SECONDS)
            complain(f"{explanation(ended) or ended.state} [{self.id}]")
        except Conflict:
            return  # the execution has ended meanwhile
        except WaitTimeout as late:
            complain(f"the command was interrupted. {late}")
        except MayflyError as refused:
            complain(f"the execution could not be cancelled: {refused.detail}")


def stream(client: Client, id: str) -> None:
    """Print an execution's output live, byte for byte, until the execution has ended."""
    with Progress() as progress:
        for event in client.follow(id):
            progress.see(event)
            if event.type in ("stdout", "stderr"):
                target = (sys.stdout if event.type == "stdout" else sys.stderr).buffer
                target.write(event.output)
                target.flush()


class Progress:
    """The execution's progress, shown at a terminal until the first output."""

    def __init__(self) -> None:
        self._status = _status("submitted") if sys.stderr.isatty() else None
        self._attempt = 1

    def __enter__(self) -> Self:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def see(self, event: StreamEvent) -> None:
        """Show a change of state, clear the line for output, report a retry, after which output starts again."""
        if event.type == "state" and event.data["state"] not in TERMINAL:
            attempt = event.data.get("attempt", 0)
            if event.data["state"] == "starting" and attempt > self._attempt:
                self._attempt = attempt
                complain("the platform failed during the attempt; the program runs again from the start")
            if self._status:
                self._status.update(event.data["state"])
        elif self._status and event.type in ("stdout", "stderr", "done"):
            self._status.stop()


def _status(text: str) -> Status:
    from rich.console import Console  # imported here: only a terminal has use for them
    from rich.status import Status

    return Status(text, console=Console(stderr=True))


def print_results(execution: Execution) -> None:
    """Print the text of each result after the output, and a line for each image that --out saves."""
    begins_line = not execution.stdout or execution.stdout.endswith("\n")
    for number, result in enumerate(execution.results, 1):
        if result.source != "display" or result.png is None:
            sys.stdout.write(("" if begins_line else "\n") + result.text + "\n")
            begins_line = True
        if result.png is not None:
            note(f"Result {number} is an image of {human_bytes(len(result.png))}. Save it with --out DIR.")
        for omitted in result.omitted:
            complain(f"result {number}, {omitted.media_type}: {omitted.reason}")
    sys.stdout.flush()


def save_images(execution: Execution, directory: Path) -> bool:
    """Save the images among the results as result-1.png and so on; ``False`` if one could not be saved."""
    from mayfly.files import Destination  # imported here: few programs leave images

    taken, complete = {artifact.path for artifact in execution.artifacts}, True
    for number, result in enumerate(execution.results, 1):
        if (image := result.png) is None:
            continue
        name = f"result-{number}.png"
        while name in taken:
            name = f"image-{name}"
        try:
            with Destination(directory, name) as destination:
                destination.write(image)
                note(f"saved {destination.commit()} ({human_bytes(len(image))})")
        except (OSError, UnsafeArtifact) as error:
            complain(f"{str(directory / name)!r} was not saved: {error}")
            complete = False
    return complete


def save_artifacts(client: Client, execution: Execution, directory: Path) -> bool:
    """Save every artifact and image under a directory; ``False`` if a file was rejected, unsafe, or could not be
    saved.
    """
    complete = save_images(execution, directory) and not execution.artifacts_rejected
    for artifact in execution.artifacts:
        try:
            saved = client.save_artifact(execution.id, artifact, directory)
            note(f"saved {saved} ({human_bytes(artifact.size)})")
        except UnsafeArtifact as error:
            complain(error.detail)
            complete = False
        except MayflyError as error:
            complain(f"{artifact.path!r} was not saved: {refusal(error)}")
            complete = False
        except OSError as error:
            complain(f"{str(directory / artifact.path)!r} was not saved: {error.strerror}")
            complete = False
    return complete


def complain_of_rejected(execution: Execution) -> None:
    """Print a line for each of the first rejected files."""
    lines = left_out(execution)
    for line in lines[:SHOWN_REJECTED]:
        complain(f"left out: {line}")
    if len(lines) > SHOWN_REJECTED:
        complain(f"left out: {len(lines) - SHOWN_REJECTED} more; `mayfly show {execution.id}` lists them")


def _terminated(number: int, frame: Any) -> None:
    raise KeyboardInterrupt(number)
