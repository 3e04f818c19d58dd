"""The manifests for Kubernetes: built by kustomize, valid for three versions, and checked for what they promise.

No cluster is here: they are not run.
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client import REGISTRY

from orchestrator import metrics
from orchestrator.settings import Settings
from tests.builders.kubernetes.manifests import MANIFESTS, built, name_of, newest_versions, objects, tool
from tests.harness import ROOT

UNKNOWN = {"ScaledObject"}  # of KEDA, which has no schema among those of Kubernetes
RESTRICTED = ("Deployment.mayfly.api", "Deployment.mayfly.broker", "Deployment.mayfly-workers.capacity")


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    """Every object by its name."""
    return {name_of(one): one for one in objects(built())}


@pytest.fixture(scope="module")
def pods(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The specifications of pods, by the object that makes them."""
    return {name: one["spec"]["template"]["spec"] for name, one in found.items() if "template" in one.get("spec", {})}


def validated(version: str, text: str, place: Path) -> list[str]:
    """The complaints of a version's schemas, strictly: an unknown field is one."""
    written = place / "objects.yaml"
    written.write_text(text)
    command = [tool("kubernetes-validate"), "-k", version, "--strict", str(written)]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = (done.stdout + done.stderr).splitlines()
    assert sum(line.startswith("INFO") for line in lines) > 0, lines
    return [line for line in lines if not line.startswith("INFO")]


@pytest.mark.parametrize("newest", [0, 1, 2])
def test_objects_are_valid_for_three_versions(newest: int, tmp_path: Path) -> None:
    complaints = validated(newest_versions()[newest], built(), tmp_path)
    assert [line for line in complaints if not any(kind in line for kind in UNKNOWN)] == []
    assert len(complaints) == len(UNKNOWN)


def test_unknown_field_is_found(tmp_path: Path) -> None:
    text = built().replace("readOnlyRootFilesystem:", "readOnlyRootFileSystem:")
    complaints = validated(newest_versions()[0], text, tmp_path)
    assert any("readOnlyRootFileSystem" in line for line in complaints)


class Finding(NamedTuple):
    """A failed check of one object."""

    check: str
    resource: str


def checked(text: str, place: Path) -> set[Finding]:
    """The findings of checkov."""
    written = place / "objects.yaml"
    written.write_text(text)
    command = [tool("checkov"), "--file", str(written), "--framework", "kubernetes", "--output", "json"]
    done = subprocess.run([*command, "--quiet", "--compact", "--skip-download"], capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 100, done.stdout[:2000]
    assert report["summary"]["parsing_errors"] == 0
    return {Finding(one["check_id"], one["resource"]) for one in report["results"]["failed_checks"]}


@pytest.mark.timeout(900)  # the first call installs checkov
@pytest.mark.complete
def test_each_finding_of_checkov_is_explained(tmp_path: Path) -> None:
    explained = tomllib.loads((MANIFESTS / "findings.toml").read_text())["finding"]
    reasons = {Finding(one["check"], resource): one["reason"] for one in explained for resource in one["resources"]}
    assert all(len(reason) > 20 for reason in reasons.values())
    assert checked(built(), tmp_path) == reasons.keys()
    weaker = built().replace("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true")
    assert Finding("CKV_K8S_20", "Deployment.mayfly.api") in checked(weaker, tmp_path)


def test_pods_without_sandboxes_are_restricted(pods: dict[str, dict[str, Any]]) -> None:
    """As the profile ``restricted`` of pod security wants them, and with a read-only root."""
    assert pods.keys() == {*RESTRICTED, "DaemonSet.mayfly-workers.worker"}
    for name in RESTRICTED:
        pod = pods[name]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & pod.keys(), name
        assert not [volume for volume in pod.get("volumes", []) if "hostPath" in volume], name
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name


def test_namespaces_enforce_their_profiles(found: dict[str, dict[str, Any]]) -> None:
    labels = {
        one["metadata"]["name"]: one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for one in found.values()
        if one["kind"] == "Namespace"
    }
    assert labels == {"mayfly": "restricted", "mayfly-workers": "privileged"}


def test_worker_has_the_documented_rights_alone(pods: dict[str, dict[str, Any]]) -> None:
    worker = pods["DaemonSet.mayfly-workers.worker"]
    paths = {one["hostPath"]["path"] for one in worker["volumes"] if "hostPath" in one}
    assert paths == {"/sys/fs/cgroup", "/var/lib/mayfly/oci", "/var/lib/mayfly/images"}
    page = (ROOT / "docs" / "operations" / "kubernetes.md").read_text()
    assert all(f"| `{path}` of the node" in page for path in paths)
    assert not {"hostNetwork", "hostPID", "hostIPC"} & worker.keys()
    (container,) = worker["containers"]
    assert container["securityContext"] == {"privileged": True, "runAsUser": 0, "readOnlyRootFilesystem": True}
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment["MAYFLY_DRIVER"] == "oci"
    assert worker["terminationGracePeriodSeconds"] > float(environment["MAYFLY_DRAIN_SECONDS"])


def test_every_container_has_probes_resources_and_no_token(pods: dict[str, dict[str, Any]]) -> None:
    for name, pod in pods.items():
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
            assert "memory" in container["resources"]["limits"], name
            assert re.search("@sha256:[0-9a-f]{64}$", container["image"]), name
            if name.endswith("capacity"):
                continue
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert container[probe]["httpGet"]["port"] in ports, name


def test_secrets_are_references(found: dict[str, dict[str, Any]], pods: dict[str, dict[str, Any]]) -> None:
    """None is in the manifests, and each pod has its own: the admin's key is the API's alone."""
    assert not [name for name, one in found.items() if one["kind"] == "Secret"]
    secrets = {
        name: {volume["secret"]["secretName"] for volume in pod.get("volumes", []) if "secret" in volume}
        for name, pod in pods.items()
    }
    assert secrets == {
        "Deployment.mayfly.api": {"api"},
        "Deployment.mayfly.broker": {"broker", "tool-secrets"},
        "DaemonSet.mayfly-workers.worker": {"worker"},
        "Deployment.mayfly-workers.capacity": set(),
    }
    for name, pod in pods.items():
        variables = {one["name"] for container in pod["containers"] for one in container.get("env", [])}
        assert ("MAYFLY_ADMIN_KEY_FILE" in variables) == name.endswith(".api"), name


def test_blobs_are_the_apis_and_workers_fetch_them(pods: dict[str, dict[str, Any]]) -> None:
    claims = [name for name, pod in pods.items() if any("persistentVolumeClaim" in v for v in pod.get("volumes", []))]
    assert claims == ["Deployment.mayfly.api"]
    (container,) = pods["DaemonSet.mayfly-workers.worker"]["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment["MAYFLY_BLOBS_URL"].startswith("https://")
    assert {"MAYFLY_WORKER_TOKEN_FILE", "MAYFLY_BLOBS_CA_FILE"} <= environment.keys()


def test_variables_are_settings(found: dict[str, dict[str, Any]], pods: dict[str, dict[str, Any]]) -> None:
    named = {one["name"] for pod in pods.values() for c in pod["containers"] for one in c.get("env", [])}
    named |= {key for one in found.values() if one["kind"] == "ConfigMap" for key in one["data"]}
    ours = {name.removeprefix("MAYFLY_").lower() for name in named if name.startswith("MAYFLY_")}
    assert ours - Settings.model_fields.keys() == set()
    assert len(ours) > 20


def test_nothing_connects_but_as_listed(found: dict[str, dict[str, Any]]) -> None:
    policies = [one for one in found.values() if one["kind"] == "NetworkPolicy"]
    for namespace in ("mayfly", "mayfly-workers"):
        (closed,) = [
            one["spec"]
            for one in policies
            if one["metadata"]["namespace"] == namespace and one["spec"]["podSelector"] == {}
        ]
        assert set(closed["policyTypes"]) == {"Ingress", "Egress"}
        assert not {"ingress", "egress"} & closed.keys()
    ports: dict[str, set[tuple[str, int]]] = {}
    for one in policies:
        for way in ("ingress", "egress"):
            for rule in one["spec"].get(way, []):
                place = f"{one['metadata']['namespace']}/{one['metadata']['name']}/{way}"
                ports.setdefault(place, set()).update((port["protocol"], port["port"]) for port in rule["ports"])
                assert rule["from" if way == "ingress" else "to"], place
    inner = {("UDP", 53), ("TCP", 53), ("TCP", 6379)}
    assert ports == {
        "mayfly/names-and-redis/egress": inner,
        "mayfly-workers/names-redis-and-api/egress": inner | {("TCP", 443)},
        "mayfly/way-out/egress": {("TCP", 443)},
        "mayfly/clients/ingress": {("TCP", 8000)},
        "mayfly/metrics/ingress": {("TCP", 9100), ("TCP", 9102)},
        "mayfly-workers/metrics/ingress": {("TCP", 9101)},
    }


def test_evictions_leave_an_api_and_a_broker(found: dict[str, dict[str, Any]]) -> None:
    for name in ("api", "broker"):
        budget = found[f"PodDisruptionBudget.mayfly.{name}"]["spec"]
        deployment = found[f"Deployment.mayfly.{name}"]["spec"]
        assert budget["selector"]["matchLabels"].items() <= deployment["template"]["metadata"]["labels"].items()
        assert deployment["replicas"] - budget["maxUnavailable"] >= 1


def test_scaling_follows_the_oldest_waiting_execution(found: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    scaled = found["ScaledObject.mayfly-workers.capacity"]
    assert scaled["spec"]["scaleTargetRef"]["name"] == "capacity"
    assert "replicas" not in found["Deployment.mayfly-workers.capacity"]["spec"], "KEDA's to set"
    (trigger,) = scaled["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    assert re.findall(r"mayfly_\w+", query) == ["mayfly_queue_oldest_seconds"]
    assert metrics.queue_oldest
    assert REGISTRY.get_sample_value("mayfly_queue_oldest_seconds") is not None
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": [{"record": "x", "expr": query}]}]}))
    subprocess.run(["promtool", "check", "rules", str(rules)], check=True, capture_output=True)
