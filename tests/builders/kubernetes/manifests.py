"""The manifests for Kubernetes as kustomize builds them, and tools that judge them, in an environment of their own."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import Any

import yaml

from tests.builders.processes.packages import fetched
from tests.harness import ROOT
from tests.lanes import locked

MANIFESTS = ROOT / "deploy" / "kubernetes"
LOCK = ROOT / "tests" / "builders" / "kubernetes" / "manifests.lock"
ENVIRONMENT = ROOT / ".mayfly" / "manifests"
KUSTOMIZE = "pool/main/k/kustomize/kustomize_5.6.0+ds-1+b2_amd64.deb"  # of Debian 13
DIGEST = "552bbe5563b522685b10f75a9a226bfbee9778fc313b205d595fdbb7e9c70e33"


@cache
def built() -> str:
    """The objects. Fails with kustomize's message."""
    command = ROOT / ".mayfly" / "kustomize"
    command.parent.mkdir(exist_ok=True)
    with locked(command.with_suffix(".lock")):
        assert command.exists() or fetched(KUSTOMIZE, DIGEST, "usr/bin/kustomize", command), (
            "Debian has another version"
        )
    done = subprocess.run([str(command), "build", str(MANIFESTS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(text: str) -> list[dict[str, Any]]:
    """The objects of a stream of documents."""
    return [one for one in yaml.safe_load_all(text) if one]


def name_of(one: dict[str, Any]) -> str:
    """Kind, namespace and name, as ``Deployment.mayfly.api``; objects outside of namespaces are in ``default``."""
    return f"{one['kind']}.{one['metadata'].get('namespace', 'default')}.{one['metadata']['name']}"


def tool(name: str) -> str:
    """A command of the locked packages, which are installed at the first call."""
    binaries, done = ENVIRONMENT / "bin", ENVIRONMENT / "done"
    ENVIRONMENT.parent.mkdir(exist_ok=True)
    with locked(ENVIRONMENT.with_suffix(".lock")):
        if not done.exists() or done.read_text() != LOCK.read_text():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
            install = [str(binaries / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
            subprocess.run([*install, "-r", str(LOCK)], check=True)
            done.write_text(LOCK.read_text())
    return str(binaries / name)


def newest_versions() -> list[str]:
    """The three newest versions of Kubernetes of which there are schemas, the newest first."""
    tool("kubernetes-validate")
    (schemas,) = ENVIRONMENT.glob("lib/python3*/site-packages/kubernetes_validate/kubernetes-json-schema")
    names = [path.name.removeprefix("v").partition("-")[0] for path in schemas.glob("v*-strict")]
    found = {tuple(map(int, name.split(".")[:2])) for name in names}
    return [".".join(map(str, version)) for version in sorted(found, reverse=True)[:3]]
