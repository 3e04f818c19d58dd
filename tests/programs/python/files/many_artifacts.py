"""Writes 200 files in a tree under /output, and a manifest of what it wrote."""

import hashlib
import json
import sys
from pathlib import Path

OUTPUT = Path("/output")
COUNT = int(sys.argv[1])


def content(number):
    """Between 0 bytes and about 5 kB, text or binary by turns."""
    block = hashlib.sha256(b"artifact %d" % number).digest()
    data = block * (number * number % 161)
    return data if number % 2 else data.hex().encode()


def main():
    manifest = {}
    for number in range(COUNT):
        extension = "bin" if number % 2 else "txt"
        path = OUTPUT / f"group-{number % 8}" / f"part-{number % 3}" / f"file {number:03}.{extension}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(number))
        manifest[str(path.relative_to(OUTPUT))] = path.stat().st_size
    largest = max(manifest, key=lambda path: (manifest[path], path))
    print(f"{len(manifest)} files, {sum(manifest.values())} bytes")
    print(f"largest: {largest} with {manifest[largest]}")
    (OUTPUT / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True))


main()
