"""Reads the names and file suffixes of environments from their files.

The full validation is the API's (:mod:`orchestrator.environments`), and too slow for the command's start.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import typer


class Declared(NamedTuple):
    """One environment: its name, its name and aliases, the suffix of its programs."""

    name: str
    names: tuple[str, ...]
    suffix: str


def declared_environments(directories: Iterable[Path]) -> list[Declared]:
    """Every environment in the directories. Raises ``typer.BadParameter`` for a file that declares no environment."""
    return [_declared(path) for directory in directories for path in sorted(directory.glob("*.toml"))]


def _declared(path: Path) -> Declared:
    import tomllib  # imported here: a program given as -c needs no guess

    try:
        declared = tomllib.loads(path.read_text(encoding="utf-8"))
        names = (declared["name"], *declared.get("aliases", ()))
        return Declared(declared["name"], names, Path(declared["file_name"]).suffix)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise typer.BadParameter(f"{path} declares no environment ({error!r}); correct it, or give --env") from error
