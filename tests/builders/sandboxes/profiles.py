"""Sandbox profiles of declared environments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.environments import load_environments
from tests.harness import ROOT
from worker.sandbox.profile import SandboxProfile, sandbox_profile

ENVIRONMENTS = load_environments([ROOT / "sandbox_image" / "environments", ROOT / "tests" / "environments"])


UID, AGENT_UID = 70_001, 70_002
OWN_UIDS: dict[str, int | None] = {"standard": None, "hardened": AGENT_UID}


def profile_of(
    environment: str = "python", isolation: Any = "standard", loopback: bool = False, **changed: Any
) -> SandboxProfile:
    declared = ENVIRONMENTS[environment]
    return sandbox_profile(
        declared,
        isolation,
        declared.defaults,
        uid=UID,
        image="sha256:1",
        runtime="runc",
        binds={"/inputs": Path("/somewhere/inputs"), "/run/identity": Path("/somewhere/identity")},
        name="mayfly-test",
        labels={},
        loopback=loopback,
        **{"agent_uid": OWN_UIDS[isolation], **changed},
    )
