"""Images for models: each scaled by a helper with bounds, in a tenant's turn, so that a waiting call keeps no image."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from mcp_types import ImageContent, TextContent
from PIL import Image

from orchestrator.api.dependencies import TenantThreads
from orchestrator.api.door.uploads import Places, Traffic
from orchestrator.errors import ValidationFailed
from orchestrator.mcp.outputs import images
from orchestrator.mcp.outputs.images import (
    MOST_BYTES,
    MOST_EDGE,
    MOST_SOURCE_BYTES,
    fit_image,
    is_fit,
    needs_scaling,
    scaled,
)
from orchestrator.models import Artifact
from orchestrator.settings import Settings


def png(width: int, height: int, noise: bool = False) -> bytes:
    sink = io.BytesIO()
    image = Image.effect_noise((width, height), 90) if noise else Image.new("L", (width, height))
    image.convert("RGB").save(sink, "PNG")
    return sink.getvalue()


SMALL = png(20, 10)


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The helper has time to start beside others."""
    monkeypatch.setattr(images, "SECONDS", 120.0)


@pytest.mark.parametrize(
    ("data", "fits"),
    [
        (SMALL, True),
        (png(MOST_EDGE, 1), True),
        (png(MOST_EDGE + 1, 1), False),
        (png(1, MOST_EDGE + 1), False),
        (SMALL + b"\0" * MOST_BYTES, False),
        (SMALL[:20], False),
        (b"\xff\xd8\xff" + SMALL, False),
        (b"", False),
    ],
)
def test_image_that_models_take_is_known_by_its_header(data: bytes, fits: bool) -> None:
    assert is_fit(data, len(data)) is fits
    assert needs_scaling(base64.b64encode(data).decode()) is not fits


def test_image_that_is_no_base64_needs_no_helper() -> None:
    assert not needs_scaling("no base64") and not needs_scaling("é" * 100)


def test_larger_image_is_scaled_by_the_helper() -> None:
    with Image.open(io.BytesIO(scaled(png(2 * MOST_EDGE, 1000, noise=True)))) as image:
        assert image.size == (MOST_EDGE, 500)


def test_image_of_more_pixels_than_bounded_is_refused() -> None:
    with pytest.raises(ValidationFailed, match="cannot be scaled"):
        scaled(png(10_000, 5001))


def test_only_a_readable_image_of_a_result_is_shown() -> None:
    found = fit_image(base64.b64encode(SMALL).decode(), "image/png")
    assert isinstance(found, ImageContent)
    assert (base64.b64decode(found.data), found.mime_type) == (SMALL, "image/png")
    for data in ("no base64", base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 100).decode()):
        note = fit_image(data, "image/png")
        assert isinstance(note, TextContent)
        assert note.text == "[image/png: an unreadable image]"


class Source:
    """A large file, and how often the whole of it was read."""

    def __init__(self, size: int = 2**20, data: bytes = b"no PNG") -> None:
        self.size, self.reads, self.data = size, 0, data

    def read(self, offset: int, count: int) -> bytes:
        self.reads += count == self.size
        return self.data[offset : offset + count]


ARTIFACT = Artifact(path="a.gif", size=7, media_type="image/gif", sha256="")


def look(parts: Any, tenant: str, source: Source) -> asyncio.Task[Any]:
    caller: Any = SimpleNamespace(tenant=tenant)
    return asyncio.create_task(images.image_result(parts, caller, ARTIFACT, source))


def test_image_beyond_the_bound_is_not_read() -> None:
    source = Source(MOST_SOURCE_BYTES + 1)
    with pytest.raises(ValidationFailed, match="images of up to"):
        asyncio.run(images.image_result(SimpleNamespace(), SimpleNamespace(), ARTIFACT, source))  # type: ignore[arg-type]
    assert source.reads == 0


def test_image_that_models_take_does_not_wait_for_a_helper() -> None:
    async def one() -> Any:
        parts = SimpleNamespace(readings=Places(), threads=TenantThreads())
        return await look(parts, "a", Source(len(SMALL), SMALL))

    (image, _) = asyncio.run(one()).content
    assert base64.b64decode(image.data) == SMALL


def test_waiting_calls_keep_no_image_and_leave_places_to_other_tenants(monkeypatch: pytest.MonkeyPatch) -> None:
    may_end, scaling = threading.Event(), threading.Semaphore(0)

    def scale(data: bytes) -> bytes:
        scaling.release()
        assert may_end.wait(60)
        return SMALL

    monkeypatch.setattr(images, "scaled", scale)

    async def several() -> None:
        parts = SimpleNamespace(images=Traffic(Settings()).images, threads=TenantThreads())
        source, others = Source(), [Source() for _ in "bcd"]
        calls = [look(parts, "a", source) for _ in range(10)]
        try:
            assert await asyncio.to_thread(scaling.acquire, timeout=60)
            for tenant, other in zip("bcd", others, strict=True):
                calls.append(look(parts, tenant, other))
                assert await asyncio.to_thread(scaling.acquire, timeout=60), "another tenant's turn comes at once"
            assert [one.reads for one in (source, *others)] == [1] * 4
        finally:
            may_end.set()
        for result in await asyncio.gather(*calls):
            (image, note) = result.content
            assert base64.b64decode(image.data) == SMALL and note.text.startswith("a.gif")
        assert source.reads == 10

    asyncio.run(several())
