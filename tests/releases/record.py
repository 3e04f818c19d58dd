"""Record the data of this release, from a real installation: ``python -m tests.releases.record``, with an engine.

Run once for each release, on the commit that gets its tag (CONTRIBUTING.md); the archive is never recorded again.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2

from tests.builders.processes.installed import Installation, installed
from tests.harness import IMAGES, bearer
from tests.releases.recorded import KEPT, RELEASES, Recorded, read

API = "/api/v1"
TENANT, USER, PASSWORD = "college", "ann", "a long sentence for a password"
PARTS = ("/events", "/artifacts", "/stdout", "/stderr")
ADMINISTRATION = (  # not usage and security events, which every release forgets in time
    "/tenants", "/api-keys", "/users", *(f"/tenants/{TENANT}/{part}" for part in ("quotas", "service-accounts")),
)  # fmt: skip
PROGRAMS: tuple[dict[str, Any], ...] = (
    {"code": "print('grüße'); open('out.csv', 'w').write('a,b\\n1,2\\n')"},
    {"code": "import mayfly; mayfly.result({'sum': 3})", "labels": {"course": "7"}},
    {"code": "import sys; print('wrong', file=sys.stderr); sys.exit(3)"},
    {"code": "1 + 2", "mode": "cell"},
    {"code": "import time; print('slow', flush=True); time.sleep(60)", "limits": {"wall_seconds": 0.5}},
    {"code": "import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM)"},
    {"code": "print(open('inputs/data.csv').read())", "files": [{"path": "data.csv", "content": "x,y\n"}]},
    {"code": "process.stdout.write('node')", "environment": "node"},
)


def main() -> None:
    """Record, and say where."""
    path = RELEASES / f"v{version('mayfly')}.tar.xz"
    with installed(IMAGES, **KEPT) as made:
        made.up("--no-sample")
        recorded = _use(made)
        made.down()
        recorded.write(path, made.state)
    print(f"{path}: {path.stat().st_size} bytes, {sum(map(len, recorded.answers.values()))} answers")


def _use(made: Installation) -> Recorded:
    """Use what an installation keeps: tenants, keys, users, executions of every end, quotas, queued executions."""
    url, key = (Path(made.state, name).read_text().strip() for name in ("url", "api-key"))
    done = made.mayfly("admin", "create", USER, input=f"{PASSWORD}\n".encode())
    assert done.returncode == 0, done.stderr
    with httpx2.Client(base_url=url, headers=bearer(key), timeout=90) as client:

        def send(method: str, path: str, **body: Any) -> dict[str, Any]:
            answer = client.request(method, API + path, json=body or None, headers={"Prefer": "wait=60"})
            answer.raise_for_status()
            found: dict[str, Any] = answer.json() if answer.content else {}
            return found

        send("POST", "/tenants", id=TENANT, description="Evening classes")
        send("PUT", f"/tenants/{TENANT}/quotas", executions_per_day=1000, running=5)
        send("POST", f"/tenants/{TENANT}/service-accounts", name="ci", allowed={"environments": ["python", "node"]})
        scopes = ["executions:read", "executions:write"]
        user = send("POST", "/api-keys", name="user", tenant=TENANT, scopes=scopes, service_account="ci")
        revoked = send("POST", "/api-keys", name="gone", tenant=TENANT, scopes=scopes)
        send("DELETE", f"/api-keys/{revoked['id']}")
        answers = {}
        for caller, secret in (("admin", key), ("user", user["secret"])):
            client.headers.update(bearer(secret))
            ended = [send("POST", "/executions", **{"environment": "python", **program}) for program in PROGRAMS]
            assert all(execution["finished_at"] for execution in ended), ended
            answers[caller] = read(url, secret, [path for execution in ended for path in _paths(execution)])
        client.headers.update(bearer(key))
        answers["admin"] |= read(url, key, [API + path for path in ADMINISTRATION])
        made.kill("worker")  # so that executions stay queued
        queued = {}
        for n in range(3):
            text = f"print('queued {n}')"
            answer = client.post(f"{API}/executions", json={"environment": "python", "code": text})
            queued[answer.raise_for_status().json()["id"]] = f"queued {n}\n"
    return Recorded(answers, queued, user["secret"], revoked["secret"], USER, PASSWORD)


def _paths(execution: dict[str, Any]) -> list[str]:
    """Paths of all that is kept of an ended execution."""
    artifacts = [f"/artifacts/{artifact['path']}" for artifact in execution["artifacts"]]
    return [f"{API}/executions/{execution['id']}{part}" for part in ("", *PARTS, *artifacts)]


if __name__ == "__main__":
    main()
