"""Images for models: a helper process with bounds scales an artifact; the artifact itself does not change."""

from __future__ import annotations

import base64
import struct
import subprocess
import sys
from functools import partial

from mcp_types import CallToolResult, ContentBlock, ImageContent, TextContent

from orchestrator.errors import ValidationFailed
from orchestrator.mcp.outputs.sources import Source
from orchestrator.mcp.parts import Caller, Parts
from orchestrator.models import Artifact

MEDIA_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
MOST_EDGE = 1568  # pixels; models scale larger images themselves
MOST_BYTES = 750_000  # a megabyte as base64
MOST_SOURCE_BYTES = 32 * 2**20
SECONDS = 10.0
PNG_HEADER = struct.Struct(">8sI4sII")
HEADER_CHARACTERS = 32  # of base64


async def image_result(parts: Parts, caller: Caller, artifact: Artifact, source: Source) -> CallToolResult:
    """An artifact as an image. Raises :class:`ValidationFailed` for an unreadable or too large image."""
    if source.size > MOST_SOURCE_BYTES:
        raise _refused(f"has {source.size} bytes; images of up to {MOST_SOURCE_BYTES} are scaled")
    head = await parts.threads.run(caller.tenant, partial(source.read, 0, PNG_HEADER.size))
    place = parts.readings if is_fit(head, source.size) else parts.images
    image = await place.run(caller.tenant, partial(_image_of, source, artifact.media_type))
    note = f"{artifact.path}: {artifact.media_type}, {artifact.size:,} bytes"
    content: list[ContentBlock] = [image, TextContent(type="text", text=note)]
    return CallToolResult(content=content, structured_content={"total_bytes": artifact.size, "end": True})


def fit_image(data: str, media_type: str) -> ContentBlock:
    """An image of a result, scaled if too large for models; a note in place of an unreadable image."""
    try:
        return _fit(base64.b64decode(data, validate=True), media_type)
    except (ValueError, ValidationFailed):
        return TextContent(type="text", text=f"[{media_type[:50]}: an unreadable image]")


def needs_scaling(data: str) -> bool:
    """Whether :func:`fit_image` has an image scaled, by the size of its base64 and its header."""
    size = len(data) // 4 * 3 - data[-2:].count("=")
    try:
        return not is_fit(base64.b64decode(data[:HEADER_CHARACTERS], validate=True), size)
    except ValueError:
        return False  # it is unreadable


def _image_of(source: Source, media_type: str) -> ImageContent:
    return _fit(source.read(0, source.size), media_type)


def _fit(data: bytes, media_type: str) -> ImageContent:
    """An image, scaled if too large for models. Raises :class:`ValidationFailed`."""
    if not is_fit(data, len(data)):
        data = scaled(data)
        media_type = "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"
    return ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type=media_type)


def is_fit(head: bytes, size: int) -> bool:
    """Whether an image of ``size`` bytes that begins with ``head`` is a PNG of a size for models."""
    if size > MOST_BYTES or len(head) < PNG_HEADER.size:
        return False
    magic, _, kind, width, height = PNG_HEADER.unpack_from(head)
    is_png = magic == b"\x89PNG\r\n\x1a\n" and kind == b"IHDR"
    return bool(is_png and 0 < width <= MOST_EDGE and 0 < height <= MOST_EDGE)


def scaled(data: bytes) -> bytes:
    """A PNG or JPEG within the bounds. Raises :class:`ValidationFailed`."""
    command = [sys.executable, "-I", "-m", "orchestrator.mcp.outputs.image_helper", str(MOST_EDGE), str(MOST_BYTES)]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=SECONDS, env={}, check=False)
    except subprocess.TimeoutExpired as error:
        raise _refused(f"cannot be scaled as an image within {SECONDS:g} s") from error
    if done.returncode != 0 or not done.stdout:
        raise _refused("cannot be scaled as an image; pass an offset to read its bytes")
    return done.stdout


def _refused(message: str) -> ValidationFailed:
    return ValidationFailed([("artifact", message)], "not_an_image")
