"""``mayfly up`` and ``mayfly down``: the whole of Mayfly on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mayfly import Client
from orchestrator.cli.commands.local.daemon import Daemon
from orchestrator.cli.commands.local.engine import EngineUnreachable
from orchestrator.cli.commands.local.sample import run_sample
from orchestrator.cli.commands.local.stack import Stack
from orchestrator.cli.connection import located, server_settings
from orchestrator.cli.console import CommandFailed, Commands
from orchestrator.cli.verdict import MISTAKE
from orchestrator.environments import load_environments
from orchestrator.host import oci
from orchestrator.host.posture.facts import existing
from orchestrator.settings import PACKAGE_ROOT, Settings

EXAMPLES = PACKAGE_ROOT / "deploy" / "examples"
SAMPLE_ENVIRONMENT = "python-data"
SAMPLE_PATIENCE_SECONDS = 5.0
IMAGES_BYTES = 2 * 2**30  # of the images that come with Mayfly, and of their building
engine = typer.Typer(
    cls=Commands, no_args_is_help=True, hidden=True, help="The container engine where no init system starts it."
)


def up(sample: Annotated[bool, typer.Option(help="Run a sample program when all processes are ready.")] = True) -> None:
    """Start Mayfly on this machine: engine, images, Redis, API, worker. Running processes are not changed."""
    stack = Stack(located(server_settings()))
    with stack.locked():
        if stack.api.pid() is None or stack.worker.pid() is None:
            check_room(stack.settings)
        stack.settings, started, message = _engine_or_runtime(stack.settings)
        typer.echo(f"Engine    {message}")
        if not stack.settings.secret_path.exists():
            stack.settings.sealed_path.touch()  # a new installation has no records
        stack.prepare()
        _build_images(stack)
        news = stack.start()
        for line in news:
            typer.echo(line)
        with _spinner() as progress:
            names = stack.await_ready(progress)
        typer.echo(f"Ready     {', '.join(names)}")
    if not news and not started:
        typer.echo(f"\nMayfly is running already, at {stack.url}; nothing was changed.")
        return
    if sample and SAMPLE_ENVIRONMENT in names:
        _run_sample(stack)
    command = _command()
    typer.echo(
        f"\nMayfly is up.\n"
        f"  URL   {stack.url}\n"
        f"  key   {_short(stack.settings.admin_key_path)}\n"
        f"  logs  {_short(stack.directory)}/*.log\n"
        f"Next:\n"
        f"  {command} run -c 'print(6 * 7)'\n"
        f"  {command} run prog.py --file data.csv --out results/\n"
        f"  {command} --help\n"
        f"  {command} down"
    )


def down() -> None:
    """Stop the processes that `up` started. Images, the queue, results and keys stay for the next `up`."""
    stack = Stack(located(server_settings()))
    if not stack.directory.is_dir():
        typer.echo(f"Nothing is running: there is no {_short(stack.directory)}.")
        return
    daemon = _daemon(stack.settings)
    with stack.locked():
        done = stack.stop()
        if daemon.started_by_us():
            others = _running(daemon)
            if others:
                done.append(f"Engine    left running: {others} container(s) of others are in it")
                typer.echo(f"To end it nevertheless: {_command()} engine stop", err=True)
            else:
                done.append(f"Engine    {daemon.stop()}")
        else:
            daemon.stop()
    typer.echo("\n".join(done) or "Nothing was running.")


@engine.command("start", context_settings={"ignore_unknown_options": True})
def engine_start(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- OPTION...]", help="Further dockerd options.")
    ] = None,
) -> None:
    """Make sure a container engine answers at MAYFLY_DOCKER_URL; start one in the background if not."""
    settings = located(server_settings())
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    started = _daemon(settings, arguments or []).ensure()
    typer.echo(f"Engine {'started' if started else 'answers already'} at {settings.docker_url}")


@engine.command("stop")
def engine_stop() -> None:
    """Stop the container engine if `up` or `engine start` started it."""
    how = _daemon(located(server_settings())).stop()
    typer.echo(f"Engine {how}" if how else "The engine was not started by this command; it is left as it is.")


def check_room(settings: Settings) -> None:
    """Raise :class:`CommandFailed` unless the disks have room for images that are not built, and for executions."""
    try:
        names = list(load_environments(settings.environments_dirs))
    except ValueError as error:
        raise CommandFailed(str(error)) from error
    built = all((settings.images_path / f"{name}.json").exists() for name in names)
    least = settings.disk_free_bytes
    wanted = {settings.images_path: least + (0 if built else IMAGES_BYTES), settings.blobs_path: least}
    for path, bound in wanted.items():
        if (free := shutil.disk_usage(existing(path)).free) < bound:
            raise CommandFailed(
                f"{path} has {free // 10**6} MB free, and Mayfly needs {bound // 10**6} MB to start "
                "(MAYFLY_DISK_FREE_BYTES, and room for images that are to be built); nothing was started."
            )


def _engine_or_runtime(settings: Settings) -> tuple[Settings, bool, str]:
    """The effective settings, whether an engine was started, and the message about it.

    If there is no engine and none can be started, the driver is ``oci``, unless driver ``docker`` is configured. Raises
    :class:`CommandFailed` if no driver works.
    """
    why = "as MAYFLY_DRIVER says"
    if settings.driver == "docker":
        try:
            daemon = _daemon(settings)
            started = daemon.ensure()
            version = daemon.engine.info().get("ServerVersion")
            return settings, started, f"{'started' if started else 'answers'}, {version}, at {settings.docker_url}"
        except CommandFailed as failed:
            if "driver" in settings.model_fields_set:
                raise
            settings, why = settings.model_copy(update={"driver": "oci"}), "since there is no container engine here"
            working = _working_runtime(settings)
            if working is None:
                raise failed from None
    elif (working := _working_runtime(settings)) is None:
        raise CommandFailed("No OCI runtime works on this host; `mayfly doctor` has the reasons.")
    return settings, False, f"none, {why}: {working.name} {working.version()} runs containers directly (driver oci)"


def _working_runtime(settings: Settings) -> oci.Runtime | None:
    if os.geteuid() != 0:  # without an engine the worker itself needs root
        return None
    candidates = oci.found(settings)["standard"]
    return next((one for one in candidates if not oci.why_not(one)), None)


def _daemon(settings: Settings, arguments: list[str] | None = None) -> Daemon:
    try:
        return Daemon(settings.docker_url, settings.state_dir, arguments or [], settings.runsc_arguments)
    except EngineUnreachable as error:
        raise CommandFailed(f"MAYFLY_DOCKER_URL: {error}", MISTAKE) from error


def _running(daemon: Daemon) -> int:
    try:
        return daemon.engine.running()
    except EngineUnreachable:
        return 0


def _build_images(stack: Stack) -> None:
    """Have the builder make missing images; the builder prints its progress, and detects changes."""
    directories = [
        word for path in stack.settings.environments_dirs for word in ("--environments", str(path.absolute()))
    ]
    command = [sys.executable, "-m", "sandbox_image.build", *directories, "--output", str(stack.settings.images_path)]
    with subprocess.Popen(
        command, env=stack.environment(), cwd=PACKAGE_ROOT, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as builder:
        assert builder.stdout is not None  # noqa: S101 - it was asked for
        with _spinner() as progress:
            for line in builder.stdout:
                progress(line.strip())
                typer.echo(f"Image     {line.rstrip()}")
    if builder.returncode != 0:
        raise CommandFailed("The sandbox images could not be built; the reason stands above.")


def _run_sample(stack: Stack) -> None:
    """Run the sample, with its command printed for copying."""
    program, data, out = EXAMPLES / "plot.py", EXAMPLES / "data.csv", stack.directory / "sample"
    words = ("run", _short(program), "--env", SAMPLE_ENVIRONMENT, "--file", _short(data), "--out", _short(out))
    typed = f"{_command()} {' '.join(words)}"
    typer.echo(f"\n$ {typed}")
    with Client(stack.url, stack.settings.admin_key() or "", patience_seconds=SAMPLE_PATIENCE_SECONDS) as client:
        reason = run_sample(client, program, data, SAMPLE_ENVIRONMENT, out)
    if reason is not None:
        typer.echo(f"The sample program was not run: {reason}. Run it later with the command above.")
        return
    for path in sorted(out.iterdir()):
        typer.echo(f"saved {_short(path)} ({path.stat().st_size} bytes)")


@contextmanager
def _spinner() -> Iterator[Callable[[str], None]]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        yield status.update


def _command() -> str:
    """The name under which this command was called, for printed commands."""
    called = Path(sys.argv[0])
    return _short(called) if called.name == "mayfly" else _short(PACKAGE_ROOT / ".venv" / "bin" / "mayfly")


def _short(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
