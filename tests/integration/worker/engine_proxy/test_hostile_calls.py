"""A worker that an attacker controls: what the engine would do for it, the engine proxy refuses.

Every test has the same bytes sent to the engine itself as its control.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from orchestrator import metrics
from orchestrator.host.posture import INSTALLATION_LABEL
from tests.builders.sandboxes.proxied import Proxied, ask, send
from tests.harness import eventually
from worker.engine_proxy import containers
from worker.engine_proxy.serving import MOST_BODY_BYTES
from worker.host.hostdirs import HostDir

CREATE = "/v1.41/containers/create?name="


@pytest.fixture(scope="module")
def lease(proxied: Proxied) -> Iterator[HostDir]:
    made = proxied.host_dirs.lease()
    yield made
    proxied.host_dirs.release(made.path)


def created(proxied: Proxied, path: Path, body: Any, target: str | None = None) -> dict[str, Any] | None:
    """The engine's description of a container that was made and removed again; ``None`` if it was not made."""
    name = proxied.name()
    answer = ask(path, "POST", target or CREATE + name, body)
    if answer.status != 201:
        assert answer.status in (400, 403), answer
        return None
    made: dict[str, Any] = ask(proxied.engine, "GET", f"/containers/{answer.json['Id']}/json").json
    assert ask(path, "DELETE", f"/containers/{answer.json['Id']}?force=1&v=1").status == 204
    return made


# Fields of HostConfig that weaken a sandbox, in the engine's spelling, and some in others, which it takes as well.
HOST: dict[str, Any] = {
    "Privileged": True,
    "privileged": True,
    "Binds": ["/:/host"],
    "binds": ["/:/host"],
    "Mounts": [{"Type": "bind", "Source": "/etc", "Target": "/etc2"}],
    "mounts": [{"Type": "bind", "Source": "/etc", "Target": "/etc2"}],
    "VolumesFrom": [],
    "Devices": [{"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/kmsg", "CgroupPermissions": "rwm"}],
    "DeviceCgroupRules": ["a *:* rwm"],
    "DeviceRequests": [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}],
    "Networ\u212aMode": "host",  # the Kelvin sign, and below a long s: the engine's decoder folds both
    "\u017fecurityOpt": ["seccomp=unconfined"],
    "CapAdd": ["SYS_ADMIN"],
    "CapDrop": [],
    "SecurityOpt": ["seccomp=unconfined"],
    "PidMode": "host",
    "IpcMode": "host",
    "UsernsMode": "host",
    "CgroupnsMode": "host",
    "NetworkMode": "host",
    "Runtime": "crun",
    "ReadonlyRootfs": False,
    "MemorySwap": -1,
    "NanoCpus": 0,
    "PidsLimit": 0,
    "MaskedPaths": [],
    "ReadonlyPaths": [],
    "Tmpfs": {"/work": "rw,suid,dev,exec,size=1000000"},
    "Ulimits": [],
    "OomScoreAdj": -1000,
    "OomKillDisable": True,
    "GroupAdd": ["0"],
    "CgroupParent": "/other",
    "Sysctls": {"net.ipv4.ip_forward": "1"},
    "Init": True,
    "AutoRemove": True,
    "RestartPolicy": {"Name": "always"},
    "LogConfig": {"Type": "json-file", "Config": {}},
    "ExtraHosts": ["a:1.2.3.4"],
    "PortBindings": {"80/tcp": [{"HostPort": "1"}]},
    "PublishAllPorts": True,
    "CpusetCpus": "0",
    "CpuShares": 100_000,
    "BlkioWeight": 0,
    "ShmSize": 2**40,
    "Unknown": 1,
}
ALONE = ("AutoRemove",)
OUTER: dict[str, Any] = {
    "hostConfig": {"Privileged": True},
    "HOSTCONFIG": {"Privileged": True},
    "User": "0:0",
    "Entrypoint": ["/usr/bin/sh", "-c", "id"],
    "Cmd": ["id"],
    "Env": ["LD_PRELOAD=/work/x.so"],
    "Volumes": {"/data": {}},
    "Healthcheck": {"Test": ["CMD-SHELL", "id"], "Interval": 10**9},
    "WorkingDir": "/work",
    "Hostname": "other",
    "Labels": {},
    "labels": {INSTALLATION_LABEL: "other"},
    "StdinOnce": False,
    "Tty": True,
    "NetworkDisabled": False,
    "NetworkingConfig": {"EndpointsConfig": {"bridge": {}}},
    "StopSignal": "SIGCONT",
    "ExposedPorts": {"80/tcp": {}},
    "Unknown": 1,
}


def test_container_of_the_profile_is_permitted(proxied: Proxied, lease: HostDir) -> None:
    """The control of all refusals below."""
    assert created(proxied, proxied.path, proxied.profile(lease)) is not None


def test_fields_beyond_the_profile_are_refused(proxied: Proxied, lease: HostDir) -> None:
    good = proxied.profile(lease)
    changed = {f"HostConfig.{name}": good | {"HostConfig": good["HostConfig"] | {name: HOST[name]}} for name in HOST}
    changed |= {name: good | {name: OUTER[name]} for name in OUTER}
    before = refusals("body")
    assert [name for name, body in changed.items() if created(proxied, proxied.path, body) is not None] == []
    assert refusals("body") == before + len(changed)
    # The control: the engine takes all of them, at once but for those that it does not combine.
    together = [{name: value for name, value in HOST.items() if name not in ALONE}, {n: HOST[n] for n in ALONE}]
    for fields, outer in zip(together, (OUTER, {}), strict=True):
        body = good | outer | {"HostConfig": good["HostConfig"] | fields}
        assert created(proxied, proxied.engine, body) is not None


def refusals(reason: str) -> float:
    return float(metrics.engine_calls_refused.labels(reason)._value.get())


def test_spelling_and_repetition_decide_in_the_engine_alone(proxied: Proxied, lease: HostDir) -> None:
    """The engine takes the last of several keys, whatever their capitals."""
    good = json.dumps(proxied.profile(lease))
    for key in ("HostConfig", "hostconfig", "HOSTCONFIG", "Ho\u017ftConfig", "Ho\\u017ftConfig"):
        body = good[:-1] + f', "{key}": {{"Privileged": true}}}}'
        assert created(proxied, proxied.path, body) is None
        made = created(proxied, proxied.engine, body)
        assert made is not None and made["HostConfig"]["Privileged"], key


def test_engine_gets_the_built_body(proxied: Proxied, lease: HostDir) -> None:
    """Equal to the client's, and never the client's own text, which the engine may read otherwise."""
    body = proxied.profile(lease) | {"OpenStdin": 1}  # equal to ``True``, which the engine does not take it for
    assert created(proxied, proxied.path, body) is not None
    assert ask(proxied.engine, "POST", CREATE + proxied.name(), body).status in (400, 500)


def test_unnamed_containers_and_other_bodies_are_refused(proxied: Proxied, lease: HostDir) -> None:
    """The engine chooses a name, and reads long bodies. Versions before 1.24 read a configuration at the start."""
    good, unnamed = proxied.profile(lease), CREATE.partition("?")[0]
    long = json.dumps(good) + " " * MOST_BODY_BYTES
    for path, is_made in ((proxied.path, False), (proxied.engine, True)):
        assert (created(proxied, path, good, unnamed) is not None) is is_made
        assert (created(proxied, path, long) is not None) is is_made
    id = ask(proxied.path, "POST", CREATE + proxied.name(), good).json["Id"]
    calls = [ask(proxied.path, "POST", f"/containers/{id}/{call}", {"Binds": []}) for call in ("start", "wait", "kill")]
    assert [answer.status for answer in calls] == [403, 403, 403]
    assert ask(proxied.path, "DELETE", f"/containers/{id}?force=1").status == 204


def test_number_of_containers_is_bounded(proxied: Proxied, lease: HostDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine knows no bound."""
    monkeypatch.setattr(containers, "MOST_CONTAINERS", 2)
    ids = [ask(proxied.path, "POST", CREATE + proxied.name(), proxied.profile(lease)) for _ in range(3)]
    assert [answer.status for answer in ids] == [201, 201, 403]
    for answer in ids[:2]:
        assert ask(proxied.path, "DELETE", f"/containers/{answer.json['Id']}?force=1").status == 204
    assert created(proxied, proxied.path, proxied.profile(lease)) is not None, "there is room again"


def test_refusal_reaches_a_client_that_still_sends(proxied: Proxied) -> None:
    head = b"POST /v1.41/exec HTTP/1.1\r\nHost: engine\r\nContent-Length: 100000\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(proxied.path))
        client.sendall(head)
        assert client.recv(12) == b"HTTP/1.1 403"  # before the body
        client.sendall(b"x" * 100_000)
        while client.recv(4096):
            pass


def test_bound_holds_for_creations_at_once(proxied: Proxied, lease: HostDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "MOST_CONTAINERS", 2)
    names = [proxied.name() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda name: ask(proxied.path, "POST", CREATE + name, proxied.profile(lease)), names))
    assert sorted(answer.status for answer in answers) == [201, 201, *[403] * 6]
    for answer in answers:
        if answer.status == 201:
            ask(proxied.path, "DELETE", f"/containers/{answer.json['Id']}?force=1")


def test_client_that_hangs_up_on_a_removal_leaves_no_entry(
    proxied: Proxied, lease: HostDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "MOST_CONTAINERS", 1)
    made = ask(proxied.path, "POST", CREATE + proxied.name(), proxied.profile(lease))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(proxied.path))
        client.sendall(f"DELETE /containers/{made.json['Id']}?force=1 HTTP/1.1\r\nHost: engine\r\n\r\n".encode())

    def room() -> bool:
        return created(proxied, proxied.path, proxied.profile(lease)) is not None

    eventually(room, "there is room again")


def test_images_beyond_the_table_are_refused(proxied: Proxied, lease: HostDir) -> None:
    """By a tag, whose image can change, and an image of the engine that is no environment's."""
    good = proxied.profile(lease)
    tags = ask(proxied.engine, "GET", f"/images/{good['Image']}/json").json["RepoTags"]
    for body in (good | {"Image": tags[0]}, good | {"Image": good["Image"][7:]}, good | {"image": tags[0]}):
        assert created(proxied, proxied.path, body) is None
        assert created(proxied, proxied.engine, body) is not None


def test_mounts_beyond_the_lease_are_refused(proxied: Proxied, lease: HostDir) -> None:
    good = proxied.profile(lease)
    sources = (str(lease.path.parent), f"{lease.inputs}/../../../../../etc", "/etc", f"{lease.path}/inputs/")
    for source in sources:
        body = json.loads(json.dumps(good))
        body["HostConfig"]["Mounts"][0]["Source"] = source
        assert created(proxied, proxied.path, body) is None, source
        assert created(proxied, proxied.engine, body) is not None, source


@pytest.fixture(scope="module")
def foreign(proxied: Proxied, lease: HostDir) -> Iterator[str]:
    """A running container of another installation."""
    body = proxied.profile(lease)
    body["Labels"] = body["Labels"] | {INSTALLATION_LABEL: "other"}
    id = ask(proxied.engine, "POST", CREATE + proxied.name(), body).json["Id"]
    assert ask(proxied.engine, "POST", f"/containers/{id}/start").status == 204
    yield id
    assert ask(proxied.engine, "DELETE", f"/containers/{id}?force=1").status == 204


# Calls for a container, with a status of the engine's own answer to the same call.
CALLS: tuple[tuple[str, str, Any, int], ...] = (
    ("GET", "/json", None, 200),
    ("GET", "/logs?stdout=1", None, 501),
    ("GET", "/top", None, 200),
    ("GET", "/changes", None, 200),
    ("GET", "/stats?stream=0&one-shot=1", None, 200),
    ("GET", "/archive?path=/etc/passwd", None, 200),
    ("HEAD", "/archive?path=/etc/passwd", None, 200),
    ("PUT", "/archive?path=/nowhere", None, 404),
    ("GET", "/export", None, 200),
    ("POST", "/exec", {"Cmd": ["id"]}, 201),
    ("POST", "/resize?h=1&w=1", None, 200),
    ("POST", "/update", {"NanoCpus": 10**9}, 200),
    ("POST", "/rename?name=mayfly-renamed", None, 204),
    ("POST", "/start", None, 304),
    ("POST", "/pause", None, 204),
    ("POST", "/unpause", None, 204),
    ("POST", "/kill?signal=CONT", None, 204),
)
REFUSED_ALONE = ("/wait", "/kill", "/stop", "/restart", "/attach?stream=1&stdin=1")  # which would end, or wait for it


def test_foreign_containers_are_out_of_reach(proxied: Proxied, foreign: str) -> None:
    before = ask(proxied.engine, "GET", f"/containers/{foreign}/json").json
    for method, path, body, _ in CALLS:
        assert ask(proxied.path, method, f"/v1.41/containers/{foreign}{path}", body).status == 403, path
    for path in REFUSED_ALONE:
        assert ask(proxied.path, "POST", f"/v1.41/containers/{foreign}{path}").status == 403, path
    assert ask(proxied.path, "GET", f"/v1.41/containers{before['Name']}/json").status == 403, "by its name"
    assert ask(proxied.path, "DELETE", f"/v1.41/containers/{foreign}?force=1").status == 403
    after = ask(proxied.engine, "GET", f"/containers/{foreign}/json").json
    assert (after["State"]["Status"], after["Name"], after["HostConfig"]) == (
        "running", before["Name"], before["HostConfig"]
    )  # fmt: skip
    found = {
        path: ask(proxied.engine, method, f"/v1.41/containers/{foreign}{path}", body) for method, path, body, _ in CALLS
    }
    assert {path: answer.status for path, answer in found.items()} == {path: status for _, path, _, status in CALLS}


def test_lists_have_own_containers_alone(proxied: Proxied, foreign: str) -> None:
    """Without a filter a list has only the uids of all installations, which a worker compares with its own."""
    own = json.dumps({"label": [f"{INSTALLATION_LABEL}={proxied.settings.installation}"]})
    assert (
        foreign not in ask(proxied.path, "GET", f"/containers/json?all=1&filters={own.replace(' ', '')}").body.decode()
    )
    listed = ask(proxied.path, "GET", "/containers/json").json
    assert all(container.keys() == {"Labels"} for container in listed)
    assert "other" in [container["Labels"][INSTALLATION_LABEL] for container in listed]
    theirs = json.dumps({"label": [f"{INSTALLATION_LABEL}=other"]}).replace(" ", "")
    assert ask(proxied.path, "GET", f"/containers/json?filters={theirs}").status == 403
    assert foreign in ask(proxied.engine, "GET", f"/containers/json?filters={theirs}").body.decode()


# Of the engine as a whole, with its own answer.
GLOBAL: tuple[tuple[str, str, Any, int], ...] = (
    ("GET", "/images/json", None, 200),
    ("POST", "/images/load", None, 200),
    ("POST", "/build?remote=x", None, 500),
    ("POST", "/commit?container=none", None, 404),
    ("GET", "/plugins", None, 200),
    ("GET", "/volumes", None, 200),
    ("GET", "/networks", None, 200),
    ("GET", "/events?since=0&until=1", None, 200),
    ("GET", "/system/df", None, 200),
    ("GET", "/swarm", None, 503),
    ("GET", "/services", None, 503),
    ("GET", "/secrets", None, 503),
    ("POST", "/plugins/none/enable", None, 500),
    ("DELETE", "/volumes/none", None, 404),
    ("POST", "/networks/none/connect", {"Container": "none"}, 404),
    ("POST", "/exec/none/start", {"Detach": True}, 404),
    ("GET", "/images/none/get", None, 404),
    ("POST", "/images/none/tag?repo=x", None, 404),
    ("DELETE", "/images/none", None, 404),
    ("POST", "/containers/prune?filters=%7B%22label%22%3A%5B%22no-such-label%22%5D%7D", None, 200),
    # Other spellings of a permitted path.
    ("GET", "//info", None, 301),
    ("GET", "/v1.41/../v1.41/info", None, 301),
    ("GET", "/v1.41/%69nfo", None, 200),
    ("GET", "/containers/..%2finfo", None, 301),
    ("GET", "/v1.24/info", None, 200),
    ("HEAD", "/_ping", None, 200),
)


def test_every_other_call_is_refused(proxied: Proxied) -> None:
    found = {path: ask(proxied.path, method, path, body).status for method, path, body, _ in GLOBAL}
    assert set(found.values()) == {403}, found
    found = {path: ask(proxied.engine, method, path, body).status for method, path, body, _ in GLOBAL}
    assert found == {path: status for _, path, _, status in GLOBAL}


def chunked(target: str, body: bytes, *headers: str) -> bytes:
    """A request in one chunk, with a trailer."""
    lines = [f"POST {target} HTTP/1.1", "Host: engine", "Content-Type: application/json", *headers]
    head = "\r\n".join([*lines, "Transfer-Encoding: chunked", "Trailer: X-Late", "", ""]).encode()
    return head + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\nX-Late: 1\r\n\r\n"


def test_chunks_and_second_lengths_are_refused(proxied: Proxied, lease: HostDir) -> None:
    body = json.dumps(proxied.profile(lease)).encode()
    for headers in ((), ("Content-Length: 3",)):
        name = proxied.name()
        request = chunked(CREATE + name, body, *headers)
        assert status(send(proxied.path, request)) == 403
        assert ask(proxied.engine, "GET", f"/containers/{name}/json").status == 404
        assert status(send(proxied.engine, request)) == 201
        assert ask(proxied.engine, "DELETE", f"/containers/{name}").status == 204


def status(answer: bytes) -> int:
    """The status of the first answer."""
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer.split()[1])


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /info HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
        b"GET /info HTTP/1.1\r\nHost: x\r\nX: a\r\n\tb\r\nContent-Length : 5\r\n\r\n",
        b"GET /info\r\n\r\n",
        b"GET /info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"GET /info HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\nhello!",
        b"GET /info HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /info HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding\x0b: chunked\r\n\r\n0\r\n\r\n",
        b"GET http://engine/info HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT engine:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x00",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_malformed_requests_end_the_connection(proxied: Proxied, request_line: bytes) -> None:
    assert status(send(proxied.path, request_line)) in (400, 403)


def test_requests_behind_a_refused_upgrade_are_not_read(proxied: Proxied, foreign: str) -> None:
    """The engine answers the second request of a connection that it did not upgrade."""
    unknown = "0" * 64
    upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    second = f"POST /containers/{foreign}/update HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    second += 'Connection: close\r\nContent-Length: 19\r\n\r\n{"CpuShares": 1234}'
    smuggled = f"POST /containers/{unknown}/start HTTP/1.1\r\nHost: x\r\n{upgrade}{second}".encode()

    def shares() -> int:
        found: int = ask(proxied.engine, "GET", f"/containers/{foreign}/json").json["HostConfig"]["CpuShares"]
        return found

    answer = send(proxied.path, smuggled)
    assert (status(answer), answer.count(b"HTTP/1.1 "), shares()) == (403, 1, 0)
    answer = send(proxied.engine, smuggled)
    assert (status(answer), answer.count(b"HTTP/1.1 200"), shares()) == (404, 1, 1234)


def test_refused_calls_are_events(proxied: Proxied) -> None:
    """At 1, 10, 100 … of a minute, so that a worker cannot flood the log."""
    before = proxied.security.read(tenant=None, kind="engine_call_refused").position
    proxied.end()
    proxied.security._redis.delete("mayfly:security:counts:engine_call_refused")
    proxied.begin()
    for _ in range(11):
        answer = ask(proxied.path, "POST", "/v1.41/plugins/pull?remote=x")
        assert answer.json == {
            "message": "The engine proxy refuses this call: POST /v1.41/plugins/pull is not a call that workers make."
        }
    proxied.end()
    proxied.begin()
    found = proxied.security.read(tenant=None, after=before, kind="engine_call_refused").items
    assert [(entry.event["why"], entry.event["count"], entry.source) for entry in found] == [
        ("call", 1, "engine-proxy"), ("call", 10, "engine-proxy")
    ]  # fmt: skip
