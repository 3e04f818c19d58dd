"""Checks whether this host can keep Mayfly's promises, for ``mayfly doctor --security`` and the admission of workers.

Each check is a pure function from facts to findings (``host``, ``installation``, ``versions``); ``facts`` gathers the
facts, ``advisories`` is data.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.environments import MAXIMAL_LIMITS
from orchestrator.host.posture import facts, host, installation
from orchestrator.host.posture.facts import EngineFacts, host_facts
from orchestrator.host.posture.finding import Finding
from orchestrator.host.posture.installation import INSTALLATION_LABEL, UID_LABEL, RedisFacts
from orchestrator.host.posture.versions import check_releases
from orchestrator.settings import Settings

__all__ = [
    "INSTALLATION_LABEL",
    "UID_LABEL",
    "EngineFacts",
    "Finding",
    "RedisFacts",
    "check_engine",
    "check_host",
    "check_redis",
    "host_facts",
    "lines",
]


def check_host(settings: Settings) -> list[Finding]:
    """The checks that need neither engine nor Redis."""
    users, lent = facts.users(), facts.read("/etc/subuid").splitlines()
    kernel, sysctls, executions = facts.kernel(), facts.sysctls(), settings.slots + settings.spare_slots
    return [
        *check_releases([kernel], {"kernel"}),
        host.check_core_pattern(facts.read("/proc/sys/kernel/core_pattern")),
        host.check_counters(
            str(settings.cgroup_root),
            facts.cgroups_visible(settings.cgroup_root),
            facts.cgroups_writable(settings.cgroup_root),
        ),
        host.check_attribution(*facts.attribution()),
        *host.check_sysctls(sysctls),
        *host.check_shared(sysctls, executions * MAXIMAL_LIMITS.processes, kernel.version),
        host.check_cpu(facts.vulnerabilities()),
        *([_engine_socket(settings)] if settings.driver == "docker" else []),
        installation.check_uids(settings.uid_first, settings.uid_count, users, lent),
        *installation.check_secrets(facts.secrets(settings)),
        *installation.check_directories(facts.directories(settings)),
        *installation.check_disk_space(facts.spaces(settings), settings.disk_free_bytes),
    ]


def check_engine(settings: Settings, engine: EngineFacts) -> list[Finding]:
    """The checks that need the container engine."""
    options = engine.info.get("SecurityOptions") or ()
    seccomp = Path("/proc/sys/kernel/seccomp")
    return [
        *check_releases(facts.releases(engine), facts.used_components(settings, engine.info)),
        host.check_runtimes(facts.strange_runtimes(settings, engine.info)),
        *host.check_cgroups(engine.info, facts.read("/proc/swaps").splitlines()[1:]),
        *host.check_seccomp(
            facts.read(str(seccomp / "actions_avail")), facts.read(str(seccomp / "actions_logged")), options
        ),
        host.check_security_modules(options),
        host.check_user_namespaces(options),
        host.check_engine_package(engine.info),
        host.check_engine_listeners(engine.info),
        host.check_engine_access(settings.driver, settings.engine_proxy, options),
        installation.check_neighbours(settings.installation, settings.uid_first, settings.uid_count, engine.containers),
    ]


def check_redis(settings: Settings, redis: RedisFacts) -> list[Finding]:
    """The checks that need Redis."""
    url = settings.effective_redis_url
    found = [installation.check_redis_address(url), *installation.check_redis(redis)]
    path = urlsplit(url).path
    access = facts.socket_access(Path(path)) if url.startswith("unix://") else None
    return [*found, installation.check_redis_socket(path, access[0])] if access else found


def lines(findings: list[Finding]) -> list[str]:
    """Findings other than ``ok``, each with its remedy on a separate line."""
    printed = []
    for name, status, detail, remedy, promise in findings:
        if status != "ok":
            breaks = f" (promise {promise} of SPECIFICATION.md cannot be kept)" if promise else ""
            printed += [f"{status:<8}{name}: {detail}{breaks}", f"        remedy: {remedy}"]
    return printed


def _engine_socket(settings: Settings) -> Finding:
    url = settings.docker_url
    access = facts.socket_access(Path(url.partition("://")[2])) if url.startswith("unix://") else None
    if access is None and settings.engine_proxy:  # a worker in a container that has the proxy's socket alone
        url = settings.worker_engine_url
        access = facts.socket_access(settings.engine_proxy_path)
    return host.check_engine_address(url, *(access or (None, "", "", ())))
