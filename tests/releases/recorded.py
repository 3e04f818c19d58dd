"""The data of one release: what its installation kept, and what its API answered about it.

An archive ``vX.Y.Z.tar.xz`` has the state directory as `mayfly down` leaves it (``state/``), without images, unpacked
images and logs, and ``answers.json``: each URL's answer, the keys and passwords, and the queued executions.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import httpx2

from tests.harness import bearer

RELEASES = Path(__file__).parent
ANSWERS = "answers.json"
LEFT_OUT = ("oci", "sandboxes", "sample", "checkout")
KEPT = {"RETENTION_SECONDS": "1e9", "QUEUE_SECONDS": "1e9"}  # settings: the archive is as good in years
CHANGING = (
    "last_used_at",
    "updated_at",
    "prev_cursor",
    "next_cursor",
)  # from one look to the next, as amounts of today


@dataclass(frozen=True)
class Recorded:
    """Answers of a release to the administrator, and to a user of another tenant."""

    answers: dict[str, dict[str, Any]]  # by caller, "admin" or "user", then by path
    queued: dict[str, str]  # ids of executions that waited for a worker: what they print
    key: str  # of the user
    revoked: str
    user: str
    password: str

    def write(self, path: Path, state: Path) -> None:
        """Make the archive of a stopped installation."""
        with tarfile.open(path, "w:xz") as archive:
            for entry in sorted(state.iterdir()):
                if entry.name not in LEFT_OUT and entry.suffix != ".log" and not entry.is_socket():
                    archive.add(entry, f"state/{entry.name}", filter=_anonymous)
            answers = path.with_name(ANSWERS)
            answers.write_text(json.dumps(asdict(self), sort_keys=True))
            archive.add(answers, ANSWERS, filter=_anonymous)
            answers.unlink()

    @classmethod
    def unpack(cls, path: Path, state: Path) -> Self:
        """Put the archive's state directory at ``state``, which must be empty."""
        with tarfile.open(path) as archive:
            for member in archive.getmembers():
                if member.name.startswith("state/"):
                    member.name = member.name.removeprefix("state/")
                    archive.extract(member, state)
            file = archive.extractfile(ANSWERS)
            assert file is not None
            return cls(**json.load(file))


def read(url: str, key: str, paths: Iterable[str]) -> dict[str, Any]:
    """The API's answers to ``GET``: JSON, or the bytes of a stream or an artifact in hexadecimal digits."""
    found: dict[str, Any] = {}
    with httpx2.Client(base_url=url, headers=bearer(key), timeout=90) as client:
        for path in paths:
            answer = client.get(path).raise_for_status()
            is_json = answer.headers["Content-Type"] == "application/json" and "/artifacts/" not in path
            found[path] = answer.json() if is_json else answer.content.hex()
    return found


def lost(before: Any, now: Any, where: str = "") -> list[str]:
    """Everything that was answered before and is answered no more, or otherwise. More fields and items are no loss."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            found
            for name, value in before.items()
            if name not in CHANGING and not name.endswith("_today")
            for found in (
                lost(value, now[name], f"{where}/{name}") if name in now else [f"{where}/{name}: gone, was {value!r}"]
            )
        ]
    if isinstance(before, list) and isinstance(now, list):
        by_id = {item["id"]: item for item in now if isinstance(item, dict) and "id" in item}
        if all(isinstance(item, dict) and "id" in item for item in before):
            return [found for item in before for found in lost(item, by_id.get(item["id"]), f"{where}/{item['id']}")]
        if len(before) == len(now):
            return [
                found
                for at, (old, new) in enumerate(zip(before, now, strict=True))
                for found in lost(old, new, f"{where}/{at}")
            ]
    if where.endswith("_seconds") and isinstance(before, float) and isinstance(now, float):
        before, now = round(before, 6), round(now, 6)  # later versions answer microseconds
    return [] if before == now else [f"{where}: {now!r}, was {before!r}"]


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """No name of the machine that recorded; the janitor reads the times of files."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
