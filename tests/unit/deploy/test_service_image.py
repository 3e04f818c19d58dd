"""The files of this checkout in the service image."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from deploy.service_image import build
from deploy.service_image.redis_users import ROLES
from tests.harness import ROOT


def test_every_file_of_the_services_packages_is_in_the_image() -> None:
    there = {path for name in ("orchestrator", "worker") for path in (ROOT / name).rglob("*") if path.is_file()}
    wanted = {path for path in there if "__pycache__" not in path.parts}
    kept: set[Path] = set(build.project_files())
    assert wanted - kept == set()
    assert {path.suffix for path in wanted} >= {".py", ".lua", ".txt"}


def test_files_lie_in_the_image_as_the_wheel_has_them() -> None:
    placed = {str(build.installed_path(path)) for path in build.project_files()}
    assert {"mayfly/__init__.py", "mayfly/py.typed", "orchestrator/cli/__init__.py", "worker/__init__.py"} <= placed
    assert not any(path.startswith("orchestrator/client/") for path in placed)


def test_services_with_a_way_out_have_the_hosts_certificate_authorities() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    leaving = {name for name, service in services.items() if {"out", "receivers"} & {*service["networks"]}}
    assert leaving == {"api", "broker", "alertmanager"}
    for name in leaving:
        used = services[name]["environment"]["SSL_CERT_FILE"]
        assert f"${{MAYFLY_CA_FILE:-/etc/ssl/certs/ca-certificates.crt}}:{used}:ro" in services[name]["volumes"], name


@pytest.mark.parametrize("script", ["prepare.sh", "install.sh"])
def test_each_user_of_redis_gets_a_password(script: str) -> None:
    text = (ROOT / "deploy" / script).read_text()
    loops = re.findall(r"for role in ([a-z -]+); do secret", text)
    made = {*" ".join(loops).split(), *re.findall(r"secret redis-([a-z-]+)", text)}
    assert made == ROLES.keys()
