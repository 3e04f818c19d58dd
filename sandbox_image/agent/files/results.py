"""Sends the results that a program has left (``bundles.py``). Runs when every process but the agent is dead.

A result is a directory ``SOURCE.…`` of files named by their MIME type, with a dot for the slash. Nothing in it is
parsed here, and no link is followed.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from typing import Any

    from sandbox_image.agent.files import artifacts
    from sandbox_image.agent.files.artifacts import Send
else:
    import artifacts

RESULT, RESULT_DATA = b"U", b"u"
NAME = ".mayfly-results"  # below /tmp: as in bundles.py and mayfly.js
SOURCES = ("named", "expression", "display")  # in the order in which they are sent
CUT = "text/plain"  # of which the beginning is sent; other types are complete or left out


def opened(name: str, above: int | None = None) -> int:
    """The descriptor of a directory. Raises ``OSError`` for anything else, such as a link to a directory.

    In gVisor O_DIRECTORY follows a link despite O_NOFOLLOW; but no process is left that could replace the directory.
    """
    if not stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
        raise NotADirectoryError(name)
    return os.open(name, artifacts.DIRECTORY_FLAGS, dir_fd=above)


def send(send: Send, directory: str, bounds: dict[str, Any]) -> None:
    """Send the results in a directory: of each the files of known types, as RESULT and RESULT_DATA.

    ``bounds``: ``count`` of results, ``bytes`` of all together, and ``types``, the bytes of each type.
    """
    try:
        root = opened(directory)
    except OSError:
        return  # the usual case: the program has left none
    names = [name for name in os.listdir(root) if name.partition(".")[0] in SOURCES]
    names.sort(key=lambda name: (SOURCES.index(name.partition(".")[0]), name))
    left_bytes = bounds["bytes"]
    for number, name in enumerate(names[: bounds["count"]]):
        header = {"number": number, "source": name.partition(".")[0]}
        try:
            below = opened(name, root)
        except OSError:
            continue  # not a directory, so not a named result
        for media_type, most_bytes in bounds["types"].items():
            try:
                file = os.open(media_type.replace("/", "."), artifacts.FILE_FLAGS, dir_fd=below)
            except OSError:
                continue
            about = os.fstat(file)
            if stat.S_ISREG(about.st_mode):
                size = about.st_size
                length = min(size, most_bytes, left_bytes) if media_type == CUT else size
                length = length if length <= min(most_bytes, left_bytes) else 0
                send(RESULT, {**header, "media_type": media_type, "size": size, "length": length})
                left_bytes -= length
                while length and (data := os.read(file, min(length, artifacts.CHUNK_BYTES))):
                    length -= len(data)
                    send(RESULT_DATA, data)
            os.close(file)
        os.close(below)
    if len(names) > bounds["count"]:
        send(RESULT, {"omitted": len(names) - bounds["count"]})
    os.close(root)
