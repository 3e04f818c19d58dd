"""The package ``mayfly`` of programs: ``result(x)`` names a value for the caller, ``display(x)`` shows a value beside
it, ``tools`` are the tools that the program may call (``tools.py``), which is loaded when it is first used.

A result is a directory with one file for each MIME type in :data:`DIRECTORY`. The directory appears by rename, complete
or not at all, and stays there: the agent sends the files once the program has ended, and the worker checks and bounds
them. This module imports little, and not ``typing``, since a program's start waits for the imports.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from typing import Any

__all__ = ["display", "result"]
DIRECTORY = "/tmp/.mayfly-results"
MEDIA_TYPES = ("text/plain", "application/json", "text/html", "image/png")
METHODS = {"_repr_json_": "application/json", "_repr_html_": "text/html", "_repr_png_": "image/png"}
SHOWN = "_mayfly_shown"  # an attribute of figures that were displayed
_names = iter(range(2**62))


def __getattr__(name: str) -> Any:
    if name == "tools":
        __import__(f"{__name__}.tools")
        return sys.modules[f"{__name__}.tools"]
    if name in ("ToolError", "search_tools"):
        from . import tool_calls

        return getattr(tool_calls, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def result(value: object) -> None:
    """Name a value that the caller of this program gets. Each further call adds a value."""
    keep("named", value)


def display(*values: object) -> None:
    """Show values as a notebook does, beside the result."""
    for value in values:
        keep("display", value)


def keep(source: str, value: object) -> None:
    """Store one result. Raises ``OSError`` if it cannot be written."""
    parts = representations(value, quoted=source == "expression")
    os.makedirs(DIRECTORY, 0o700, exist_ok=True)
    name = f"{source}.{time.monotonic_ns():020d}.{os.getpid()}.{next(_names)}"
    os.mkdir(f"{DIRECTORY}/.{name}", 0o700)
    for media_type, content in parts.items():
        with open(f"{DIRECTORY}/.{name}/{media_type.replace('/', '.')}", "wb") as file:
            file.write(content)
    os.rename(f"{DIRECTORY}/.{name}", f"{DIRECTORY}/{name}")


def has_named() -> bool:
    """Whether this program, or one of its processes, has named a result."""
    try:
        return any(name.startswith("named.") for name in os.listdir(DIRECTORY))
    except OSError:
        return False


def representations(value: Any, quoted: bool) -> dict[str, bytes]:
    """A value's content for each MIME type. ``quoted``: text is shown as a literal."""
    text = value if isinstance(value, str) and not quoted else repr(value)
    found: dict[str, Any] = {"text/plain": text}
    kind = type(value)
    if is_figure(value):
        found["image/png"] = png(value)
        setattr(value, SHOWN, True)
    elif kind.__module__ == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "item"):
        found["application/json"] = value.item()
    elif isinstance(value, (str, int, float, dict, list, tuple)) or value is None:
        found["application/json"] = value
    for name, media_type in METHODS.items():
        if (shown := called(value, name)) is not None:
            found[media_type] = shown
    several = called(value, "_repr_mimebundle_")
    if several is not None:
        found.update(several[0] if isinstance(several, tuple) else several)
    encoded = {name: as_bytes(name, found[name]) for name in MEDIA_TYPES if found.get(name, found) is not found}
    return {name: content for name, content in encoded.items() if content is not None}


def called(value: object, name: str) -> Any:
    """The result of a method that shows a value; ``None`` without the method, or if it fails (reported on stderr)."""
    method = getattr(type(value), name, None)
    if method is None or isinstance(value, type):
        return None
    try:
        shown = method(value)
    except Exception as error:  # a broken method of the program's own: the other representations remain
        print(f"mayfly: {type(value).__name__}.{name} failed: {error!r}", file=sys.stderr)
        return None
    return shown[0] if isinstance(shown, tuple) and name != "_repr_mimebundle_" else shown


def as_bytes(media_type: str, content: Any) -> bytes | None:
    """The bytes of a representation; ``None`` where the content does not fit the type."""
    if media_type == "application/json":
        import json

        try:
            return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):
            return None
    if media_type == "image/png" and isinstance(content, str):
        import binascii

        try:
            return binascii.a2b_base64(content)
        except ValueError:
            return None
    if media_type == "image/png":
        return bytes(content) if isinstance(content, (bytes, bytearray, memoryview)) else None
    return content.encode(errors="backslashreplace") if isinstance(content, str) else None


def is_figure(value: object) -> bool:
    """Whether a value is a figure of matplotlib; if so, matplotlib has been imported."""
    module: Any = sys.modules.get("matplotlib.figure")
    return module is not None and isinstance(value, module.Figure)


def png(figure: Any) -> bytes:
    """A figure's image, with the margins that a notebook gives it."""
    import io

    image = io.BytesIO()
    figure.savefig(image, format="png", bbox_inches="tight")
    return image.getvalue()


def display_open_figures() -> None:
    """Display the open figures that were not displayed yet."""
    pyplot: Any = sys.modules.get("matplotlib.pyplot")
    for number in pyplot.get_fignums() if pyplot is not None else ():
        figure = pyplot.figure(number)
        if not hasattr(figure, SHOWN):
            keep("display", figure)
