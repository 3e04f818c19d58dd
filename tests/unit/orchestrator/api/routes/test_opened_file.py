"""An artifact that is deleted while it is sent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import FileResponse, Response

from orchestrator.api.routes.results import OpenedFile

CONTENT = b"some bytes " * 10_000
HEADERS = {"Content-Type": "text/plain"}


def sent(response: Response, **headers: str) -> tuple[int, bytes]:
    """The status and body that a client gets."""
    messages: list[Any] = []
    scope = {
        "type": "http", "method": "GET", "asgi": {"spec_version": "2.4"},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    asyncio.run(response(scope, receive, send))
    return messages[0]["status"], b"".join(message.get("body", b"") for message in messages)


def test_opened_file_is_sent_whole_after_its_removal(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    answers = [OpenedFile(path.open("rb"), HEADERS) for _ in range(2)]
    path.unlink()
    assert sent(answers[0]) == (200, CONTENT)
    assert sent(answers[1], range="bytes=5-14") == (206, CONTENT[5:15])
    assert not path.exists()


def test_file_opened_late_fails_after_its_removal(tmp_path: Path) -> None:
    """The control: the framework's own answer has begun by the time it finds that there is no file."""
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    answer = FileResponse(path, stat_result=path.stat())
    path.unlink()
    with pytest.raises(FileNotFoundError):
        sent(answer)


def test_opened_file_closes_its_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        sent(OpenedFile(path.open("rb"), HEADERS))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
