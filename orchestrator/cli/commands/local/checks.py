"""Checks of a host's requirements, without side effects."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from mayfly import Client, MayflyError
from orchestrator.cli.commands.local.engine import Engine, EngineUnreachable
from orchestrator.environments import Environments, load_environments
from orchestrator.errors import StoreUnavailable
from orchestrator.host import oci, posture
from orchestrator.host.posture import Finding
from orchestrator.host.posture.facts import existing, read, users
from orchestrator.host.posture.finding import weak
from orchestrator.host.posture.host import check_engine_access
from orchestrator.host.posture.installation import (
    DiskSpace,
    check_api,
    check_disk_space,
    check_redis_eviction,
    check_redis_memory,
    check_uids,
)
from orchestrator.host.posture.lifetimes import check_node
from orchestrator.settings import Settings
from orchestrator.store.connection import connect
from orchestrator.store.platform.inspection import inspect_redis

Status = Literal["ok", "note", "missing"]
NEEDED: dict[str, Status] = {"standard": "missing", "hardened": "note"}
BUILDERS = ("mmdebstrap", "tcc", "ld")
STATUS: dict[str, Status] = {"ok": "ok", "weak": "note", "broken": "missing"}


class Check(NamedTuple):
    """One finding: ``ok``, ``note`` (not required), or ``missing`` (required, with the remedy)."""

    name: str
    status: Status
    detail: str


def all_checks(settings: Settings, url: str, token: str) -> Iterator[Check]:
    """Every check; ``settings`` have their final state directory."""
    yield _python()
    yield from _directories(settings)
    yield from _secrets(settings)
    yield from _redis(settings)
    try:
        environments = load_environments(settings.environments_dirs)
    except ValueError as error:
        yield Check("environments", "missing", str(error))
        environments = Environments([])
    yield from _engine(settings) if settings.driver == "docker" else _runtimes(settings)
    yield from _images(settings, environments)
    yield from map(_check, check_node(environments.values(), datetime.now(UTC).date()))
    yield _uids(settings)
    yield _api(url, token)


def security_findings(settings: Settings) -> Iterator[Finding]:
    """The security findings of this host; checks that need an unreachable engine or Redis are reported as not made."""
    yield from posture.check_host(settings)
    yield check_api(settings.api_host)
    if settings.driver == "oci":
        yield from posture.check_engine(settings, posture.host_facts(settings))
    else:
        try:
            with Engine(settings.docker_url) as engine:
                yield from posture.check_engine(settings, engine.facts())
        except EngineUnreachable as error:
            yield weak("engine", f"not checked: {error}", "`mayfly engine start`, then look again")
    try:
        redis = inspect_redis(settings.effective_redis_url, min(settings.redis_timeout_seconds, 5.0))
        yield from posture.check_redis(settings, redis)
    except StoreUnavailable:
        yield weak("redis", "not checked: the engine does not answer", "`mayfly up`, then look again")
    except ValueError as error:
        yield weak("redis", f"not checked: {error}", "correct MAYFLY_REDIS_URL")


def _python() -> Check:
    version = sys.version.split()[0]
    good = sys.version_info >= (3, 11)
    return Check("python", "ok" if good else "missing", version if good else f"{version}; 3.11 or newer is needed")


def _directories(settings: Settings) -> Iterator[Check]:
    wanted = {
        "state directory": settings.state_dir.absolute(),
        "blobs": settings.blobs_path,
        "sandboxes": settings.sandboxes_path,
        "images": settings.images_path,
    }
    if settings.driver == "oci":
        wanted["containers"] = settings.oci_path
    for name, path in wanted.items():
        there = existing(path)
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            yield Check(name, "missing", f"{there} cannot be written by this user")
            continue
        (found,) = check_disk_space(
            [DiskSpace(name, str(path), shutil.disk_usage(there).free)], settings.disk_free_bytes
        )
        made = "" if there == path else "; it will be made"
        yield _check(found._replace(name=name, detail=found.detail + made))


def _secrets(settings: Settings) -> Iterator[Check]:
    for name, path in (
        ("signing key", settings.secret_path),
        ("admin key", settings.admin_key_path),
        ("token keys", settings.token_keys_path),
    ):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            yield Check(name, "note", f"{path} does not exist yet; `mayfly up` makes it")
        except PermissionError:
            yield Check(name, "note", f"{path} may not be read by this user")
        else:
            private = mode & 0o077 == 0
            advice = "" if private else f"; others can read it: chmod 600 {path}"
            yield Check(name, "ok" if private else "missing", f"{path}, mode {mode:o}{advice}")


def _redis(settings: Settings) -> Iterator[Check]:
    try:
        store = connect(settings.effective_redis_url, min(settings.redis_timeout_seconds, 5.0))
    except ValueError as error:
        yield Check("redis", "missing", f"MAYFLY_REDIS_URL: {error}")
        return
    try:
        info = store.info("server") | store.info("memory")
        yield Check("redis", "ok", f"{info['redis_version']} answers")
        yield _check(check_redis_memory(info))
        yield _check(check_redis_eviction(info))
    except StoreUnavailable as error:
        if settings.redis_url:
            yield Check("redis", "missing", f"it does not answer at MAYFLY_REDIS_URL ({error.__cause__})")
        elif shutil.which("redis-server") is None:
            yield Check("redis", "missing", "there is no redis-server here: sudo deploy/setup.sh")
        else:
            yield Check("redis", "note", "not running; `mayfly up` starts it")
    finally:
        store.close()


def _engine(settings: Settings) -> Iterator[Check]:
    try:
        with Engine(settings.docker_url) as engine:
            info = engine.info()
            yield Check("engine", "ok", f"Docker Engine {info.get('ServerVersion')} at {settings.docker_url}")
            yield _check(check_engine_access(settings.driver, settings.engine_proxy, info.get("SecurityOptions") or ()))
            yield Check("cgroups", "ok", f"version {info.get('CgroupVersion', '1')}, {info.get('CgroupDriver')}")
            for isolation, (runtime,) in settings.runtime_names().items():
                there = runtime in info.get("Runtimes", {})
                detail = runtime if there else f"the engine has no runtime {runtime!r}; this isolation is not offered"
                yield Check(f"isolation {isolation}", "ok" if there else NEEDED[isolation], detail)
    except EngineUnreachable as error:
        yield Check("engine", "missing", f"{error}; `mayfly up` or `mayfly engine start` starts it")


def _runtimes(settings: Settings) -> Iterator[Check]:
    """The runtimes of driver ``oci``, each tried with a container."""
    yield _check(check_engine_access(settings.driver, settings.engine_proxy, ()))
    for isolation, candidates in oci.found(settings).items():
        working = []
        for runtime in candidates:
            reason = oci.why_not(runtime)
            yield Check(f"runtime {runtime.name}", "note" if reason else "ok", reason or runtime.version())
            working += [] if reason else [runtime.name]
        names = " or ".join(settings.runtime_names()[isolation])
        lacking = f"none of {names} works here, and one is needed; this isolation is not offered"
        yield Check(f"isolation {isolation}", "ok" if working else NEEDED[isolation], (working or [lacking])[0])


def _images(settings: Settings, environments: Environments) -> Iterator[Check]:
    missing = [command for command in BUILDERS if shutil.which(command) is None]
    for name in environments:
        path = settings.images_path / f"{name}.tar"
        if path.exists() and path.with_suffix(".json").exists():
            yield Check(f"image {name}", "ok", f"{path}, {path.stat().st_size / 1e6:.0f} MB")
        elif not missing:
            yield Check(f"image {name}", "note", "not built yet; `make images` or `mayfly up` builds it")
        else:
            lacking = ", no ".join(missing)
            yield Check(f"image {name}", "missing", f"not built, and there is no {lacking}: sudo deploy/setup.sh")


def _uids(settings: Settings) -> Check:
    lent = read("/etc/subuid").splitlines()
    return _check(check_uids(settings.uid_first, settings.uid_count, users(), lent))


def _check(found: Finding) -> Check:
    message = found.detail if found.status == "ok" else f"{found.detail}; {found.remedy}"
    return Check(found.name, STATUS[found.status], message)


def _api(url: str, token: str) -> Check:
    try:
        with Client(url, token, patience_seconds=0) as client:
            ready = client.ready()
            if ready.get("status") != "ok":
                message = [f"{name}: {what}" for name, what in ready.get("checks", {}).items() if what != "ok"]
                return Check("api", "note", f"{url} is not ready ({', '.join(message)})")
            client.environments()
    except MayflyError as error:
        if error.code == "api_unreachable":
            return Check("api", "note", f"not running at {url}; `mayfly up` starts it")
        return Check("api", "note", f"{url}: {error.detail}")
    return Check("api", "ok", f"{url} is ready and takes the key")
