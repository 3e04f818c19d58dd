"""What a host needs, checked one by one. Nothing here changes anything."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from orchestrator.cli.client import Client, MayflyClientError
from orchestrator.cli.engine import Engine, EngineUnreachable
from orchestrator.environments import Environments, load_environments
from orchestrator.errors import StoreUnavailable
from orchestrator.settings import Settings
from orchestrator.store.connection import connect

MAX_UID = 2**32 - 2
Status = Literal["ok", "note", "missing"]


class Check(NamedTuple):
    """One finding: ``ok``, a ``note`` that stops nothing, or ``missing``: needed, with how to get it."""

    name: str
    status: Status
    detail: str


def all_checks(settings: Settings, url: str, token: str) -> Iterator[Check]:
    """Every check; ``settings`` have their final state directory."""
    yield _python()
    yield from _directories(settings)
    yield from _secrets(settings)
    yield _redis(settings)
    try:
        environments = load_environments(settings.environments_dirs)
    except ValueError as error:
        yield Check("environments", "missing", str(error))
        environments = Environments([])
    yield from _engine(settings, environments)
    yield from _uids(settings)
    yield _api(url, token)


def _python() -> Check:
    version = sys.version.split()[0]
    good = sys.version_info >= (3, 11)
    return Check("python", "ok" if good else "missing", version if good else f"{version}; 3.11 or newer is needed")


def _directories(settings: Settings) -> Iterator[Check]:
    wanted = {
        "state directory": settings.state_dir,
        "blobs": settings.blobs_path,
        "sandboxes": settings.sandboxes_path,
        "images": settings.images_path,
    }
    for name, path in wanted.items():
        there = path.absolute()
        while not there.exists():
            there = there.parent
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            yield Check(name, "missing", f"{there} cannot be written by this user")
        else:
            free = shutil.disk_usage(there).free / 1e9
            made = "" if there == path else "; it will be made"
            yield Check(name, "ok" if free > 1 else "note", f"{path}, {free:.0f} GB free{made}")


def _secrets(settings: Settings) -> Iterator[Check]:
    for name, path in (("signing key", settings.secret_path), ("admin key", settings.admin_key_path)):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            yield Check(name, "note", f"{path} is not there yet; `mayfly up` makes it")
        except PermissionError:
            yield Check(name, "note", f"{path} may not be read by this user")
        else:
            private = mode & 0o077 == 0
            advice = "" if private else f"; others can read it: chmod 600 {path}"
            yield Check(name, "ok" if private else "missing", f"{path}, mode {mode:o}{advice}")


def _redis(settings: Settings) -> Check:
    store = connect(settings.effective_redis_url, min(settings.redis_timeout_seconds, 5.0))
    try:
        version = store.info("server")["redis_version"]
        return Check("redis", "ok", f"{version} answers")
    except StoreUnavailable as error:
        if settings.redis_url:
            return Check("redis", "missing", f"it does not answer at MAYFLY_REDIS_URL ({error.__cause__})")
        if shutil.which("redis-server") is None:
            return Check("redis", "missing", "there is no redis-server here: sudo deploy/setup.sh")
        return Check("redis", "note", "not running; `mayfly up` starts it")
    finally:
        store.close()


def _engine(settings: Settings, environments: Environments) -> Iterator[Check]:
    try:
        with Engine(settings.docker_url) as engine:
            info = engine.info()
            yield Check("engine", "ok", f"Docker Engine {info.get('ServerVersion')} at {settings.docker_url}")
            yield Check("cgroups", "ok", f"version {info.get('CgroupVersion', '1')}, {info.get('CgroupDriver')}")
            for isolation, runtime in (
                ("standard", settings.standard_runtime),
                ("hardened", settings.hardened_runtime),
            ):
                there = runtime in info.get("Runtimes", {})
                detail = runtime if there else f"the engine has no runtime {runtime!r}; this isolation is not offered"
                needed: Status = "missing" if isolation == "standard" else "note"
                yield Check(f"isolation {isolation}", "ok" if there else needed, detail)
    except EngineUnreachable as error:
        yield Check("engine", "missing", f"{error}; `mayfly up` or `mayfly engine start` starts it")
    builder = shutil.which("mmdebstrap") is not None
    for name in environments:
        path = settings.images_path / f"{name}.tar"
        if path.exists() and path.with_suffix(".json").exists():
            yield Check(f"image {name}", "ok", f"{path}, {path.stat().st_size / 1e6:.0f} MB")
        elif builder:
            yield Check(f"image {name}", "note", "not built yet; `make images` or `mayfly up` builds it")
        else:
            yield Check(f"image {name}", "missing", "not built, and there is no mmdebstrap: sudo deploy/setup.sh")


def _uids(settings: Settings) -> Iterator[Check]:
    first, last = settings.uid_first, settings.uid_first + settings.uid_count - 1
    if last > MAX_UID:
        yield Check("uids", "missing", f"{first} to {last} goes beyond {MAX_UID}; lower MAYFLY_UID_FIRST")
        return
    users = [entry.pw_name for entry in pwd.getpwall() if first <= entry.pw_uid <= last]
    lent = [line for line in _lines(Path("/etc/subuid")) if _overlaps(line, first, last)]
    if users or lent:
        whose = ", ".join([*users, *(f"{line} in /etc/subuid" for line in lent)])
        yield Check("uids", "note", f"{first} to {last} also belong to {whose}; choose another MAYFLY_UID_FIRST")
    else:
        yield Check("uids", "ok", f"{first} to {last} belong to nobody else")


def _api(url: str, token: str) -> Check:
    try:
        with Client(url, token, patience_seconds=0) as client:
            ready = client.ready()
            if ready.get("status") != "ok":
                said = [f"{name}: {what}" for name, what in ready.get("checks", {}).items() if what != "ok"]
                return Check("api", "note", f"{url} is not ready ({', '.join(said)})")
            client.environments()
    except MayflyClientError as error:
        if error.code == "api_unreachable":
            return Check("api", "note", f"not running at {url}; `mayfly up` starts it")
        return Check("api", "note", f"{url}: {error.detail}")
    return Check("api", "ok", f"{url} is ready and takes the key")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _overlaps(line: str, first: int, last: int) -> bool:
    try:
        _, begin, count = line.split(":")
        return int(begin) <= last and first < int(begin) + int(count)
    except ValueError:
        return False
