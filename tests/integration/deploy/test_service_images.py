"""Images of services, built twice from nothing, are the same, and so is where they come from."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from deploy.service_image import build
from orchestrator.host import provenance
from sandbox_image.debian import host_source

pytestmark = [pytest.mark.complete, pytest.mark.timeout(1200)]


@pytest.mark.parametrize(
    ("name", "suite"), [("service", "bookworm"), ("service", "trixie"), ("redis", "bookworm"), ("monitoring", "trixie")]
)
def test_service_image_built_twice_is_the_same(name: str, suite: str, tmp_path: Path) -> None:
    (service,) = (one for one in build.SERVICES if one.name == name)
    key = tmp_path / "key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True)
    private = provenance.private_key(key)
    signed = []
    for place in (tmp_path / "first", tmp_path / "second"):
        build.build(service, host_source(None)._replace(suite=suite), place)
        described = place / f"{name}.json"
        signed.append(provenance.sign(described, private).read_bytes())
        assert provenance.fault(described, private.public_key()) is None
        (place / f"{name}.base.tar").unlink()
        assert json.loads(described.read_text())["image_id"] == f"sha256:{provenance.digest_of(place / f'{name}.tar')}"
    assert signed[0] == signed[1]
    first, second = (json.loads((tmp_path / place / f"{name}.json").read_text()) for place in ("first", "second"))
    assert first == second
