"""The compose deployment, really started: two workers, a Redis with a password, an execution through all of it."""

from __future__ import annotations

import base64
import errno
import json
import os
import secrets
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orchestrator.broker.declared.users import preferred
from sandbox_image.tool_servers import wheels
from tests.builders.tools.tool_sandboxes import PROBE
from tests.harness import ROOT, eventually, free_port
from tests.lanes import locked

pytestmark = pytest.mark.timeout(900)  # the first build takes minutes
README = ROOT / "deploy" / "README.md"
PROGRAM = """
import pathlib
text = pathlib.Path("/inputs/data.csv").read_text()
pathlib.Path("/output/upper.csv").write_text(text.upper())
print(sum(range(3_000_000)), text)
"""
# The tests' own settings must not reach compose, which prefers the environment to its file.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("MAYFLY_", "COMPOSE_"))}


def command(*arguments: str) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, env=CLEAN, timeout=1200)
    assert done.returncode == 0, f"{arguments}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


class Deployment:
    """An installation of deploy/prepare.sh and deploy/compose.yaml, under a name and in a directory of its own."""

    def __init__(self, home: Path, images: Path) -> None:
        self.home, self.images = home, images
        self.name = f"test-{secrets.token_hex(6)}"
        self.port = free_port()
        options = ("-p", self.name, "--env-file", str(home / "compose.env"), "-f", "deploy/compose.yaml")
        self.compose = ("docker-compose", *options)
        self.with_sandboxes = (*self.compose, "-f", "deploy/compose.sandboxes.yaml")
        self.done: list[str] = []

    def prepare(self) -> str:
        changes = {"IMAGES": str(self.images), "PYTHON": sys.executable}
        env = [f"{name}={value}" for name, value in changes.items()]
        self.done.append("deploy/prepare.sh")
        return command("env", *env, "deploy/prepare.sh", str(self.home))

    def configure(self) -> None:
        settings = self.home / "compose.env"
        written = settings.read_text().replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        written = written.replace("INSTALLATION=mayfly", f"INSTALLATION={self.name}")
        own = {"UID_FIRST": 100_000 + secrets.randbelow(1_000_000_000), "POOL_SIZE": 0, "POOL_SIZES": '{"python":1}'}
        own["RATE_LIMIT"] = "1000/second"  # waiting is many requests
        settings.write_text(written + "".join(f"MAYFLY_{name}={value}\n" for name, value in own.items()))

    def __call__(self, *arguments: str) -> str:
        self.done.append(f"$compose {' '.join(arguments)}")
        return command(*self.compose, *arguments)

    def logs(self) -> str:
        return self("ps") + self("logs", "--tail=40")

    def client(self) -> httpx2.Client:
        key = (self.home / "secrets" / "admin-key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}"}
        return httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=90)

    def service(self, name: str) -> list[dict[str, Any]]:
        """The engine's description of a service's containers."""
        return self._inspected(f"com.docker.compose.project={self.name}", f"com.docker.compose.service={name}")

    def containers(self) -> list[dict[str, Any]]:
        """Every container of this deployment: the services' and the sandboxes."""
        ours = self._inspected(f"com.docker.compose.project={self.name}")
        return ours + self._inspected(f"dev.mayfly.installation={self.name}")

    def left(self) -> list[str]:
        """Containers, networks, volumes and leases that there are."""
        label = f"label=com.docker.compose.project={self.name}"
        found = [container["Name"] for container in self.containers()]
        found += command("docker", "network", "ls", "--quiet", "--filter", label).split()
        found += command("docker", "volume", "ls", "--quiet", "--filter", label).split()
        return found + [path.name for path in (self.home / "sandboxes").iterdir()]

    def _inspected(self, *labels: str) -> list[dict[str, Any]]:
        filters = [part for label in labels for part in ("--filter", f"label={label}")]
        ids = command("docker", "ps", "--all", "--quiet", "--no-trunc", *filters).split()
        if not ids:
            return []
        # One may be gone meanwhile, which makes `inspect` fail but not withhold the others.
        shown = subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, env=CLEAN)
        found: list[dict[str, Any]] = json.loads(shown.stdout)
        return found


@pytest.fixture(scope="module")
def deployment(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    if shutil.which("docker-compose") is None:
        pytest.fail("there is no docker-compose: deploy/setup.sh --dev")
    if os.getuid() != 0:
        pytest.skip("deploy/prepare.sh needs root")
    made = Deployment(tmp_path_factory.mktemp("compose"), images)
    made.prepare()
    made.configure()
    try:
        made("up", "-d", "--scale", "worker=2")
        eventually(lambda: healthy(made), "all five services are healthy", 240)
        yield made
    except BaseException:
        sys.stdout.write(made.logs())
        raise
    finally:
        command(*made.with_sandboxes, "down", "-v")
    assert made.left() == []


def healthy(made: Deployment, workers: int = 2) -> bool:
    names = ("api", "worker", "broker", "redis")
    states = [c["State"].get("Health", {}).get("Status") for name in names for c in made.service(name)]
    return states == ["healthy"] * (workers + 3)


def test_compose_file_is_valid(deployment: Deployment) -> None:
    deployment("config", "-q")
    assert deployment("ps").count("(healthy)") == 5


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


def test_compose_containers_have_least_privilege(deployment: Deployment) -> None:
    found = deployment.containers()
    assert len(found) >= 5
    for container in found:
        host = container["HostConfig"]
        assert not host["Privileged"], container["Name"]
        assert host["ReadonlyRootfs"], container["Name"]
        assert host["CapDrop"] == ["ALL"], container["Name"]
        assert not host["CapAdd"], container["Name"]
        assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"]), container["Name"]
        assert host["Memory"] > 0, container["Name"]
        assert host["PidsLimit"] > 0, container["Name"]
        assert container["Config"]["User"].split(":")[0] not in ("", "0", "root"), container["Name"]


def test_only_workers_hold_the_engines_socket(deployment: Deployment) -> None:
    holders = {
        container["Config"]["Labels"].get("com.docker.compose.service", "a sandbox")
        for container in deployment.containers()
        if any(mount["Source"].endswith("docker.sock") for mount in container["Mounts"])
    }
    assert holders == {"worker"}
    look = "import os; print([p for p in ('/run/docker.sock', '/var/run/docker.sock') if os.path.exists(p)])"
    assert deployment("exec", "-T", "api", "python3", "-c", look) == "[]\n"


def test_only_the_broker_has_secrets_of_tool_servers_and_a_way_out(deployment: Deployment) -> None:
    found = {name: deployment.service(name)[0] for name in ("api", "worker", "broker", "redis")}
    holders = {n for n, c in found.items() if any(m["Destination"].endswith("tool-secrets") for m in c["Mounts"])}
    leaving = {n for n, c in found.items() if any(net.endswith("_out") for net in c["NetworkSettings"]["Networks"])}
    assert holders == leaving == {"broker"}
    assert stat.S_IMODE((deployment.home / "tool-secrets").stat().st_mode) == 0o700
    with deployment.client() as client:
        declared = client.put("/api/v1/tool-servers/none", json={"url": "http://127.0.0.1:1/mcp"})
        assert declared.status_code == 200, declared.text
        eventually(lambda: client.get("/api/v1/tool-servers/none").json()["state"] == "down", "the broker tries it")


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
        "forks(200)",
    ],
    "without filter": ["code(libc.unshare(0x10000000))"],
    "without rlimits": ["forks(200)"],
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
    before = [container["Id"] for name in ("api", "worker", "redis") for container in deployment.service(name)]
    deployment.done.append("$compose -f deploy/compose.sandboxes.yaml up -d --no-deps broker")
    command(*deployment.with_sandboxes, "up", "-d", "--no-deps", "broker")
    assert before == [container["Id"] for name in ("api", "worker", "redis") for container in deployment.service(name)]
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
        "1", refused, refused, str(errno.EROFS), "0", str(errno.EAGAIN),
    ]  # fmt: skip
    # The controls: each wall falls where the configuration is weakened.
    assert found["without filter"] == ["0"]
    assert found["without rlimits"] == ["0"]
    assert found["with network"] == ["0"]


def test_redis_requires_password_and_is_not_published(deployment: Deployment) -> None:
    answer = deployment("exec", "-T", "redis", "redis-cli", "ping")
    assert answer.startswith("NOAUTH")
    deployment("exec", "-T", "redis", "mayfly-redis", "ping")
    (redis,) = deployment.service("redis")
    assert redis["HostConfig"]["PortBindings"] in ({}, None)
    (api,) = deployment.service("api")
    assert [bound["HostIp"] for bound in api["NetworkSettings"]["Ports"]["8000/tcp"]] == ["127.0.0.1"]


def test_secrets_are_in_private_files_and_nowhere_else(deployment: Deployment) -> None:
    shown = json.dumps(deployment.containers()) + deployment.logs()
    files = sorted((deployment.home / "secrets").iterdir())
    assert [file.name for file in files] == ["admin-key", "redis-password", "signing-key"]
    for file in files:
        assert file.read_text().strip() not in shown
        assert not stat.S_IMODE(file.stat().st_mode) & 0o007
    mounted = {n: [m["Destination"] for c in deployment.service(n) for m in c["Mounts"]] for n in ("worker", "redis")}
    keys = deployment.home / "token-keys" / "keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    assert json.loads(keys.read_text())[0]["pem"][30:60] not in shown
    assert not any("token-keys" in place for places in mounted.values() for place in places)
    (api,) = deployment.service("api")
    assert "/etc/mayfly/token-keys" in [mount["Destination"] for mount in api["Mounts"]]
    with deployment.client() as client:
        assert len(client.get("/.well-known/jwks.json").json()["keys"]) == 1, "the API reads them"
    assert "/run/secrets/admin-key" not in mounted["worker"]
    assert "/run/secrets/signing-key" not in mounted["redis"]


def test_second_preparation_is_idempotent(deployment: Deployment) -> None:
    def state() -> dict[str, bytes]:
        files = (deployment.home / "compose.env", *(deployment.home / "secrets").iterdir())
        return {file.name: file.read_bytes() for file in files}

    before = state()
    printed = deployment.prepare()
    assert "service: unchanged" in printed
    assert state() == before
    ids = [container["Id"] for container in deployment.service("api")]
    deployment("up", "-d", "--scale", "worker=2")
    assert ids == [container["Id"] for container in deployment.service("api")]


def test_stopped_worker_finishes_its_executions(deployment: Deployment) -> None:
    with deployment.client() as client:
        code = "import time; time.sleep(8); print('done')"
        body = {"environment": "python", "code": code, "limits": {"wall_seconds": 60}}
        execution = client.post("/api/v1/executions", json=body).json()
        place = f"/api/v1/executions/{execution['id']}"
        eventually(lambda: client.get(place).json()["state"] == "running", "the execution runs")
        deployment("stop", "worker")
        ended = client.get(place).json()
        assert (ended["state"], ended["stdout"], ended["attempt"]) == ("succeeded", "done\n", 1)
        eventually(lambda: len(deployment.containers()) == 5, "of the services alone are there containers")
        deployment("up", "-d", "--scale", "worker=2")
        eventually(lambda: client.get("/readyz").status_code == 200, "the workers are registered again", 120)


def test_results_survive_a_stop(deployment: Deployment) -> None:
    with deployment.client() as client:
        body = {"environment": "python", "code": "print('kept')"}
        execution = client.post("/api/v1/executions", json=body, headers={"Prefer": "wait=60"}).json()
    deployment("down")
    assert deployment.containers() == []
    deployment("up", "-d")
    eventually(lambda: healthy(deployment, workers=1), "every service is healthy again", 240)
    with deployment.client() as client:
        assert client.get(f"/api/v1/executions/{execution['id']}").json()["stdout"] == "kept\n"
        eventually(lambda: len(client.get("/api/v1/workers").json()["items"]) == 1, "the one worker is listed")


def test_every_readme_command_was_run(deployment: Deployment) -> None:
    blocks = (line.strip() for line in README.read_text().splitlines() if line.startswith("    "))
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
