"""The stacks of Swarm, beside the file of compose."""

from __future__ import annotations

from typing import Any

import yaml

from tests.harness import ROOT

DEPLOY = ROOT / "deploy"


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return found


def has_way_out(service: dict[str, Any], networks: dict[str, Any]) -> bool:
    return not all(networks[name].get("internal") for name in service["networks"])


def test_swarm_gives_each_service_the_walls_of_compose() -> None:
    """But for those that Swarm ignores."""
    composed = read("compose.yaml")
    stacks = [read("swarm/stack.yaml"), read("swarm/workers.yaml")]
    networks = stacks[0]["networks"]
    for stack in stacks:
        for service, found in stack["services"].items():
            theirs = composed["services"][service]
            assert (found["read_only"], found["cap_drop"]) == (True, ["ALL"]), service
            assert found["user"].split(":")[0] == theirs["user"].split(":")[0], service
            assert found["healthcheck"]["test"] == theirs["healthcheck"]["test"], service
            assert found["deploy"]["endpoint_mode"] == "dnsrr", service
            assert str(found["deploy"]["resources"]["limits"]["pids"]) == str(theirs["pids_limit"]), service
            assert "security_opt" not in found, service
            limit = str(found["deploy"]["resources"]["limits"]["memory"])
            assert limit.lower() == str(theirs["mem_limit"]).lower(), service
            assert has_way_out(found, networks) == has_way_out(theirs, composed["networks"]), service
            assert found.get("dns") == theirs.get("dns"), service
            assert has_way_out(found, networks) == ("dns" not in found), service
