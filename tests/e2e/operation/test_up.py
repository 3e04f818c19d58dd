"""The two commands as a newcomer types them: `up`, programs run through the command line, `down`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
import redis

from mayfly import Client
from orchestrator.cli.commands.local.daemon import SYSTEM_PATH
from orchestrator.cli.commands.local.engine import Engine
from orchestrator.cli.commands.local.mounts import mount_points
from orchestrator.cli.commands.local.processes import start_time
from orchestrator.settings import PREFIX, Settings
from tests.builders.processes.installed import Installation, installed
from tests.harness import ROOT, eventually, free_port

WITH_ENGINE = ROOT / "deploy" / "with_engine.sh"
DOCKERD = shutil.which("dockerd", path=SYSTEM_PATH) or "/usr/sbin/dockerd"
HIDDEN = ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null "$0" && exec "$@"', DOCKERD]  # from what follows
UP_SECONDS = 240
QUEUED = 100
SLEEPER = "import time; print('awake', flush=True); time.sleep(60)"


@pytest.fixture(scope="module")
def running(images: Path) -> Iterator[Installation]:
    """An installation that is up; most tests here share it."""
    with installed(images) as made:
        made.printed = made.up()  # type: ignore[attr-defined]
        yield made


def test_up_refuses_a_disk_without_room(images: Path) -> None:
    with installed(images) as made:
        done = made.mayfly("up", MAYFLY_DISK_FREE_BYTES=str(10**15))
        printed = done.stderr.decode()
        assert (done.returncode, str(images) in printed, "1000000000 MB" in printed) == (1, True, True)
        assert not list(made.state.rglob("*.pid")), "nothing was started"


def test_up_ends_with_a_program_that_has_run(running: Installation) -> None:
    printed: str = running.printed  # type: ignore[attr-defined]
    assert "63 observations over 21 days" in printed
    assert (running.state / "sample" / "plot.png").read_bytes().startswith(b"\x89PNG")
    for needed in ("Mayfly is up", (running.state / "url").read_text().strip(), "api-key", "run prog.py"):
        assert needed in printed
    assert running.containers() != []


def test_files_written_by_up_are_private(running: Installation) -> None:
    files = ("api-key", "secret", "token-keys", "redis.sock")
    modes = {name: oct((running.state / name).stat().st_mode & 0o777) for name in files}
    assert modes == dict.fromkeys(files, "0o600")
    assert oct(running.state.stat().st_mode & 0o777) == "0o700"
    assert (running.state / "api-key").read_text().startswith("mfk_")


def test_first_administrator_is_made_after_up_and_logs_in(running: Installation) -> None:
    made = running.mayfly("admin", "create", "ann", "--generate", "--json")
    assert made.returncode == 0, made.stderr
    with Client((running.state / "url").read_text().strip(), "") as client:
        client.change_password("ann", json.loads(made.stdout)["password"], "a password of one's own")
        assert client.log_in("ann", "a password of one's own")["user"]["roles"] == ["admin"]


def test_local_redis_is_durable_and_has_no_port(running: Installation) -> None:
    with redis.Redis(unix_socket_path=str(running.state / "redis.sock")) as connection:
        names = ("appendonly", "maxmemory-policy", "port")
        found = {name: connection.config_get(name)[name] for name in names}
    assert found == {"appendonly": "yes", "maxmemory-policy": "noeviction", "port": "0"}


def test_second_up_is_idempotent(running: Installation) -> None:
    before = running.pids()
    assert set(before) == {"redis", "api", "worker", "supervisor"}
    printed = running.up()
    assert "nothing was changed" in printed
    assert before == running.pids()


@pytest.mark.parametrize("victim", ["redis", "api", "worker"])
def test_supervisor_restarts_each_process(running: Installation, victim: str) -> None:
    before, url = running.pids(), (running.state / "url").read_text()
    with Client(url.strip(), (running.state / "api-key").read_text().strip(), patience_seconds=240) as client:
        kept = client.run("print(1)").id
        accepted = [client.submit(f"print({number})").id for number in range(5)]
        os.kill(before[victim], signal.SIGKILL)
        eventually(lambda: running.pids()[victim] != before[victim], f"{victim} is started again", 60)
        assert [client.wait(id, 240).stdout for id in accepted] == [f"{number}\n" for number in range(5)]
        assert client.get(kept).stdout == "1\n"
        ready = eventually(lambda: (found := client.ready())["status"] == "ok" and found, "executions can run", 120)
    assert (running.state / "url").read_text() == url
    after = running.pids()
    assert {name for name in before if before[name] != after[name]} == {victim}
    printed = running.mayfly("status", "--json")
    assert printed.returncode == 0, printed.stdout
    (found,) = (one for one in json.loads(printed.stdout)["processes"] if one["name"] == victim)
    assert (found["state"], found["pid"], found["restarts"]) == ("running", after[victim], 1)
    assert found["reason"] == "ended by signal 9 (SIGKILL)"
    assert f"{victim} running, 1 restart, ended last at {found['ended_at']}: ended by signal 9" in str(ready["details"])
    log = (running.state / "supervisor.log").read_text()
    assert f'"process": "{victim}", "reason": "ended by signal 9 (SIGKILL)", "pause_seconds"' in log


def test_up_restarts_only_dead_processes(running: Installation) -> None:
    before = running.pids()
    running.kill("worker")
    status = running.mayfly("status")
    lines = dict(line.split("\t")[:2] for line in status.stdout.decode().splitlines())
    assert (status.returncode, lines["worker"], lines["api"]) == (1, "ended", "running")
    printed = running.up("--no-sample")
    after = running.pids()
    assert {name for name in before if before[name] != after[name]} == {"worker", "supervisor"}
    assert len(re.findall("started, pid", printed)) == 2
    with running.client() as client:
        assert client.run("print(2)").stdout == "2\n"


def test_pipe_file_and_artifacts(running: Installation, tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text(
        "import os, sys\n"
        "os.makedirs('/output/deep')\n"
        "open('/output/deep/copy.csv', 'w').write(open('inputs/data.csv').read())\n"
        "print(sys.argv[1:], os.environ['MODE'], sys.stdin.read())\n"
        "sys.stdout.flush(); sys.stdout.buffer.write(b'\\xff\\x00\\r\\n')\n"
        "print('aside', file=sys.stderr)\n"
    )
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    out = tmp_path / "results"
    done = running.mayfly(
        "run", str(tmp_path / "prog.py"), "--file", str(tmp_path / "data.csv"), "--out", str(out),
        "--set-env", "MODE=x", "--", "--fast", "ä",
        input="grüße".encode(),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"aside\n")
    assert done.stdout == "['--fast', 'ä'] x grüße\n".encode() + b"\xff\x00\r\n"
    assert (out / "deep" / "copy.csv").read_text() == "a,b\n1,2\n"


def test_a_large_input_is_uploaded_and_comes_back_whole(running: Installation, tmp_path: Path) -> None:
    data = os.urandom(5 * 2**20)
    (tmp_path / "big.bin").write_bytes(data)
    code = "import shutil; shutil.copy('inputs/big.bin', '/output/big.bin')"
    done = running.mayfly("run", "-c", code, "--file", str(tmp_path / "big.bin"), "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert hashlib.sha256((tmp_path / "out" / "big.bin").read_bytes()).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    ("words", "code", "printed"),
    [
        (("-c", "raise SystemExit(7)"), 7, b""),
        (("-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"), 139, b"mayfly: signalled: "),
        (("-c", "import time; time.sleep(60)", "--timeout", "0.5"), 124, b"mayfly: timed_out: "),
        (("-c", "x = bytearray(2**30)", "--memory", "64M"), 137, b"mayfly: oom_killed: "),
        (("-c", "import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0)"), 126, b"mayfly: security_violation: "),
        (("-c", "1", "--env", "cobol"), 2, b"mayfly: environment: there is no environment 'cobol'"),
        (("-c", "1", "--memory", "900G"), 2, b"mayfly: limits.memory_bytes: "),
        (("-c", "1", "--isolation", "none"), 2, b"mayfly: isolation: "),
        (("-c", "1", "--timeout", "4000"), 2, b"mayfly: limits.wall_seconds: "),
        (("-c", "1", "--priority", "urgent"), 2, b"mayfly: priority: "),
        (("-c", "print('x' * 5000000)"), 137, b"mayfly: output_exceeded: "),
        (("-c", "while True: pass", "--timeout", "0.5"), 124, b"mayfly: "),
        (("/nowhere.py",), 2, b"No such file"),
    ],
    ids=lambda value: value[1][:20] if isinstance(value, tuple) and len(value) > 1 else None,
)
def test_command_exits_as_documented(running: Installation, words: tuple[str, ...], code: int, printed: bytes) -> None:
    done = running.mayfly("run", *words)
    assert code == done.returncode, done.stderr.decode()
    assert printed in done.stderr
    assert printed or not done.stderr


def test_no_api_no_key(running: Installation) -> None:
    unreachable = running.mayfly("run", "-c", "1", MAYFLY_URL=f"http://127.0.0.1:{free_port()}")
    assert unreachable.returncode == 125
    assert b"make up" in unreachable.stderr
    stranger = running.mayfly("ls", MAYFLY_TOKEN="mfk_wrong")
    assert stranger.returncode == 2
    assert b"MAYFLY_TOKEN" in stranger.stderr


def test_every_reader_speaks_json(running: Installation) -> None:
    ran = json.loads(running.mayfly("run", "-c", "print(3)", "--json").stdout)
    assert (ran["state"], ran["stdout"]) == ("succeeded", "3\n")
    id = json.loads(running.mayfly("submit", "-c", "print(4)", "--json").stdout)["id"]
    assert running.mayfly("logs", "-f", id).stdout == b"4\n"
    assert running.mayfly("logs", id).stdout == b"4\n"
    assert json.loads(running.mayfly("show", id, "--json").stdout)["id"] == id
    assert json.loads(running.mayfly("cancel", id, "--json").stdout)["state"] == "succeeded"
    assert id in [item["id"] for item in json.loads(running.mayfly("ls", "--json").stdout)["items"]]
    assert len(json.loads(running.mayfly("environments", "--json").stdout)["items"]) >= 4

    def workers() -> int:
        return len(json.loads(running.mayfly("workers", "--json").stdout)["items"])

    eventually(lambda: workers() == 1, "a worker that another test has killed is listed no more", 60)
    assert json.loads(running.mayfly("version", "--json").stdout)["api"][0]["version"] == "v1"


def test_a_program_from_standard_input(running: Installation) -> None:
    assert running.mayfly("run", "-", input=b"print('piped')").stdout == b"piped\n"
    assert running.mayfly("run", "-", "--env", "bash", input=b"echo $((6*7))").stdout == b"42\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_cancels(running: Installation, number: signal.Signals, code: int) -> None:
    words = running.command("run", "-c", SLEEPER, "--timeout", "60", "--no-stdin")
    with subprocess.Popen(words, env=running.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"awake\n"
        process.send_signal(number)
        _, printed = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"cancelled_by_user" in printed
    with running.client() as client:
        assert next(client.executions()).state == "cancelled"


def test_command_cancels_its_execution_when_its_reader_leaves(running: Installation) -> None:
    loop = "while True: print('x' * 1000, flush=True)"
    words = running.command("run", "-c", loop, "--timeout", "60", "--no-stdin")
    with subprocess.Popen(words, env=running.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        printed = process.stderr.read()
        assert process.wait(60) in (1, 141)
    assert b"Traceback" not in printed


def test_key_is_created_used_and_revoked(running: Installation) -> None:
    secret = running.mayfly("keys", "create", "robot").stdout.decode().strip()
    assert running.mayfly("run", "-c", "print(5)", MAYFLY_TOKEN=secret).stdout == b"5\n"
    for key in (secret, (running.state / "api-key").read_text().strip()):  # of both an agent may make use
        listing = running.mayfly("mcp", input=b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}\n', MAYFLY_TOKEN=key)
        assert b"execute_code" in listing.stdout
    refused = running.mayfly("keys", "ls", MAYFLY_TOKEN=secret)
    assert refused.returncode == 126
    listed = json.loads(running.mayfly("keys", "ls", "--json").stdout)["items"]
    id = next(key["id"] for key in listed if key["name"] == "robot")
    assert secret not in running.mayfly("keys", "ls").stdout.decode()
    assert running.mayfly("keys", "revoke", id).returncode == 0
    assert running.mayfly("ls", MAYFLY_TOKEN=secret).returncode == 2


def test_doctor_passes_on_a_running_installation(running: Installation) -> None:
    key = (running.state / "api-key").read_text().strip()
    done = running.mayfly("doctor", MAYFLY_TOKEN=key)
    assert done.returncode == 0, done.stdout.decode()
    assert key not in done.stdout.decode()
    checks = {
        check["name"]: check["status"] for check in json.loads(running.mayfly("doctor", "--json").stdout)["checks"]
    }
    assert {checks[name] for name in ("redis", "engine", "api", "image python", "isolation standard")} == {"ok"}
    assert checks["node of node"] in ("ok", "note")  # by the calendar
    absent = running.mayfly("doctor", MAYFLY_DOCKER_URL="unix:///nowhere.sock")
    assert absent.returncode == 1
    assert b"missing engine" in absent.stdout


def test_broken_stream_is_resumed(running: Installation) -> None:
    code = "import time\nfor i in range(150): print(i, flush=True); time.sleep(0.02)"
    url = (running.state / "url").read_text().strip()
    with cutting_proxy(int(url.rpartition(":")[2]), after_bytes=1000) as (port, cuts), running.client() as direct:
        id = direct.submit(code, limits={"wall_seconds": 60}).id
        with Client(f"http://127.0.0.1:{port}", (running.state / "api-key").read_text().strip()) as client:
            events = list(client.follow(id))
    assert b"".join(event.output for event in events) == b"".join(b"%d\n" % i for i in range(150))
    assert [event.type for event in events].count("done") == 1
    assert len(cuts) > 2


def test_up_reports_a_port_in_use(images: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with installed(images, API_PORT=str(port)) as made:
            done = made.mayfly("up")
            assert done.returncode == 2
            assert f"127.0.0.1:{port}".encode() in done.stderr
            assert b"MAYFLY_API_PORT=" in done.stderr


@pytest.mark.parametrize(("seconds", "runs"), [(1, True), (280, False)])
def test_up_does_not_wait_for_a_long_queue(images: Path, seconds: float, runs: bool) -> None:
    with installed(images, SLOTS="1", DRAIN_SECONDS="0") as made:
        made.up("--no-sample")
        with made.client() as client:
            for _ in range(QUEUED):
                client.submit(f"import time; time.sleep({seconds})", limits={"wall_seconds": 290})
        made.down()
        if not runs:  # the worker has begun one before the sample is submitted, which would go first
            made.up("--no-sample")
            with made.client() as client:
                eventually(lambda: list(client.executions(state="running")), "the only slot is busy", 60)
            made.kill("api")
        printed = made.up()
        assert "Mayfly is up" in printed
        assert ("63 observations over 21 days" in printed) is runs
        if not runs:
            assert re.search(
                r"The sample program was not run: no slot was free within \d+ s \(1 of 1 busy, \d+ exec", printed
            )
        with made.client() as client:
            queued = client.document("queues")["queued"]
            executions = list(client.executions(environment="python"))
            [sample] = client.executions(environment="python-data")
        assert sample.state == ("succeeded" if runs else "cancelled")
        begun = [one for one in executions if one.state != "queued"]
        assert len(executions) == QUEUED, "none was dropped"
        assert queued >= QUEUED - len(begun), "only those that have begun, maybe since the count, are on no queue"
        if runs:  # some may begin while the sample is being submitted
            sample_start = sample.started_at
            assert sample_start and sample.created_at
            starts = [one.started_at for one in begun]
            before = [start for start in starts if start and sample.created_at < start < sample_start]
            assert len(before) <= QUEUED // 10, "the sample overtook the queue"


def test_down_leaves_no_process_and_up_restores_all_data(images: Path) -> None:
    """Of an installation with an engine proxy, so that this process is one of them."""
    with installed(images, ENGINE_PROXY="true") as made:
        made.up("--no-sample")
        with made.client() as client:
            id = client.run("print('kept')").id
            client.submit(SLEEPER, limits={"wall_seconds": 60})
        pids, key = made.pids(), (made.state / "api-key").read_text()
        assert set(pids) == {"redis", "api", "engine-proxy", "worker", "supervisor"}
        checks = {check["name"]: check for check in json.loads(made.mayfly("doctor", "--json").stdout)["checks"]}
        assert checks["engine access"]["detail"].startswith("engine proxy: ")
        made.kill("worker")  # so that its containers stay
        made.down()
        assert [name for name, pid in pids.items() if start_time(pid) is not None] == []
        assert made.left() == []
        assert "Nothing was running" in made.down()
        made.up("--no-sample")
        assert (made.state / "api-key").read_text() == key
        assert made.mayfly("logs", id).stdout == b"kept\n"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("dockerd"), reason="needs root and an engine of its own")
@pytest.mark.parametrize(("how", "runtime"), [("stopped", "crun"), ("killed", "runc"), ("killed", "runsc")])
def test_engine_started_by_mayfly_leaves_nothing(images: Path, how: str, runtime: str) -> None:
    if not shutil.which(runtime, path=SYSTEM_PATH):
        pytest.fail(f"there is no {runtime} here: deploy/setup.sh --dev")
    with tempfile.TemporaryDirectory(prefix="mayfly-engine-") as name:
        directory = Path(name)
        made = Installation(images, DOCKER_URL=f"unix://{directory}/docker.sock")
        roots = ("--data-root", f"{directory}/data", "--exec-root", f"{directory}/exec")
        started = made.mayfly("engine", "start", "--", *roots, "--bridge=none", "--iptables=false")
        try:
            assert started.returncode == 0, started.stderr.decode()
            assert b"already" in made.mayfly("engine", "start").stdout
            run_a_container(directory / "docker.sock", images, name, runtime)
            assert any(point.startswith(name) for point in mount_points())
            assert b"left running" in made.mayfly("down").stdout
            containerd = int((directory / "exec" / "containerd" / "containerd.pid").read_text())
            if how == "killed":
                os.kill(made.pids()["engine"], signal.SIGKILL)
        finally:
            made.mayfly("engine", "stop")
        assert start_time(containerd) is None
        assert processes_naming(name) == []
        assert [point for point in mount_points() if point.startswith(name)] == []
        assert [path for path in directory.rglob("*") if path.is_socket()] == []
        assert b"not started by this command" in made.mayfly("engine", "stop").stdout
        shutil.rmtree(made.state)


def processes_naming(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes().decode(errors="replace"))
    return [command for command in found if text in command]


def run_a_container(engine: Path, images: Path, name: str, runtime: str) -> None:
    """Leave a container running in an engine, with a name in its command line, for it to leave behind."""
    transport = httpx2.HTTPTransport(uds=str(engine))
    with httpx2.Client(transport=transport, base_url="http://engine", timeout=60) as client:
        client.post("/images/load", content=(images / "bash.tar").read_bytes()).raise_for_status()
        made = {
            "Image": json.loads((images / "bash.json").read_text())["image_id"],
            "Entrypoint": ["/usr/bin/bash", "-c", "trap exit TERM; sleep 600 & wait", name],
            "HostConfig": {"NetworkMode": "none", "Runtime": runtime},
        }
        id = client.post("/containers/create", json=made).raise_for_status().json()["Id"]
        client.post(f"/containers/{id}/start").raise_for_status()


@contextmanager
def cutting_proxy(port: int, after_bytes: int) -> Iterator[tuple[int, list[int]]]:
    """A TCP proxy before the API that cuts every connection after so many bytes of answer."""
    cuts: list[int] = []

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", port)) as api:
            request = threading.Thread(target=pump, args=(client, api))
            request.start()
            left = after_bytes
            with suppress(OSError):  # the client has what it wanted, and leaves
                while left > 0 and (data := api.recv(min(left, 512))):
                    client.sendall(data)
                    left -= len(data)
            if left <= 0:
                cuts.append(1)
            for side in (client, api):
                with suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
            request.join()

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)  # else the API keeps the connection for 75 s
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=serve, args=(client,))
            threads.append(thread)
            thread.start()

    threads: list[threading.Thread] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listener.getsockname()[1], cuts
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in threads:
                thread.join()


def test_up_without_engine_uses_and_names_a_runtime(images: Path) -> None:
    with installed(images, DOCKER_URL="unix:///nonexistent/docker.sock") as made:
        made.prefix = HIDDEN
        refused = made.mayfly("up", MAYFLY_DRIVER="docker")  # a driver that was asked for is not replaced by another
        assert refused.returncode != 0
        assert b"There is no container engine here" in refused.stderr
        assert made.pids() == {}
        printed = made.up()
        assert "since there is no container engine here: crun" in printed
        assert "63 observations over 21 days" in printed
        with made.client() as client:
            ended = client.run("print(1)")
            assert (ended.stdout, ended.driver, ended.runtime) == ("1\n", "oci", "crun")
        doctor = made.mayfly("doctor", MAYFLY_DRIVER="oci")
        assert doctor.returncode == 0
        assert re.search(rb"ok +runtime crun +\d", doctor.stdout)
        made.kill("worker")
        assert list(made.state.glob("oci/bundles/*/*")) != []


@pytest.mark.usefixtures("engine")
def test_command_uses_and_keeps_the_answering_engine() -> None:
    url = Settings().docker_url
    with Engine(url) as engine:
        before = engine.info()["ID"]
        done = subprocess.run([WITH_ENGINE, "sh", "-c", "exit 7"], capture_output=True, text=True, timeout=60)
        assert (done.returncode, engine.info()["ID"]) == (7, before), done.stderr


# Without the running engine: its processes, its socket and its files are hidden, and the network is another.
ELSEWHERE = ["unshare", "--mount", "--propagation", "slave", "--net", "--pid", "--fork", "--mount-proc", "sh", "-uc"]
HIDE = """
mount -t tmpfs none /run && mount --bind "$0" /var/lib/docker && ip link set lo up || exit 1
"$@"
code=$?
if pgrep "dockerd|containerd" >&2; then echo "a process is left" >&2; exit 8; fi
exit $code
"""
LOOK = 'docker info --format "{{json .Runtimes}}" && kill -0 "$(cat "$TMPDIR"/*/dockerd.pid)" && exit 7'


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("dockerd"), reason="needs root and an engine of its own")
def test_command_without_engine_gets_a_temporary_one_with_every_runtime() -> None:
    """As `make test` and `.ci/run` start theirs, beside any other engine of this machine."""
    Path("/var/lib/docker").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mayfly-engine-") as name:
        env = {**os.environ, "TMPDIR": name} | {f"{PREFIX}DOCKER_URL": "unix:///var/run/docker.sock"}
        (data := Path(name, "data")).mkdir()
        command = [*ELSEWHERE, HIDE, str(data), str(WITH_ENGINE), "sh", "-c", LOOK]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)
        assert done.returncode == 7, done.stderr  # the command's own
        assert json.loads(done.stdout).keys() >= {"runc", "crun", "runsc"}
        assert re.search(r"Engine started .*Engine stopped", done.stderr, re.DOTALL)
        assert [path.name for path in Path(name).iterdir()] == ["data"]


def test_command_that_needs_an_engine_is_refused_without_engine() -> None:
    done = subprocess.run(
        [*HIDDEN, WITH_ENGINE, "echo", "it ran"],
        env={**os.environ, f"{PREFIX}DOCKER_URL": "unix:///nonexistent/docker.sock"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "This needs a container engine; there is none." in done.stderr
