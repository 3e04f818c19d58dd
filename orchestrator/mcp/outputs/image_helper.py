"""The helper process that scales one untrusted image from standard input to standard output, within bounds.

``python -I -m orchestrator.mcp.outputs.image_helper EDGE BYTES`` sets its limits before it reads its input.
"""

from __future__ import annotations

import io
import resource
import sys

from PIL import Image

ADDRESS_SPACE_BYTES = 768 * 2**20
CPU_SECONDS = 8
MOST_PIXELS = 50_000_000
FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
QUALITIES = (85, 60, 35)


def main() -> None:
    """Scale one image so that no edge is longer than EDGE pixels, in at most BYTES. Exits with 1 otherwise."""
    limits = (
        (resource.RLIMIT_AS, ADDRESS_SPACE_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
    )
    for limit, value in limits:
        resource.setrlimit(limit, (value, value))
    edge, most_bytes = int(sys.argv[1]), int(sys.argv[2])
    Image.MAX_IMAGE_PIXELS = None  # the bound below replaces Pillow's
    with Image.open(io.BytesIO(sys.stdin.buffer.read()), formats=FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            sys.exit(1)
        image.draft("RGB", (edge, edge))
        image.thumbnail((edge, edge))
        for found in encoded(image):
            if len(found) <= most_bytes:
                sys.stdout.buffer.write(found)
                return
    sys.exit(1)


def encoded(image: Image.Image) -> list[bytes]:
    """The image as a PNG, then as JPEGs of decreasing quality with a white background."""
    shown = image.convert("RGBA")
    ground = Image.new("RGBA", shown.size, "white")
    flat = Image.alpha_composite(ground, shown).convert("RGB")
    return [_saved(shown, "PNG"), *(_saved(flat, "JPEG", quality=quality) for quality in QUALITIES)]


def _saved(image: Image.Image, kind: str, **options: int) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


if __name__ == "__main__":
    main()
