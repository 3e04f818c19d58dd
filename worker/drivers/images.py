"""The builder's description of an image."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.environments import Environment
from orchestrator.errors import EnvironmentUnavailable
from worker.drivers.base import Image


def built_image(images: Path, environment: Environment) -> Image:
    """The image of an environment; its archive is ``<images>/<environment>.tar``.

    Raises :class:`EnvironmentUnavailable` if it has not been built.
    """
    try:
        built = json.loads((images / f"{environment.name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EnvironmentUnavailable(
            f"No image of environment {environment.name!r} in {images}; build it with `make images`."
        ) from error
    return Image(environment.name, built["image_id"], int(built["size_bytes"]))
