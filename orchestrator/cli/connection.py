"""The command line's API and key.

:class:`Configuration` reads the few settings of a client. Reading all of :class:`orchestrator.settings.Settings` takes
longer than running a program; a test compares the two.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from mayfly import Client
from mayfly.exchange import Token
from orchestrator.cli.console import CommandFailed
from orchestrator.cli.verdict import MISTAKE

if TYPE_CHECKING:
    from orchestrator.settings import Settings

PREFIX = "MAYFLY_"
STATE_DIR = ".mayfly"
URL_FILE = "url"
KEY_FILE = "api-key"
DEFAULT_URL = "http://127.0.0.1:8000"
ENVIRONMENTS = Path(__file__).resolve().parent.parent.parent / "sandbox_image" / "environments"


class Configuration(NamedTuple):
    """The settings of a client; ``None`` or empty if unset."""

    state_dir: Path | None = None
    url: str = ""
    token: str = ""
    admin_key_file: Path | None = None
    environments_dirs: tuple[Path, ...] = (ENVIRONMENTS,)

    @classmethod
    def from_environment(cls) -> Self:
        """The values of ``MAYFLY_STATE_DIR`` and so on. Raises :class:`CommandFailed` for an invalid JSON list."""
        given = {name: os.environ.get(PREFIX + name.upper(), "") for name in cls._fields}
        try:
            directories = tuple(map(Path, json.loads(given["environments_dirs"] or "[]"))) or (ENVIRONMENTS,)
        except (TypeError, ValueError) as error:
            wanted = '["/etc/mayfly/environments"]'
            raise CommandFailed(f"MAYFLY_ENVIRONMENTS_DIRS is not a JSON list, such as {wanted}", MISTAKE) from error
        return cls(
            Path(given["state_dir"]) if given["state_dir"] else None,
            given["url"],
            given["token"],
            Path(given["admin_key_file"]) if given["admin_key_file"] else None,
            directories,
        )


def state_dir(chosen: Path | None) -> Path:
    """The installation's directory: as configured, otherwise the nearest ``.mayfly`` upward, otherwise a new directory
    here.
    """
    if chosen is not None:
        return chosen.absolute()
    here = Path.cwd()
    for directory in (here, *here.parents):
        found = directory / STATE_DIR
        if found.is_dir() and _trusted(found):
            return found
    return here / STATE_DIR


def server_settings() -> Settings:
    """Every setting. Raises :class:`CommandFailed` naming the invalid variables."""
    from orchestrator.settings import Settings  # imported here: most commands do without

    try:
        return Settings()
    except ValueError as error:
        errors = error.errors() if hasattr(error, "errors") else []
        wrong = [f"{PREFIX}{str(one['loc'][0]).upper()}: {one['msg']}" for one in errors]
        raise CommandFailed("\n  ".join(wrong) or str(error), MISTAKE) from error


def located(settings: Settings) -> Settings:
    """The settings with the state directory found by :func:`state_dir`."""
    chosen = settings.state_dir if "state_dir" in settings.model_fields_set else None
    return settings.model_copy(update={"state_dir": state_dir(chosen)})


def api_of(configuration: Configuration) -> tuple[str, str]:
    """URL and API key: as configured, otherwise from the files of ``mayfly up``.

    The local installation's key is sent to no other URL than its own.
    """
    directory = state_dir(configuration.state_dir)
    own_url = _read(directory / URL_FILE)
    url = configuration.url or own_url or DEFAULT_URL
    if configuration.token:
        return url, configuration.token
    local = url.rstrip("/") == (own_url or DEFAULT_URL).rstrip("/")
    if local or configuration.admin_key_file is not None:
        return url, _read(configuration.admin_key_file or directory / KEY_FILE)
    return url, ""


def credential_of(configuration: Configuration) -> tuple[str, Token]:
    """URL and credential: MAYFLY_TOKEN, else the tokens of `mayfly login` at that URL, else the local key."""
    url, key = api_of(configuration)
    if configuration.token or not logins_file().exists():
        return url, key
    from orchestrator.cli.logins import Logins  # imported here: most programs are run with a key

    return url, Logins(logins_file()).token_of(url) or key


def logins_file() -> Path:
    """The file of `mayfly login`, below the user's configuration directory (XDG)."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(home) if home.startswith("/") else Path.home() / ".config"
    return base / "mayfly" / "logins.json"


def connect(patience_seconds: float = 15.0) -> Client:
    """A client for the API that the environment variables name."""
    return Client(*credential_of(Configuration.from_environment()), patience_seconds=patience_seconds)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, PermissionError):
        return ""


def _trusted(directory: Path) -> bool:
    """Whether this user owns the directory: another user's directory must not redirect programs."""
    return directory.stat().st_uid in (0, os.geteuid())
