"""The stacks of Swarm, beside the file of compose."""

from __future__ import annotations

import yaml

from tests.harness import ROOT

DEPLOY = ROOT / "deploy"


def test_swarm_gives_each_service_the_walls_of_compose() -> None:
    """But for those that Swarm ignores."""
    composed = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name in ("stack.yaml", "workers.yaml"):
        for service, found in yaml.safe_load((DEPLOY / "swarm" / name).read_text())["services"].items():
            theirs = composed[service]
            assert (found["read_only"], found["cap_drop"]) == (True, ["ALL"]), service
            assert found["user"].split(":")[0] == theirs["user"].split(":")[0], service
            assert found["healthcheck"]["test"] == theirs["healthcheck"]["test"], service
            assert found["deploy"]["endpoint_mode"] == "dnsrr", service
            assert str(found["deploy"]["resources"]["limits"]["pids"]) == str(theirs["pids_limit"]), service
            assert "security_opt" not in found, service
