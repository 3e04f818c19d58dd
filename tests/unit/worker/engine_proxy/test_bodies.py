"""Bodies of calls: those that the worker builds are permitted, for every environment and tier, and no others."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.host.posture import INSTALLATION_LABEL, UID_LABEL
from orchestrator.models import Isolation
from orchestrator.settings import Settings
from tests.builders.sandboxes.profiles import ENVIRONMENTS
from worker.drivers.docker.config import WORKER_LABEL, container_config, nano_cpus
from worker.engine_proxy.bodies import Bodies
from worker.engine_proxy.calls import Refused
from worker.host.hostdirs import HostDir
from worker.sandbox.profile import STARTING_CORES, pids_limit, sandbox_profile

UID = 200_123
PYTHON = ENVIRONMENTS["python"]


def image_of(name: str) -> str:
    return f"sha256:{name.encode().hex():0<64}"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in ENVIRONMENTS:
        described = {"image_id": image_of(name), "size_bytes": 1}
        (tmp_path / f"{name}.json").write_text(json.dumps(described))
    return Settings(images_dir=tmp_path, sandbox_dir=tmp_path / "sandboxes", installation="mine")


@pytest.fixture
def bodies(settings: Settings) -> Bodies:
    return Bodies(settings, ENVIRONMENTS)


def config_of(
    settings: Settings, name: str = "python", isolation: Isolation = "standard", loopback: bool = False, **changed: Any
) -> dict[str, Any]:
    """As the worker builds it."""
    environment, uid = ENVIRONMENTS[name], changed.get("uid", UID)
    lease = HostDir(uid, settings.sandboxes_path / str(uid))
    profile = sandbox_profile(
        environment,
        isolation,
        changed.pop("limits", environment.defaults),
        uid=uid,
        image=image_of(name),
        runtime="runc" if isolation == "standard" else "runsc",
        binds=lease.binds(loopback),
        name="mayfly-w-1",
        labels={UID_LABEL: str(uid)},
        loopback=loopback,
        agent_uid=uid + 1 if isolation == "hardened" else None,
    )
    config = container_config(profile)
    config["Labels"] = config["Labels"] | {INSTALLATION_LABEL: "mine", WORKER_LABEL: "w-1"}
    return config


def permitted(bodies: Bodies, config: Any) -> bool:
    try:
        made = bodies.creation(json.dumps(config).encode())
    except Refused:
        return False
    assert made.config == config
    return True


@pytest.mark.parametrize("loopback", [False, True])
@pytest.mark.parametrize("isolation", ["standard", "hardened"])
@pytest.mark.parametrize("name", ["python", "node", "bash"])
def test_every_sandbox_of_a_worker_is_permitted(
    bodies: Bodies, settings: Settings, name: str, isolation: Isolation, loopback: bool
) -> None:
    declared = ENVIRONMENTS[name]
    odd = {"cpu_cores": 0.37, "memory_bytes": 123_456_789, "processes": 7, "disk_bytes": 54_321}
    for limits in (declared.defaults, declared.maxima, declared.defaults.model_copy(update=odd)):
        config = config_of(settings, name, isolation, loopback, limits=limits)
        made = bodies.creation(json.dumps(config).encode())
        assert (made.config, made.environment.name, made.isolation) == (config, name, isolation)
        assert made.lease == settings.sandboxes_path / str(UID)


@pytest.mark.parametrize("field", ["cpu_cores", "memory_bytes", "processes", "disk_bytes"])
def test_limits_above_the_environments_are_refused(bodies: Bodies, settings: Settings, field: str) -> None:
    most = getattr(PYTHON.maxima, field)
    over = PYTHON.defaults.model_copy(update={field: most + 1})
    assert not permitted(bodies, config_of(settings, limits=over))
    assert permitted(bodies, config_of(settings, limits=PYTHON.defaults.model_copy(update={field: most})))


def test_uids_of_others_are_refused(bodies: Bodies, settings: Settings) -> None:
    first, last = settings.uid_first, settings.uid_first + settings.uid_count - 1
    assert [permitted(bodies, config_of(settings, uid=uid)) for uid in (first, last)] == [True, True]
    assert not any(permitted(bodies, config_of(settings, uid=uid)) for uid in (0, 1000, first - 1, last + 1))


def test_labels_and_limits_of_no_worker_are_refused(bodies: Bodies, settings: Settings) -> None:
    """Values that the profile only repeats, so that a comparison with it finds nothing."""
    good = config_of(settings)
    for worker in ("", "a b", "w\n", "w" * 201):
        assert not permitted(bodies, good | {"Labels": good["Labels"] | {WORKER_LABEL: worker}}), worker
    without_room = PYTHON.defaults.model_copy(update={"processes": 0})
    assert not permitted(bodies, config_of(settings, limits=without_room))


def test_another_value_in_any_place_is_refused(bodies: Bodies, settings: Settings) -> None:
    """Each value of the body in turn, and a further field in each object."""
    good = config_of(settings)
    assert permitted(bodies, good)
    # A value that another permitted container has; what it means there is another test's subject.
    free = {"Labels.dev.mayfly.worker", "HostConfig.PidsLimit", "HostConfig.NanoCpus"}
    places = list(walk(good))
    assert len(places) > 100
    for place in places:
        changed = json.loads(json.dumps(good))
        inner = changed
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = other(inner[place[-1]])
        if ".".join(map(str, place)) not in free:
            assert not permitted(bodies, changed), place
    for extended in (good | {"Foo": 1}, good | {"HostConfig": good["HostConfig"] | {"Foo": None}}):
        assert not permitted(bodies, extended)


def walk(value: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = False
    for key, inner in items:
        found = True
        yield from walk(inner, *above, key)
    if not found:
        yield above


def other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 10_000
    if isinstance(value, str):
        return f"{value}x"
    return {"Foo": 1} if isinstance(value, dict) else [*value, "x"]


@pytest.mark.parametrize("body", [[], None, 1, "x", {}, {"Image": 1}, {"HostConfig": []}])
def test_body_of_another_form_is_refused(bodies: Bodies, body: Any) -> None:
    assert not permitted(bodies, body)


@pytest.mark.parametrize("field", ["NanoCpus", "Memory", "PidsLimit"])
@pytest.mark.parametrize(
    "value",
    [10**400, 2**63, -(10**400), 1e300, float("nan")],
    ids=["huge", "beyond 64 bits", "negative", "float", "nan"],
)
def test_numbers_without_a_bound_are_refused(bodies: Bodies, settings: Settings, field: str, value: float) -> None:
    config = config_of(settings)
    config["HostConfig"][field] = value
    assert not permitted(bodies, config)


def test_digits_of_other_scripts_are_no_uid(bodies: Bodies, settings: Settings) -> None:
    """``int`` takes them, and so one uid would have several directories."""
    other_digits = str(UID).translate({ord(str(n)): chr(0x660 + n) for n in range(10)})
    assert int(other_digits) == UID, "the control"
    text = json.dumps(config_of(settings))
    for place in (f'"{UID_LABEL}": "{UID}"', f"/{UID}/"):
        assert place in text
        text = text.replace(place, place.replace(str(UID), other_digits))
    with pytest.raises(Refused):
        bodies.creation(text.encode())


def test_refusal_names_the_fields(bodies: Bodies, settings: Settings) -> None:
    config = config_of(settings)
    config["hostConfig"] = {"Privileged": True}
    config["HostConfig"]["Binds"] = ["/:/host"]
    with pytest.raises(Refused, match=r"HostConfig\.Binds, hostConfig"):
        bodies.creation(json.dumps(config).encode())


def test_only_images_of_the_table_are_permitted(bodies: Bodies, settings: Settings) -> None:
    assert bodies.image(image_of("python")) == settings.images_path / "python.tar"
    with pytest.raises(Refused):
        bodies.image("sha256:" + "0" * 64)
    assert not permitted(bodies, config_of(settings) | {"Image": "sha256:" + "0" * 64})


def test_limits_are_changed_within_the_environments_bounds(bodies: Bodies, settings: Settings) -> None:
    creation = bodies.creation(json.dumps(config_of(settings)).encode())
    most = PYTHON.maxima
    caps = {
        "Memory": most.memory_bytes,
        "MemorySwap": most.memory_bytes,
        "NanoCpus": nano_cpus(max(most.cpu_cores, STARTING_CORES)),
        "PidsLimit": pids_limit("standard", most),
    }
    assert bodies.update(json.dumps(caps).encode(), creation) == caps
    cpus = {"NanoCpus": (os.cpu_count() or 1) * 10**9}
    assert bodies.update(json.dumps(cpus).encode(), creation) == cpus
    refused: list[Any] = [caps | {name: value + 1} for name, value in caps.items()]
    refused.append(caps | dict.fromkeys(("Memory", "MemorySwap"), most.memory_bytes + 1))
    refused += [caps | {name: bad} for name in caps for bad in (0, -1, True, 1.5, None, "1")]
    refused += [{name: caps[name] for name in caps if name != left} for left in caps]
    refused += [caps | {"RestartPolicy": {"Name": "always"}}, {"NanoCpus": cpus["NanoCpus"] + 1}, {}, [], None]
    refused += [caps | {"memory": 2**40}, caps | {"DeviceCgroupRules": ["a *:* rwm"]}]
    for body in refused:
        with pytest.raises(Refused):
            bodies.update(json.dumps(body).encode(), creation)
