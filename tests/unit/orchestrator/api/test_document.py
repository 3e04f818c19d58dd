"""The OpenAPI document is served without a key, so each request for it must cost little."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from orchestrator.api import document
from orchestrator.api.document import Api


async def _answers(app: Api, count: int) -> list[httpx2.Response]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x") as client:
        return [await client.get("/openapi.json") for _ in range(count)]


def test_document_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    encode = document.encoded

    def counted(found: dict[str, Any]) -> bytes:
        made.append(found)
        return encode(found)

    monkeypatch.setattr(document, "encoded", counted)
    monkeypatch.setattr(Api, "openapi", lambda self: {"info": {"title": "\u00e9"}})
    answers = asyncio.run(_answers(Api(), 3))
    assert [answer.json() for answer in answers] == [{"info": {"title": "\u00e9"}}] * 3
    assert {answer.headers["content-type"] for answer in answers} == {"application/json"}
    assert len(made) == 1
