"""Turns a call's arguments into the body of a submission. Files above a bound are uploaded first, as blobs."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from mayfly.steps import Work

if TYPE_CHECKING:
    from mayfly.caller_tools.definition import Tools

INLINE_FILE_BYTES = 2 * 2**20
INLINE_TOTAL_BYTES = 8 * 2**20


class Blob(NamedTuple):
    """Bytes that :meth:`mayfly.Client.put_blob` has uploaded: ``sha256:…``."""

    reference: str


class Streamed:
    """A standard input that is streamed while the program runs: see :meth:`mayfly.Client.feed`."""


STREAMED = Streamed()
Upload = Callable[[bytes], Awaitable[Blob]]
Content = str | bytes | Path | Blob


class Options(TypedDict, total=False):
    """The options of a submission. The environment has a default for each.

    ``environment`` is ``python`` unless given. ``files`` lie beside the program: a mapping from names to text, bytes,
    a :class:`~pathlib.Path` on this machine or a :class:`Blob`; or a list of paths, each under its own name.
    ``entrypoint`` is the file to run instead of code. ``stdin`` is text, bytes, a path, a blob or :data:`STREAMED`.
    ``limits`` are by name: ``wall_seconds``, ``cpu_seconds``, ``cpu_cores``, ``memory_bytes``, ``processes``,
    ``disk_bytes``, ``output_bytes``. ``isolation`` is ``standard`` or ``hardened``, ``priority`` ``high``, ``default``
    or ``low``. ``artifacts`` are globs of the files to keep, ``mounts`` names of the operator's directories. Without
    ``retry`` an execution whose attempt fails by a fault of the platform ends as ``errored``. ``loopback`` lets the
    program be a server for itself. With the ``mode`` ``cell`` the value of the last expression and open figures are
    results, as in a notebook.
    ``tools`` are the tools of the program: functions of this process, tools, definitions and patterns (:data:`Tools`).
    ``extra`` has fields of the API that this version does not know.
    """

    environment: str
    entrypoint: str
    files: Mapping[str, Content] | Sequence[Path]
    args: Sequence[str]
    env: Mapping[str, str]
    stdin: Content | Streamed
    isolation: str
    limits: Mapping[str, float]
    mounts: Sequence[str]
    artifacts: Sequence[str]
    labels: Mapping[str, str]
    priority: str
    retry: bool
    loopback: bool
    mode: str
    tools: Tools
    extra: Mapping[str, Any]


AS_THEY_ARE = ("environment", "entrypoint", "isolation", "priority", "retry", "loopback", "mode")
LISTS = ("args", "mounts", "artifacts")
MAPPINGS = ("env", "limits", "labels")


async def submission(code: str | None, options: Options, upload: Upload) -> dict[str, Any]:
    """The body of a submission; large inputs are uploaded on the way. Raises ``OSError`` for a file without access."""
    given: Mapping[str, Any] = options
    body: dict[str, Any] = {"environment": "python"} | ({} if code is None else {"code": code})
    body |= {name: given[name] for name in AS_THEY_ARE if name in given}
    body |= {name: list(given[name]) for name in LISTS if name in given}
    body |= {name: dict(given[name]) for name in MAPPINGS if name in given}
    if (stdin := options.get("stdin")) is not None:
        body["stdin"] = {"stream": True} if isinstance(stdin, Streamed) else await _stdin(stdin, upload)
    if tools := options.get("tools"):
        from mayfly.caller_tools.definition import split

        body["tools"] = split(tools)[0]
    if files := options.get("files"):
        body["files"] = await _placed(_named(files), upload)
    return body | dict(options.get("extra") or {})


def _named(files: Mapping[str, Content] | Sequence[Path]) -> Mapping[str, Content]:
    if isinstance(files, Mapping):
        return files
    named = {path.name: path for path in files}
    if len(named) != len(files):
        raise ValueError("Two files have one name; give a mapping from names to paths.")
    return named


async def _placed(files: Mapping[str, Content], upload: Upload) -> list[dict[str, str]]:
    placed, left_bytes = [], INLINE_TOTAL_BYTES
    for path, given in files.items():
        content = await _read(given)
        if isinstance(content, Blob):
            placed.append({"path": path, "blob": content.reference})
        elif len(content) > min(INLINE_FILE_BYTES, left_bytes):
            placed.append({"path": path, "blob": (await upload(content)).reference})
        else:
            left_bytes -= len(content)
            placed.append({"path": path, **_inline(content)})
    return placed


async def _stdin(given: Content, upload: Upload) -> str | dict[str, str]:
    content = await _read(given)
    if isinstance(content, Blob):
        return {"blob": content.reference}
    if len(content) > INLINE_FILE_BYTES:
        return {"blob": (await upload(content)).reference}
    inline = _inline(content)
    return inline["content"] if inline["encoding"] == "utf-8" else inline


async def _read(given: Content) -> bytes | Blob:
    if isinstance(given, Path):
        return await Work(given.read_bytes)
    return given.encode() if isinstance(given, str) else given


def _inline(content: bytes) -> dict[str, str]:
    try:
        return {"content": content.decode(), "encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"content": base64.b64encode(content).decode(), "encoding": "base64"}
