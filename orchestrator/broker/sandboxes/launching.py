"""Starts tool servers in sandboxes: containers of crun, on a pipe, which end with the broker.

Theory of operation. For each start there is a bundle: a directory with the configuration, on a file system in memory,
since the configuration has the server's secrets. The command is a chain of programs:

- that of ``orchestrator/host/tied.py``: the kernel kills ``unshare`` when the broker dies, even by SIGKILL;
- ``flock``: ``unshare`` and crun keep the lock of the bundle; the bundle of a dead sandbox has no lock;
- ``unshare --pid --kill-child``: crun is the first process of a pid namespace; when ``unshare`` dies, crun dies too,
  and the kernel then kills all processes of the namespace, including the container's;
- crun, in the foreground, with the pipe as the container's input and output. Where both versions of cgroups are
  mounted, it runs without version 2's (``orchestrator/host/oci.py``).

A broker that is not root starts rootless containers if the operator permits them: crun creates a user namespace, and a
container has no caps of its own. The container survives crun, and ``leftovers`` ends the container. Here ``unshare``
gives crun a user namespace, without rights in it. The reason: crun 1.21 sets the container's bound of processes on
itself before it makes the container. In the broker's namespace the kernel would compare that bound with all threads of
the broker's uid on the host.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from functools import partial
from pathlib import Path

import structlog

from orchestrator.broker.declared.secrets import Secret
from orchestrator.broker.declared.users import Users, preferred
from orchestrator.broker.links.bounded_stdio import Command
from orchestrator.broker.links.launching import PATH, CommandLauncher
from orchestrator.broker.links.link import LinkFailed
from orchestrator.broker.sandboxes import leftovers
from orchestrator.broker.sandboxes.configuration import NETWORK_FILES, Bind, Sandbox, rendered
from orchestrator.errors import EnvironmentUnavailable
from orchestrator.host import oci, rootfs
from orchestrator.host.tied import tied
from orchestrator.models.tool_servers import ToolServer
from orchestrator.settings import Settings
from orchestrator.tool_environments import TOOL_SERVER_IMAGES, load_tool_server_image

NEEDED = ("crun", "setpriv", "unshare", "flock")
MOUNTS = Path("/proc/self/mountinfo")
IDENTITY = "/run/identity"  # /etc/passwd and /etc/group of every image are links to it
SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/run", "/tmp")  # noqa: S108
WRITABLE = ":rw"
log = structlog.get_logger()


class SandboxLauncher:
    """Starts environments of kind ``tool-server``, and commands as a :class:`CommandLauncher` does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._directory = settings.oci_path / TOOL_SERVER_IMAGES
        self._users = Users(settings.tool_users_dir, settings.state_dir)
        self._commands = CommandLauncher(settings.tool_commands, self._users)
        self.bundles = memory_directory(settings.installation) or self._directory / "bundles"

    def command(self, tenant: str, server: ToolServer, secret: Secret) -> Command:
        """The process to start. Blocks while an image is unpacked. Raises :class:`LinkFailed`."""
        if server.environment is None:
            return self._commands.command(tenant, server, secret)
        if missing := [name for name in NEEDED if shutil.which(name, path=PATH) is None]:
            raise LinkFailed(f"tool servers in sandboxes need {', '.join(missing)} on the broker's host")
        if os.geteuid() != 0 and not self._settings.tool_sandboxes_rootless:
            raise LinkFailed(
                "tool servers in sandboxes need a broker that runs as root, or MAYFLY_TOOL_SANDBOXES_ROOTLESS=true"
            )
        if server.origin != "file" and (server.files or server.network != "none"):
            raise LinkFailed("the host's files and network are given only by the operator's files")
        for name in leftovers.sweep(self.bundles, self._settings.cgroup_root):
            log.info("tools.sandbox_removed", sandbox=name)
        try:
            return self._start(tenant, server, secret)
        except (EnvironmentUnavailable, ValueError) as error:
            raise LinkFailed(str(error)) from error
        except FileNotFoundError as error:
            place = f"--environments DIRECTORY --output {self._settings.images_path}"
            hint = f"build it by `python -m sandbox_image.build {server.environment} {place}`"
            raise LinkFailed(f"there is no image of tool server {server.environment}; {hint}") from error
        except OSError as error:
            raise LinkFailed(f"the sandbox of {server.environment} could not be made: {error.strerror}") from error

    def _start(self, tenant: str, server: ToolServer, secret: Secret) -> Command:
        images = self._settings.images_path
        image = load_tool_server_image(images, server.environment or "")
        archive = images / TOOL_SERVER_IMAGES / f"{image.name}.tar"
        root = rootfs.unpacked(self._directory / "images", archive, image.image_id)
        root.used()
        # Without root there is nothing to share: the uid is inside a user namespace of this sandbox alone.
        uid = self._users.of(tenant, server.name) if os.geteuid() == 0 else preferred(tenant, server.name)
        name = f"{server.name}-{secrets.token_hex(6)}"
        network = server.network == "host"
        binds = [*declared_binds(server.files), *network_binds(network)]
        self.bundles.mkdir(parents=True, exist_ok=True, mode=0o700)
        bundle = self.bundles / name
        bundle.mkdir(mode=0o700)
        identity = _identity(bundle, uid)
        binds.append(Bind(str(identity), IDENTITY))
        if network:  # without it names are looked up only in files, as in programs' sandboxes
            binds.append(Bind(str(identity / "nsswitch.conf"), "/etc/nsswitch.conf"))
        sandbox = Sandbox(
            name=name,
            root=root.path,
            process=root.process,
            uid=uid,
            limits=image.limits,
            env={**server.env, **secret.env},
            binds=tuple(binds),
            network=network,
            owner=None if os.geteuid() == 0 else (os.geteuid(), os.getegid()),
            shared_proc=os.geteuid() != 0 and is_proc_masked(MOUNTS.read_text(encoding="utf-8")),
        )
        (bundle / leftovers.LOCK).touch(mode=0o600)
        (bundle / "config.json").write_text(json.dumps(rendered(sandbox)), encoding="utf-8")
        log.info("tools.sandbox", tenant=tenant, server=server.name, sandbox=name, uid=uid, image=image.tag)
        return Command(
            words=self._words(bundle, name),
            environment={"PATH": f"{PATH}:/usr/sbin:/sbin"},
            clean=partial(leftovers.remove, bundle, self._settings.cgroup_root),
        )

    def _words(self, bundle: Path, name: str) -> tuple[str, ...]:
        unified = oci.unified_mount(self._settings.cgroup_root)
        kept = (
            *tied(),
            *("flock", "--nonblock", "--no-fork", str(bundle / leftovers.LOCK)),
        )
        crun = ("crun", "--root", str(bundle / "state"))
        run = ("run", "--bundle", str(bundle))
        if os.geteuid() != 0:
            own = ("unshare", "--user", "--map-current-user", "--")
            return (*kept, *own, *crun, "--cgroup-manager=disabled", *run, "--no-new-keyring", name)
        return (
            *kept,
            *("unshare", "--pid", "--mount-proc", "--kill-child=KILL", "--"),
            *(("sh", "-c", 'umount "$0" && exec "$@"', str(unified)) if unified else ()),
            *(*crun, *run, name),
        )


def memory_directory(installation: str) -> Path | None:
    """A directory for bundles on a file system in memory, if the host has one."""
    memory = Path("/dev/shm")  # noqa: S108 - the bundles' directory is root's alone
    return memory / f"mayfly-{TOOL_SERVER_IMAGES}-{installation}" if memory.is_dir() else None


def is_proc_masked(mounts: str) -> bool:
    """Whether /proc has mounts below it, as in a container: the kernel then refuses a new proc file system."""
    return any(line.split()[4].startswith("/proc/") for line in mounts.splitlines())


def declared_binds(files: dict[str, str]) -> tuple[Bind, ...]:
    """The files of a declaration. Raises ``ValueError`` for a forbidden path."""
    binds = []
    for source, written in files.items():
        target = written.removesuffix(WRITABLE)
        place = "/" + os.path.normpath(target).lstrip("/")  # POSIX keeps two slashes at the beginning
        if not target.startswith("/") or place == "/" or any((place + "/").startswith(f"{one}/") for one in SYSTEM):
            raise ValueError(f"files: {written} is not a path for files in a sandbox; use a path such as /data")
        if not source.startswith("/") or not Path(source).exists():
            raise ValueError(f"files: {source} is not a path on the broker's host")
        binds.append(Bind(os.path.realpath(source), place, written.endswith(WRITABLE)))
    return tuple(binds)


def network_binds(network: bool) -> tuple[Bind, ...]:
    """The host's files for look-ups of names and for the verification of certificates."""
    return tuple(Bind(os.path.realpath(path), path) for path in NETWORK_FILES if network and Path(path).exists())


def _identity(bundle: Path, uid: int) -> Path:
    """Files with the name of the server's user, for getpwuid, which git and others call."""
    identity = bundle / "identity"
    identity.mkdir(mode=0o755)
    (identity / "passwd").write_text(f"tools:x:{uid}:{uid}:tools:/tmp:/usr/sbin/nologin\n", encoding="ascii")
    (identity / "group").write_text(f"tools:x:{uid}:\n", encoding="ascii")
    (identity / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n", encoding="ascii")
    return identity
