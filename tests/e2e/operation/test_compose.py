"""The compose deployment, really started: two APIs behind the proxy, two workers, an execution through all of it."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import docker
import httpx2
import pytest

from orchestrator.backup.catalogue import chosen
from orchestrator.backup.encryption import Identities
from orchestrator.backup.restoration.reading import Reader
from orchestrator.backup.restoration.verifying import verify_backup
from orchestrator.backup.targets import open_target
from orchestrator.broker.declared.users import preferred
from orchestrator.settings import Settings
from orchestrator.store.platform.schema import NUMBER
from sandbox_image.tool_servers import wheels
from tests.builders.hosts.outside import outside, reaches
from tests.builders.processes.deployment import OTHERS, SERVICES, Deployment, command
from tests.builders.tools.tool_sandboxes import PROBE
from tests.harness import ROOT, eventually
from tests.lanes import locked

pytestmark = pytest.mark.timeout(900)  # the first build takes minutes
README = ROOT / "deploy" / "README.md"
PROGRAM = """
import pathlib
text = pathlib.Path("/inputs/data.csv").read_text()
pathlib.Path("/output/upper.csv").write_text(text.upper())
print(sum(range(3_000_000)), text)
"""


@pytest.fixture(scope="module")
def deployment(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    if os.getuid() != 0:
        pytest.skip("deploy/prepare.sh needs root")
    made = Deployment(tmp_path_factory.mktemp("compose"), images)
    made.prepare()
    made.configure()
    try:
        made("up", "-d", "--scale", "worker=2")
        eventually(made.healthy, "every service is healthy", 240)
        yield made
    except BaseException:
        sys.stdout.write(made.logs())
        raise
    finally:
        command(*made.with_sandboxes, "down", "-v")
    assert made.left() == []


def test_compose_file_is_valid(deployment: Deployment) -> None:
    deployment("config", "-q")
    assert deployment("ps").count("(healthy)") == 2 + OTHERS


def test_execution_passes_through_every_compose_service(deployment: Deployment) -> None:
    with deployment.client() as client:
        assert client.get("/readyz").status_code == 200
        eventually(lambda: len(client.get("/api/v1/workers").json()["items"]) == 2, "two workers are alive")
        content = base64.b64encode(b"a,b\n1,2\n").decode()
        body = {
            "environment": "python",
            "code": PROGRAM,
            "files": [{"path": "data.csv", "content": content, "encoding": "base64"}],
        }
        response = client.post("/api/v1/executions", json=body, headers={"Prefer": "wait=60"})
        assert response.status_code == 200, response.text
        execution = response.json()
        assert (execution["state"], execution["stdout"]) == ("succeeded", "4499998500000 a,b\n1,2\n\n")
        assert execution["usage"]["cpu_seconds"] > 0
        assert execution["usage"]["peak_memory_bytes"] > 0
        artifact = client.get(f"/api/v1/executions/{execution['id']}/artifacts/upper.csv")
        assert (artifact.status_code, artifact.content) == (200, b"A,B\n1,2\n")


def test_blob_goes_from_api_to_worker(deployment: Deployment) -> None:
    with deployment.client() as client:
        blob = client.put("/api/v1/blobs", content=b"x" * 3_000_000)
        assert blob.status_code == 201, blob.text
        body = {
            "environment": "python",
            "code": "import os; print(os.path.getsize('/inputs/big'))",
            "files": [{"path": "big", "blob": blob.json()["blob"]}],
        }
        execution = client.post("/api/v1/executions", json=body, headers={"Prefer": "wait=60"}).json()
        assert (execution["state"], execution["stdout"]) == ("succeeded", "3000000\n")


def resident(api: docker.APIClient, container: str) -> int:
    """The bytes of a container's processes, without the page cache."""
    found = api.stats(container, stream=False)["memory_stats"]["stats"]
    return int(found["total_rss"] if "total_rss" in found else found["anon"])


def test_services_are_of_debian_13_with_byte_code_and_redis_of_the_hosts_release(deployment: Deployment) -> None:
    """The host's Redis verifies backups, and cannot read what a later one writes."""
    look = "import os, sys, orchestrator.api as api; print(sys.version_info[:2], os.path.exists(api.__cached__))"
    shown = deployment("exec", "-T", "api", "python3", "-c", look)
    assert shown == "(3, 13) True\n", "Debian 13's Python, and byte code for it"
    version = r"v=(\d+\.\d+)"
    ours = re.search(version, deployment("exec", "-T", "redis", "/usr/bin/redis-server", "--version"))
    hosts = re.search(version, command("redis-server", "--version"))
    assert ours is not None
    assert hosts is not None
    assert ours[1] == hosts[1]


def test_services_fit_the_smallest_host(deployment: Deployment) -> None:
    """The memory that docs/operations/deployment.md names is for one worker; here are two."""
    ids = {name: [one["Id"] for one in deployment.service(name)] for name in SERVICES}
    api = docker.APIClient()
    try:
        taken = {name: sum(map(partial(resident, api), found)) for name, found in ids.items()}
    finally:
        api.close()
    assert min(taken.values()) > 1e6, taken
    assert sum(taken.values()) < 1.2e9, taken


def test_compose_containers_have_least_privilege(deployment: Deployment) -> None:
    found = deployment.containers()
    assert len(found) >= 2 + OTHERS
    for container in found:
        host = container["HostConfig"]
        assert not host["Privileged"], container["Name"]
        assert host["ReadonlyRootfs"], container["Name"]
        assert host["CapDrop"] == ["ALL"], container["Name"]
        assert not host["CapAdd"], container["Name"]
        assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"]), container["Name"]
        assert host["Memory"] > 0, container["Name"]
        assert host["PidsLimit"] > 0, container["Name"]
        if "com.docker.compose.service" in container["Config"]["Labels"]:
            assert host["RestartPolicy"]["Name"] == "unless-stopped", container["Name"]
            assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}, container["Name"]
            assert container["Config"]["Healthcheck"]["Test"], container["Name"]
        assert container["Config"]["User"].split(":")[0] not in ("", "0", "root"), container["Name"]


def test_only_the_engine_proxy_holds_the_engines_socket(deployment: Deployment) -> None:
    holders = {
        container["Config"]["Labels"].get("com.docker.compose.service", "a sandbox")
        for container in deployment.containers()
        if any(mount["Source"].endswith("docker.sock") for mount in container["Mounts"])
    }
    assert holders == {"engine-proxy"}
    look = "import os; print([p for p in ('/run/docker.sock', '/var/run/docker.sock') if os.path.exists(p)])"
    for service in ("api", "worker"):
        assert deployment("exec", "-T", service, "python3", "-c", look) == "[]\n"
    assert deployment("exec", "-T", "engine-proxy", "python3", "-c", look) == "['/run/docker.sock']\n"


# The users and groups of a process.
EVENT = "dev.mayfly.security.engine_call_refused"
RIGHTS = "import os; print(sorted({*os.getresuid(), *os.getresgid(), *os.getgroups()}))"
# A privileged container of any image, asked of an engine at a socket.
PRIVILEGED = """
import http.client, json, socket, sys
client = http.client.HTTPConnection("engine")
client.sock = socket.socket(socket.AF_UNIX)
client.sock.connect(sys.argv[1])
body = json.dumps({"Image": sys.argv[2], "HostConfig": {"Privileged": True, "Binds": ["/:/host"]}})
client.request("POST", "/containers/create?name=mayfly-" + sys.argv[3], body, {"Content-Type": "application/json"})
answer = client.getresponse()
print(answer.status, answer.read().decode())
"""


def test_worker_has_nothing_that_is_root(deployment: Deployment) -> None:
    """The control is the same call by the engine proxy's process, which has the engine's socket."""
    assert deployment("exec", "-T", "worker", "python3", "-c", RIGHTS) == "[10001]\n"
    image, name = deployment.service("redis")[0]["Image"], f"{deployment.name}-privileged"

    def ask(service: str, socket: str) -> str:
        return deployment("exec", "-T", service, "python3", "-c", PRIVILEGED, socket, image, name)

    assert ask("worker", "/run/mayfly/engine.sock").startswith("403 ")
    with deployment.client() as client:
        events = lambda: client.get("/api/v1/security-events", params={"type": EVENT}).json()["items"]  # noqa: E731
        assert eventually(events, "the refused call is an event")[0]["data"]["why"] == "body"
    created, answer = ask("engine-proxy", "/run/docker.sock").split(" ", 1)
    assert created == "201"
    command("docker", "rm", json.loads(answer)["Id"])


def test_only_the_broker_has_secrets_of_tool_servers(deployment: Deployment) -> None:
    found = {name: deployment.service(name)[0] for name in SERVICES}
    holders = {n for n, c in found.items() if any(m["Destination"].endswith("tool-secrets") for m in c["Mounts"])}
    assert holders == {"broker"}
    assert stat.S_IMODE((deployment.home / "tool-secrets").stat().st_mode) == 0o700
    with deployment.client() as client:
        declared = client.put("/api/v1/tool-servers/none", json={"url": "http://127.0.0.1:1/mcp"})
        assert declared.status_code == 200, declared.text
        eventually(lambda: client.get("/api/v1/tool-servers/none").json()["state"] == "down", "the broker tries it")


def test_only_broker_and_api_have_a_way_out(deployment: Deployment, tmp_path: Path) -> None:
    """The broker to tool servers, the API to issuers, each to a server outside that the others do not reach."""
    with outside(tmp_path) as url:
        assert {name for name in ("api", "broker") if reaches(deployment, name, url, 60)} == {"api", "broker"}
        assert not any(reaches(deployment, name, url, 3) for name in ("worker", "engine-proxy"))
        assert not reaches(deployment, "proxy", url, 3, "busybox"), "no answer comes back"
    networks = deployment.service("redis")[0]["NetworkSettings"]["Networks"]
    shown = json.loads(command("docker", "network", "inspect", *networks))
    assert [network["Internal"] for network in shown] == [True]
    trusted = "import ssl; print(len(ssl.create_default_context().get_ca_certs()) > 10)"
    assert deployment("exec", "-T", "api", "python3", "-c", trusted) == "True\n", "the host's authorities"


HEADERS = {
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "sandbox; default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
}
FORGED = """
import json, urllib.request
body = json.dumps({"name": "x", "tenant": "default", "scopes": ["executions:read"]}).encode()
headers = {"Authorization": "Bearer KEY", "X-Forwarded-For": "198.51.100.7", "Content-Type": "application/json"}
print(json.load(urllib.request.urlopen(urllib.request.Request("http://api:8000/api/v1/api-keys", body, headers)))["id"])
"""
QUESTIONS = {
    "as it is": [
        "os.getresuid() + os.getresgid()",
        "[line.split()[1] for line in open('/proc/self/status') if line.startswith('Cap')]",
        "os.environ['TOKEN']",
        "failure(socket.socket)",
        "os.path.exists('/run/secrets') or os.path.exists('/etc/mayfly') or os.path.exists('/var/lib/mayfly')",
        "failure(open, '/proc/1/environ', 'rb')",
        "failure(os.listdir, '/proc/1/root')",
        "os.getpid()",
        "code(libc.mount(b'x', b'/tmp', b'tmpfs', 0, None))",
        "code(libc.unshare(0x10000000))",
        "failure(open, '/usr/x', 'w')",
        "failure(open, '/tmp/x', 'w')",
        "forks(100)",
        "forks(200)",
    ],
    "without filter": ["code(libc.unshare(0x10000000))"],
    "without rlimits": ["forks(200)"],
    "of the broker's namespace": ["os.getpid()"],
    "with network": ["failure(socket.create_connection, ('redis', 6379))"],
}


def tool_server(deployment: Deployment) -> dict[str, Any]:
    with deployment.client() as client:
        found: dict[str, Any] = {"state": "not declared", **client.get("/api/v1/tool-servers/time").json()}
        return found


def test_tool_servers_run_in_rootless_sandboxes(deployment: Deployment) -> None:
    build = (sys.executable, "-m", "sandbox_image.build", "time", "--environments", "deploy/examples/tool-servers")
    with locked(deployment.images / "tool-servers.lock"):
        command(*build, "--output", str(deployment.images))
    files = f'"{deployment.home}/tool-files" = "/data:rw"'
    declaration = f'environment = "time"\nconnect_seconds = 60\n[files]\n{files}\n'
    (deployment.home / "tool-servers" / "time.toml").write_text(declaration)
    eventually(lambda: tool_server(deployment)["state"] == "down", "the plain broker refuses", 120)
    assert "MAYFLY_TOOL_SANDBOXES_ROOTLESS" in tool_server(deployment)["detail"]
    before = [container["Id"] for name in ("proxy", "api", "worker", "redis") for container in deployment.service(name)]
    deployment.done.append("$compose -f deploy/compose.sandboxes.yaml up -d --no-deps broker")
    command(*deployment.with_sandboxes, "up", "-d", "--no-deps", "broker")
    assert before == [
        container["Id"] for name in ("proxy", "api", "worker", "redis") for container in deployment.service(name)
    ]
    eventually(lambda: tool_server(deployment)["state"] == "ready", "the tool server is ready", 120)
    with deployment.client() as client:
        body = {"arguments": {"timezone": "Asia/Tokyo"}}
        answer = client.post("/api/v1/tools/time/get_current_time/calls", json=body)
        assert (answer.status_code, "+09:00" in answer.text) == (200, True), answer.text
    (broker,) = deployment.service("broker")
    host = broker["HostConfig"]
    assert (host["Privileged"], host["CapAdd"] or [], host["CapDrop"]) == (False, [], ["ALL"])
    assert (host["ReadonlyRootfs"], broker["Config"]["User"]) == (True, "10001:10001")
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert not any(mount["Source"].endswith("docker.sock") for mount in broker["Mounts"])


def test_rootless_sandbox_has_walls(deployment: Deployment) -> None:
    script = (ROOT / "tests" / "builders" / "tools" / "rootless_probe.py").read_text()
    asked = ("exec", "-T", "broker", "python3", "-c", script, PROBE, json.dumps(QUESTIONS))
    found = json.loads(command(*deployment.with_sandboxes, *asked).splitlines()[-1])
    uid = preferred("t", "probe")
    refused = str(errno.EPERM)
    assert found["as it is"] == [
        repr((uid,) * 6), repr(["0" * 16] * 5), "'secret'", refused, "False", str(errno.EACCES), str(errno.EACCES),
        "1", refused, refused, str(errno.EROFS), "0", "0", str(errno.EAGAIN),
    ]  # fmt: skip
    # The controls: each wall falls where the configuration is weakened.
    assert found["without filter"] == ["0"]
    assert found["without rlimits"] == ["0"]
    assert found["of the broker's namespace"] == [""], "crun counts the broker's threads, and makes no container"
    assert found["with network"] == ["0"]


def create_key(client: httpx2.Client, address: str) -> str:
    """Create an API key and claim to be that address; the address in the audit log."""
    body = {"name": "x", "tenant": "default", "scopes": ["executions:read"]}
    made = client.post("/api/v1/api-keys", json=body, headers={"X-Forwarded-For": address})
    assert made.status_code == 201, made.text
    entries = client.get("/api/v1/audit", params={"limit": 50}).json()["items"]
    (found,) = [entry["address"] for entry in entries if entry["resource"] == f"api-key/{made.json()['id']}"]
    return str(found)


def test_apis_trust_the_proxys_address_alone(deployment: Deployment) -> None:
    published = {name: [c["HostConfig"]["PortBindings"] or {} for c in deployment.service(name)] for name in SERVICES}
    assert [name for name, ports in published.items() if any(ports)] == ["proxy"]
    (proxy,) = deployment.service("proxy")
    networks = {name.rpartition("_")[2]: network for name, network in proxy["NetworkSettings"]["Networks"].items()}
    with deployment.client() as client:
        seen = create_key(client, "198.51.100.7")
        # The address of this client as the proxy sees it: the gateway of its outer network.
        assert seen == networks["front"]["Gateway"]
        ready = client.get("/readyz")
        for name, value in HEADERS.items():
            assert ready.headers[name] == value
        assert not {"server", "via"} & ready.headers.keys()
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"https://127.0.0.1:{deployment.port}/livez")  # without the installation's authority
    # The control: another service claims the same, and is not believed.
    script = FORGED.replace("KEY", (deployment.home / "secrets" / "admin-key").read_text().strip())
    (identity,) = deployment("exec", "-T", "worker", "python3", "-c", script).split()
    workers = {
        network["IPAddress"]
        for c in deployment.service("worker")
        for network in c["NetworkSettings"]["Networks"].values()
    }
    with deployment.client() as client:
        entries = client.get("/api/v1/audit", params={"limit": 50}).json()["items"]
    (address,) = [entry["address"] for entry in entries if entry["resource"] == f"api-key/{identity}"]
    assert address in workers


# All ports but that of the engine's name server.
LISTENING = """
for table in /proc/net/tcp*; do
  while read -r _ address _ state _; do
    if [ "$state" = 0A ] && [ "${address%%:*}" != 0B00007F ]; then echo "${address##*:}"; fi
  done < "$table"
done
"""
PLAIN = """
import socket
connection = socket.create_connection(("redis", 6379), 5)
connection.sendall(b"PING\\r\\n")
try:
    answer = connection.recv(99)
except ConnectionResetError:
    answer = b""
print("refused" if answer[:1] in (b"", b"\\x15") else answer)  # the end, or an alert of TLS
"""


def test_redis_speaks_tls_alone_to_its_users(deployment: Deployment) -> None:
    (redis,) = deployment.service("redis")
    assert redis["HostConfig"]["PortBindings"] in ({}, None)
    # The port of TLS alone is open, and refuses clients without TLS.
    assert set(deployment("exec", "-T", "redis", "dash", "-c", LISTENING).split()) == {f"{6379:04X}"}
    assert deployment("exec", "-T", "worker", "python3", "-c", PLAIN) == "refused\n"
    stranger = ("redis-cli", "--tls", "--cacert", "/etc/mayfly/ca.crt", "ping")
    assert deployment("exec", "-T", "redis", *stranger).startswith("NOAUTH")
    deployment("exec", "-T", "redis", "mayfly-redis", "ping")


def test_secrets_are_in_private_files_and_nowhere_else(deployment: Deployment) -> None:
    shown = json.dumps(deployment.containers()) + deployment.logs()
    files = sorted((deployment.home / "secrets").iterdir())
    roles = ("api", "backup", "broker", "engine-proxy", "exporter", "monitoring", "users", "worker")
    assert [file.name for file in files] == ["admin-key", *(f"redis-{role}" for role in roles), "signing-key"]
    for file in [*files, *(deployment.home / "tls").glob("**/*.key")]:
        assert file.read_text().strip() not in shown
        assert not stat.S_IMODE(file.stat().st_mode) & 0o077
    mounted = {n: [m["Destination"] for c in deployment.service(n) for m in c["Mounts"]] for n in ("worker", "redis")}
    keys = deployment.home / "token-keys" / "keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    assert json.loads(keys.read_text())[0]["pem"][30:60] not in shown
    assert not any("token-keys" in place for places in mounted.values() for place in places)
    for api in deployment.service("api"):
        assert "/etc/mayfly/token-keys" in [mount["Destination"] for mount in api["Mounts"]]
    with deployment.client() as client:
        assert len(client.get("/.well-known/jwks.json").json()["keys"]) == 1, "the API reads them"
    users = (deployment.home / "secrets" / "redis-users").read_text()
    passwords = [
        (deployment.home / "secrets" / f"redis-{role}").read_text().strip() for role in roles if role != "users"
    ]
    assert [password for password in passwords if password in users] == []
    assert "/run/secrets/admin-key" not in mounted["worker"]
    assert "/run/secrets/signing-key" not in mounted["redis"]


def test_backup_is_made_beside_the_services(deployment: Deployment, tmp_path: Path) -> None:
    with deployment.client() as client:
        assert client.put("/api/v1/blobs", content=b"of the backup").status_code == 201
    running = [container["Id"] for name in SERVICES for container in deployment.service(name)]
    command(*deployment.with_backups, "run", "--rm", "-T", "backup", "create")
    deployment.done.append("$compose -f deploy/compose.backup.yaml run --rm -T backup create")
    assert [container["Id"] for name in SERVICES for container in deployment.service(name)] == running
    target = open_target(str(deployment.home / "backups"))
    reader = Reader(target, chosen(target, None, None), Identities(deployment.home / "identity.txt"))
    verified = verify_backup(reader, Settings(state_dir=tmp_path))
    assert (verified.faults, verified.files > 0, verified.keys > 0) == ((), True, True)
    own = {file.role for file in reader.contents().own_files}
    assert own >= {"secret_file", "admin_key_file", "token_keys_file"}


def test_data_is_upgraded_with_the_settings_of_the_api(deployment: Deployment) -> None:
    apply = ("api", "python3", "-m", "orchestrator.cli", "upgrade", "apply")
    printed = deployment("run", "--rm", "-T", *apply)
    assert printed.splitlines()[-1] == f"The data has schema {NUMBER}, as before."
    found = deployment("exec", "-T", "api", "python3", "-c", "import os; print(os.listdir('/var/lib/mayfly/state'))")
    assert "records-sealed" in found, "no later migration seals a record without a seal"


def test_second_preparation_is_idempotent(deployment: Deployment) -> None:
    def state() -> dict[str, bytes]:
        files = (deployment.home / "compose.env", *(deployment.home / "secrets").iterdir())
        return {file.name: file.read_bytes() for file in files}

    before = state()
    printed = deployment.prepare()
    assert "service: unchanged" in printed
    assert state() == before
    digest = hashlib.sha256((deployment.home / "secrets" / "redis-users").read_bytes()).hexdigest()[:16]
    (redis,) = deployment.service("redis")
    assert redis["Config"]["Labels"]["redis-users"] == digest, "other users make another container"
    ids = [container["Id"] for container in deployment.service("api")]
    deployment("up", "-d", "--scale", "worker=2")
    assert ids == [container["Id"] for container in deployment.service("api")]


def test_missing_certificates_are_made_anew(deployment: Deployment) -> None:
    files = [deployment.home / "tls" / name / "server.crt" for name in ("proxy", "redis")]
    before = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    deployment.prepare()
    assert all(file.read_bytes() not in before for file in files)
    deployment("restart", "proxy", "redis")
    eventually(deployment.healthy, "every service is healthy again", 240)
    with deployment.client() as client:
        eventually(lambda: client.get("/readyz").status_code == 200, "the new certificates serve", 120)


WEAKER = """
services:
  api: {read_only: false}
  worker: {cap_add: [CHOWN]}
  broker: {cap_add: [CHOWN]}
"""


def test_services_report_missing_hardening(deployment: Deployment) -> None:
    names = ("api", "worker", "engine-proxy", "broker")
    assert '"confinement.lacking"' not in deployment("logs", "--tail=1000", *names)
    good = {name: deployment("logs", "--tail=1000", name) for name in names}
    assert [name for name, text in good.items() if '"confinement.complete"' not in text] == []
    weaker = deployment.home / "weaker.yaml"
    weaker.write_text(WEAKER)
    command(*deployment.compose, "-f", str(weaker), "up", "-d", "--no-deps", "api", "worker", "broker")
    eventually(lambda: deployment.healthy(workers=1), "every service is healthy", 240)
    with deployment.client() as client:
        eventually(lambda: len(client.get("/api/v1/workers").json()["items"]) == 1, "the worker is listed", 120)
        found = client.get("/readyz").json()["details"]["confinement"]
        (worker,) = client.get("/api/v1/workers").json()["items"]
    lacks = f"{worker['id']} lacks an empty set of capabilities (CapBnd 1)"
    assert found == f"api lacks a read-only root file system; {lacks}"
    logs = deployment("logs", "--tail=1000", "broker")
    assert '"lacking": ["an empty set of capabilities (CapBnd 1)"], "event": "confinement.lacking"' in logs
    deployment("up", "-d", "--scale", "worker=2")
    eventually(deployment.healthy, "every service is healthy", 240)
    with deployment.client() as client:
        eventually(lambda: len(client.get("/api/v1/workers").json()["items"]) == 2, "two workers are alive", 120)
        assert "confinement" not in client.get("/readyz").json()["details"]


HARDENED = {
    "no-new-privileges": ("--security-opt", "no-new-privileges"),
    "an empty set of capabilities (CapBnd a80425fb)": ("--cap-drop", "ALL"),
    "a user other than root": ("--user", "10001:10001"),
    "a read-only root file system": ("--read-only",),
}
LOOK = "from orchestrator.host.confinement import check_confinement as c; print(list(c('test', True)))"


@pytest.mark.parametrize("missing", [None, *HARDENED])
def test_service_sees_each_missing_part(deployment: Deployment, missing: str | None) -> None:
    """In containers of the service image; without a missing part none is reported."""
    options = [word for part, words in HARDENED.items() if part != missing for word in words]
    options += ["--user", "0:0"] if missing == "a user other than root" else []
    image = deployment.service("api")[0]["Config"]["Image"]
    printed = command("docker", "run", "--rm", "--network", "none", *options, image, "python3", "-c", LOOK)
    assert printed.splitlines()[-1] == repr([missing] if missing else [])


def test_stopped_worker_finishes_its_executions(deployment: Deployment) -> None:
    with deployment.client() as client:
        code = "import time; time.sleep(8); print('done')"
        body = {"environment": "python", "code": code, "limits": {"wall_seconds": 60}}
        execution = client.post("/api/v1/executions", json=body).json()
        place = f"/api/v1/executions/{execution['id']}"
        eventually(lambda: client.get(place).json()["state"] == "running", "the execution runs")
        workers = [worker["id"] for worker in client.get("/api/v1/workers").json()["items"]]
        assert [client.post(f"/api/v1/workers/{id}/drain").status_code for id in workers] == [202] * 2

        def draining() -> bool:
            return [worker["draining"] for worker in client.get("/api/v1/workers").json()["items"]] == [True] * 2

        eventually(draining, "both workers drain")
        queued = client.post("/api/v1/executions", json={"environment": "bash", "code": "echo later"}).json()
        deployment("stop", "worker")
        ended = client.get(place).json()
        assert (ended["state"], ended["stdout"], ended["attempt"]) == ("succeeded", "done\n", 1)
        eventually(lambda: len(deployment.containers()) == 2 + OTHERS, "of the services alone are there containers")
        deployment("up", "-d", "--scale", "worker=2")
        eventually(lambda: client.get("/readyz").status_code == 200, "the workers are registered again", 120)
        later = client.get(f"/api/v1/executions/{queued['id']}", params={"wait": 60}).json()
        assert (later["state"], later["stdout"], later["attempt"]) == ("succeeded", "later\n", 1)


def test_results_survive_a_stop(deployment: Deployment) -> None:
    with deployment.client() as client:
        body = {"environment": "python", "code": "print('kept')"}
        execution = client.post("/api/v1/executions", json=body, headers={"Prefer": "wait=60"}).json()
    assert deployment("exec", "-T", "redis", "mayfly-redis", "refused").strip() == "", (
        "no service was refused a command"
    )
    deployment("down")
    assert deployment.containers() == []
    deployment("up", "-d")
    eventually(lambda: deployment.healthy(workers=1), "every service is healthy again", 240)
    with deployment.client() as client:
        assert client.get(f"/api/v1/executions/{execution['id']}").json()["stdout"] == "kept\n"
        eventually(lambda: len(client.get("/api/v1/workers").json()["items"]) == 1, "the one worker is listed")


def test_every_readme_command_was_run(deployment: Deployment) -> None:
    texts = README.read_text() + "".join(
        (ROOT / "docs" / "operations" / name).read_text() for name in ("backup.md", "hardening.md")
    )
    blocks = (line.strip() for line in texts.splitlines() if line.startswith("    "))
    commands = [line.partition(" #")[0].strip() for line in blocks if line.startswith(("$compose", "deploy/prepare"))]
    assert commands
    ran = {*deployment.done, "$compose down -v"}  # which ends this module
    assert [line for line in commands if line not in ran] == []


def test_lock_entries_are_those_of_the_images_python() -> None:
    lock = (
        "a==1 ; python_full_version < '3.11.3' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "b[x]==2 ; sys_platform == 'win32' \\\n    --hash=sha256:cc\n"
        "c==3 \\\n    --hash=sha256:dd\n    # via a\nhatchling==1 \\\n    --hash=sha256:ee\n"
    )
    assert wheels.selected(lock, "3.11.2", "x86_64") == (
        "a==1 --hash=sha256:aa --hash=sha256:bb\nc==3 --hash=sha256:dd\n"
    )
    assert wheels.selected(lock, "3.11.7", "x86_64") == "c==3 --hash=sha256:dd\n"
