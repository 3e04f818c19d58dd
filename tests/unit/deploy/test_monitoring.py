"""Prometheus's configuration, and each alert: promtool accepts it, it fires on its fault alone, and has a section."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from orchestrator import metrics
from tests.harness import ROOT

DIRECTORY = ROOT / "deploy" / "monitoring"
ALERTS = yaml.safe_load((DIRECTORY / "alerts.yml").read_text())["groups"][0]["rules"]
FOREIGN = {"up", "redis_up", "redis_memory_used_bytes", "redis_memory_max_bytes"}
# For each alert, series in which its fault is there (promtool's notation, a value a minute), and series without it.
UP = {f'up{{job="{job}",instance="a"}}': "1x30" for job in ("api", "worker", "broker")} | {"redis_up": "1x30"}
FAULTS: dict[str, dict[str, str]] = {
    "NoApi": {'up{job="api",instance="a"}': "0x30"},
    "NoWorker": {'up{job="worker",instance="a"}': "0x30"},
    "ProcessDown": {'up{job="api",instance="b"}': "0x30"},
    "ExecutionsWait": {"mayfly_queue_oldest_seconds": "61+60x30"},
    "LaunchesFail": {'mayfly_worker_launches_blocked{instance="a",isolation="standard"}': "1x30"},
    "DiskFull": {'mayfly_worker_disks_full{instance="a"}': "1x30"},
    "PlatformFaults": {
        'mayfly_executions_finished_total{fault="platform",state="errored"}': "0+2x30",
        'mayfly_executions_finished_total{fault="",state="succeeded"}': "0+98x30",
    },
    "JanitorFails": {"mayfly_janitor_failures_total": "0+1x30"},
    "SandboxWeakened": {'mayfly_security_events_total{kind="weak_container"}': "0 0 0+1x30"},
    "RedisDown": {"redis_up": "0x30"},
    "RedisNearlyFull": {"redis_memory_used_bytes": "90x30", "redis_memory_max_bytes": "100x30"},
}
SOUND = {
    "mayfly_queue_oldest_seconds": "59x30",
    'mayfly_worker_launches_blocked{instance="a",isolation="standard"}': "0x30",
    'mayfly_worker_disks_full{instance="a"}': "0x30",
    'mayfly_executions_finished_total{fault="platform",state="errored"}': "5x30",
    'mayfly_executions_finished_total{fault="",state="succeeded"}': "0+98x30",
    "mayfly_janitor_failures_total": "3x30",
    'mayfly_security_events_total{kind="weak_container"}': "1x30",
    'mayfly_security_events_total{kind="timeout"}': "0+5x30",
    "redis_memory_used_bytes": "84x30",
    "redis_memory_max_bytes": "100x30",
}


def promtool(*words: str | Path) -> str:
    if shutil.which("promtool") is None:
        pytest.skip("there is no promtool")
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_promtool_accepts_rules_and_configuration(tmp_path: Path) -> None:
    assert promtool("check", "rules", DIRECTORY / "alerts.yml") == ""
    text = (DIRECTORY / "prometheus.yml").read_text().replace("/etc/mayfly", str(DIRECTORY))
    (tmp_path / "prometheus.yml").write_text(text)
    assert promtool("check", "config", tmp_path / "prometheus.yml") == ""
    (tmp_path / "prometheus.yml").write_text(text.replace("job_name: api", "job_nam: api"))
    assert "job_nam" in promtool("check", "config", tmp_path / "prometheus.yml")


def evaluated(cases: list[tuple[dict[str, str], dict[str, bool]]], place: Path) -> str:
    """promtool's complaint unless after 20 minutes of each case's series the alerts fire, or do not, as expected."""
    rules = {"groups": [{"name": "mayfly", "rules": [plain(rule) for rule in ALERTS]}]}
    (place / "rules.yml").write_text(yaml.safe_dump(rules))
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "alert_rule_test": [
                {"eval_time": "20m", "alertname": name, "exp_alerts": [{}] if fires else []}
                for name, fires in expected.items()
            ],
        }
        for series, expected in cases
    ]
    (place / "test.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": tests}))
    return promtool("test", "rules", place / "test.yml")


def plain(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule without labels and annotations, which are compared with nothing here; those of its series summed away."""
    return {"alert": rule["alert"], "expr": f"sum({rule['expr']})", "for": rule.get("for", "0s")}


def test_each_alert_fires_on_its_fault_alone(tmp_path: Path) -> None:
    names = [rule["alert"] for rule in ALERTS]
    faulty = [({**UP, **SOUND, **FAULTS[name]}, {name: True}) for name in names]
    sound = ({**UP, **SOUND}, dict.fromkeys(names, False))
    assert evaluated([*faulty, sound], tmp_path) == ""
    complaint = evaluated([({**UP, **SOUND}, dict.fromkeys(names, True))], tmp_path)
    assert [name for name in names if name not in complaint] == [], "the control: none fires without its fault"


def test_alerts_name_metrics_that_exist() -> None:
    """All modules of Mayfly have theirs in ``orchestrator/metrics.py``."""
    assert metrics
    ours = {name for family in REGISTRY.collect() for name in (family.name, *(s.name for s in family.samples))}
    ours |= {f"{family.name}_total" for family in REGISTRY.collect() if family.type == "counter"}
    for rule in ALERTS:
        used = set(re.findall(r"\b(?:mayfly|redis)_\w+|\bup\b", rule["expr"]))
        assert used, rule["alert"]
        assert used - FOREIGN - ours == set(), rule["alert"]


def test_each_alert_has_a_severity_and_a_section() -> None:
    page = (ROOT / "docs" / "operations" / "monitoring.md").read_text()
    sections = re.findall(r"^### (\w+)\n\S", page, re.MULTILINE)
    assert [rule["alert"] for rule in ALERTS] == sections
    assert {rule["labels"]["severity"] for rule in ALERTS} == {"critical", "warning"}
    assert all(rule["annotations"]["summary"] for rule in ALERTS)
    assert FAULTS.keys() == {*sections}


def test_every_process_of_the_deployment_is_scraped() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    scraped = yaml.safe_load((DIRECTORY / "prometheus.yml").read_text())["scrape_configs"]
    named = {
        job["dns_sd_configs"][0]["names"][0]: job["dns_sd_configs"][0]["port"]
        for job in scraped
        if "dns_sd_configs" in job
    }
    ports = {
        "api": services["api"]["environment"]["MAYFLY_API_METRICS_PORT"],
        "worker": services["worker"]["environment"]["MAYFLY_METRICS_PORT"],
        "engine-proxy": services["engine-proxy"]["environment"]["MAYFLY_ENGINE_METRICS_PORT"],
        "broker": services["broker"]["environment"]["MAYFLY_TOOL_METRICS_PORT"],
    }
    assert {name: str(port) for name, port in named.items()} == ports
    others = {
        target.split(":")[0] for job in scraped for one in job.get("static_configs", ()) for target in one["targets"]
    }
    profile = {name for name, service in services.items() if service.get("profiles") == ["metrics"]}
    assert others - {"127.0.0.1"} == profile - {"prometheus"}
