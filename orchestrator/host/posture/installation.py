"""Pure: findings about an installation's own settings: files, Redis, uids, the API's address."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from orchestrator.host.posture.finding import Finding, broken, ok, weak

ONE_RESULT, SEPARATION, DATA, TENANTS = 2, 4, 6, 10
UID_LABEL = "dev.mayfly.uid"
INSTALLATION_LABEL = "dev.mayfly.installation"  # a container's label with the installation that made it
MAX_UID = 2**31 - 1  # Docker Engine: "uids and gids must be in range 0-2147483647"


class PathMode(NamedTuple):
    """A checked file or directory. ``reachable``: other users can enter every directory above it."""

    name: str
    path: str
    mode: int
    reachable: bool = True


class DiskSpace(NamedTuple):
    """A written directory and its free space."""

    name: str
    path: str
    free_bytes: int


class RedisFacts(NamedTuple):
    """Facts from Redis: INFO, and CONFIG where that is allowed.

    ``anonymous``: whether it answered a client without a password; ``None`` if that was not tried.
    """

    info: Mapping[str, Any]
    config: Mapping[str, str]
    anonymous: bool | None = None


def check_secrets(secrets: Iterable[PathMode]) -> list[Finding]:
    """Files that only their owner may access."""
    found = []
    for name, path, mode, _ in secrets:
        if mode & 0o027:  # any access for others, or write access for the group
            detail = f"{path}, mode {mode:o}: others can {'write' if mode & 0o022 else 'read'} it"
            found.append(broken(name, DATA, detail, f"chmod 600 {path}, and replace its content"))
        elif mode & 0o050:
            found.append(weak(name, f"{path}, mode {mode:o}: its group can read it", f"chmod 600 {path}"))
        else:
            found.append(ok(name, f"{path}, mode {mode:o}"))
    return found


def check_directories(directories: Iterable[PathMode]) -> list[Finding]:
    """Directories that only Mayfly may write. Listing them reveals names, and the inputs of running programs."""
    found = []
    for name, path, mode, reachable in directories:
        if not reachable:
            found.append(ok(name, f"{path}, mode {mode:o}, which other users cannot reach"))
        elif mode & 0o002:
            found.append(broken(name, SEPARATION, f"others can write {path} (mode {mode:o})", f"chmod o-w {path}"))
        elif mode & 0o2000 and not mode & 0o007:  # as deploy/install.sh shares blobs between API and worker
            found.append(ok(name, f"{path}, mode {mode:o}, shared by its group"))
        elif mode & 0o025:
            exposure = "its group can write it" if mode & 0o020 else "other users of this host can list it"
            found.append(weak(name, f"{path}, mode {mode:o}: {exposure}", "chmod 700 the directory above it"))
        else:
            found.append(ok(name, f"{path}, mode {mode:o}"))
    return found


def check_disk_space(spaces: Iterable[DiskSpace], least_bytes: int) -> list[Finding]:
    """Whether the disks have room: on a full disk workers take no executions, and uploads are refused."""
    found = []
    for name, path, free in spaces:
        if free < least_bytes:
            detail = f"{path}, {free / 1e9:.2f} GB free, less than MAYFLY_DISK_FREE_BYTES: new work may be refused"
            remedy = f"free {math.ceil((least_bytes - free) / 1e6)} MB there, or use another disk"
            found.append(weak(f"disk of {name}", detail, remedy))
        else:
            found.append(ok(f"disk of {name}", f"{path}, {free / 1e9:.0f} GB free"))
    return found


def check_redis_socket(path: str, mode: int) -> Finding:
    """The users with write access to Redis's socket."""
    if mode & 0o002:
        return broken("redis socket", TENANTS, f"every user of this host may use {path}", f"chmod 600 {path}")
    return ok("redis socket", f"{path}, mode {mode:o}")


def check_redis_address(url: str) -> Finding:
    """The exposure of the configured address: Redis's own, or that of its Sentinels."""
    name, (scheme, _, rest) = "redis address", url.partition("://")
    if scheme == "unix":
        return ok(name, "a Unix socket")
    place, _, options = rest.partition("?")
    user, _, members = place.partition("/")[0].rpartition("@")
    hosts = [urlsplit(f"//{member}").hostname or "" for member in members.split(",")]
    detail = ", ".join(hosts)
    if all(_stays_here(host) for host in hosts):
        return ok(name, f"{detail}, on this host")
    if not user.partition(":")[2]:
        detail = f"{detail} has no password: programs and results are open to its network"
        return broken(name, TENANTS, detail, "give Redis a password (requirepass) and set MAYFLY_REDIS_PASSWORD_FILE")
    if scheme.endswith("+sentinel") and "sentinel_password=" not in options:
        detail = f"{detail} have no password: any client that reaches the Sentinels can direct Mayfly to another Redis"
        return weak(name, detail, "give the Sentinels a password (requirepass) and add ?sentinel_password= to the URL")
    if not scheme.startswith("rediss"):
        secure = "rediss+sentinel://" if scheme.endswith("+sentinel") else "rediss://"
        return weak(
            name, f"connections to {detail} are not encrypted", f"use {secure} unless the network is yours alone"
        )
    return ok(name, f"{detail}, with a password, encrypted")


def check_redis(facts: RedisFacts) -> list[Finding]:
    """Findings from Redis's own facts; missing facts are ``weak``."""
    return [
        _redis_listeners(facts),
        check_redis_eviction(facts.info),
        check_redis_memory(facts.info),
        _redis_durability(facts.info),
    ]


def _redis_listeners(facts: RedisFacts) -> Finding:
    name, config = "redis listeners", facts.config
    if "bind" not in config:
        return weak(
            name, "Redis does not report its listeners (CONFIG is refused)", "check bind and requirepass yourself"
        )
    beyond = [address for address in config["bind"].lstrip("-").split() if not _stays_here(address.lstrip("-"))]
    ports = [config[field] for field in ("port", "tls-port") if config.get(field, "0") != "0"]
    if not ports:
        return ok(name, "no port")
    if not facts.anonymous:
        return ok(name, f"port {', '.join(ports)}, with a password")
    if (beyond or not config["bind"]) and config.get("protected-mode") != "yes":
        detail = (
            f"it answers clients without a password on {' '.join(beyond) or 'every address'} port {', '.join(ports)}"
        )
        return broken(name, TENANTS, detail, "set bind 127.0.0.1, or requirepass and MAYFLY_REDIS_PASSWORD_FILE")
    detail = f"every process of its host may use port {', '.join(ports)} without a password"
    return weak(name, detail, "set requirepass and MAYFLY_REDIS_PASSWORD_FILE, or use a Unix socket")


def check_redis_eviction(info: Mapping[str, Any]) -> Finding:
    """Whether a full Redis evicts data."""
    name, policy = "redis eviction", info.get("maxmemory_policy")
    remedy = "set maxmemory-policy noeviction"
    if policy is None:
        return weak(name, "Redis does not show its maxmemory-policy", remedy)
    if policy == "noeviction":
        return ok(name, policy)
    if not info.get("maxmemory"):
        return weak(name, f"{policy}, which has no effect only as long as maxmemory is not set", remedy)
    return broken(name, ONE_RESULT, f"{policy}: a full Redis drops accepted executions", remedy)


def check_redis_memory(info: Mapping[str, Any]) -> Finding:
    """Whether Redis has a memory bound."""
    name, most = "redis memory", info.get("maxmemory")
    remedy = (
        "set maxmemory to an amount that its host can spare; for the Redis of `mayfly up` MAYFLY_REDIS_MEMORY_BYTES"
    )
    if most is None:
        return weak(name, "Redis does not report its maxmemory", remedy)
    if not most:
        return weak(name, "no maxmemory: submissions are accepted until the kernel kills Redis", remedy)
    return ok(name, f"maxmemory {most / 1e6:.0f} MB, {info.get('used_memory', 0) / 1e6:.0f} MB used")


def _redis_durability(info: Mapping[str, Any]) -> Finding:
    name, enabled = "redis durability", info.get("aof_enabled")
    if enabled is None:
        return weak(name, "Redis does not report whether it has an append-only file", "set appendonly yes")
    if enabled:
        return ok(name, "append-only file")
    return broken(
        name, ONE_RESULT, "no append-only file: a Redis that is killed loses executions", "set appendonly yes"
    )


def check_api(host: str) -> Finding:
    """The API's address; the API itself does not encrypt."""
    if _stays_here(host):
        return ok("api", f"listens on {host}")
    detail = f"listens on {host or 'every address'} without encryption: keys and programs can be read in transit"
    return weak("api", detail, "let only a TLS proxy reach it, or set MAYFLY_API_HOST=127.0.0.1")


def check_uids(first: int, count: int, users: Mapping[str, int], lent: Iterable[str]) -> Finding:
    """Whether other accounts use the sandboxes' uids. ``lent`` has the lines of /etc/subuid."""
    last = first + count - 1
    remedy = "choose another MAYFLY_UID_FIRST"
    if last > MAX_UID:
        return broken("uids", SEPARATION, f"{first} to {last} exceed {MAX_UID}", "lower MAYFLY_UID_FIRST")
    if names := sorted(name for name, uid in users.items() if first <= uid <= last):
        return broken("uids", SEPARATION, f"{first} to {last} also belong to {', '.join(names)}", remedy)
    if lines := [line for line in lent if _overlaps(line, first, last)]:
        detail = f"{first} to {last} are also delegated to users' containers: {', '.join(lines)} in /etc/subuid"
        return weak("uids", detail, remedy)
    return ok("uids", f"{first} to {last} are used by no other account")


def check_neighbours(installation: str, first: int, count: int, containers: Iterable[Mapping[str, str]]) -> Finding:
    """Whether another installation on the same engine uses this installation's uids. ``containers`` are the labels of
    each container.
    """
    theirs = {
        labels[INSTALLATION_LABEL]: uid
        for labels in containers
        if labels.get(INSTALLATION_LABEL, installation) != installation
        and (uid := labels.get(UID_LABEL, "")).isdigit()
        and first <= int(uid) < first + count
    }
    if not theirs:
        return ok("neighbours", "containers of other installations have none of our uids")
    detail = ", ".join(f"{name} (uid {uid})" for name, uid in sorted(theirs.items()))
    return broken(
        "neighbours", SEPARATION, f"another installation uses our uids: {detail}", "choose another MAYFLY_UID_FIRST"
    )


def _stays_here(host: str) -> bool:
    """Whether an address is this host's loopback; unknown for a name other than ``localhost``."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _overlaps(line: str, first: int, last: int) -> bool:
    try:
        _, begin, count = line.split(":")
        return int(begin) <= last and first < int(begin) + int(count)
    except ValueError:
        return False
