"""Programs in their working directory, with every driver and runtime: their inputs, artifacts and user."""

from __future__ import annotations

import base64
import pytest

from mayfly import STREAMED, Client
from tests.builders.tier import Tier

BESIDE = """
import helper, os, pathlib, shutil
print(open("data.csv").read(), open("inputs/data.csv").read(), helper.__file__, __file__)
open("data.csv", "a").write("more")
print(open("/inputs/data.csv").read())
pathlib.Path("plot.txt").write_text("plot")
pathlib.Path(".cache").mkdir(); pathlib.Path(".cache/x").write_text("x")
os.symlink("plot.txt", "link"); os.symlink("/etc/passwd", "/output/passwd")
pathlib.Path("/output/result.txt").write_text("result"); shutil.copy("plot.txt", "/output")
"""


def test_inputs_lie_beside_the_program_and_files_come_back(tier: Tier) -> None:
    files = [{"path": "data.csv", "content": "a,b"}, {"path": "helper.py", "content": "x = 1"}]
    ended = tier.run(files=[*files, {"path": "main.py", "content": BESIDE}], entrypoint="main.py")
    assert (ended["state"], ended["stderr"]) == ("succeeded", "")
    assert ended["stdout"] == "a,b a,b /work/helper.py /work/main.py\na,b\n"
    kept = {artifact["path"]: tier.stack.artifact(ended, artifact["path"]) for artifact in ended["artifacts"]}
    assert kept == {"data.csv": b"a,bmore", "plot.txt": b"plot", "result.txt": b"result"}
    assert ended["artifacts_rejected"] == [{"path": "passwd", "reason": "symlink", "bound": None}]


def test_exceeded_bound_is_named(tier: Tier) -> None:
    code = "import os\nos.makedirs('d/' * 40)\nopen('d/' * 20 + 'kept', 'w').close()\n"
    code += "os.truncate(os.open('/output/large', os.O_CREAT | os.O_WRONLY), 65 << 20)"
    ended = tier.run(code=code, limits={"disk_bytes": 128 << 20})
    assert [artifact["path"] for artifact in ended["artifacts"]] == ["d/" * 20 + "kept"]
    rejected = {(one["reason"], one["bound"]) for one in ended["artifacts_rejected"]}
    assert rejected == {("too_deep", 32), ("too_large", 64 << 20)}


IDENTITY = {
    "python": "import getpass, os, pwd; print(getpass.getuser(), pwd.getpwuid(os.getuid()).pw_dir)",
    "node": "const user = require('os').userInfo(); console.log(user.username, user.homedir)",
    "bash": "echo $(whoami) $(cd ~sandbox && pwd)",
}


@pytest.mark.parametrize("environment", IDENTITY)
def test_the_program_has_a_name(tier: Tier, environment: str) -> None:
    assert tier.run(environment, code=IDENTITY[environment])["stdout"] == "sandbox /work\n"


def test_each_print_arrives_separately(tier: Tier) -> None:
    """Each print arrives before the program continues, which waits for a line."""
    with Client(tier.stack.env["MAYFLY_URL"], tier.stack.key) as client:
        id = client.submit(
            "for n in range(3):\n    print(n)\n    input()",
            isolation=tier.isolation, limits={"wall_seconds": 60}, stdin=STREAMED,
        ).id  # fmt: skip
        printed = []
        for event in client.follow(id):
            if event.type == "stdout":
                printed.append(event.output)
                sent = tier.stack.client.post(f"/api/v1/executions/{id}/stdin", content=b"\n")
                assert sent.status_code == 202, sent.text
    assert printed == [b"0\n", b"1\n", b"2\n"]


def test_output_before_a_time_out_is_kept(tier: Tier) -> None:
    """In an interpreter that was forked ahead, and in a new one; both at once."""
    code = "import time\nprint('Hello', end='')\ntime.sleep(30)"
    environments: dict[str, dict[str, str]] = {"forked": {}, "new": {"PYTHONHASHSEED": "1"}}
    ended = tier.run_all({name: {"code": code, "env": env} for name, env in environments.items()}, wall_seconds=5)
    assert {name: (one["reason"], one["stdout"]) for name, one in ended.items()} == dict.fromkeys(
        environments, ("timed_out", "Hello")
    )


def test_sources_are_decoded_as_by_python(tier: Tier) -> None:
    content = base64.b64encode(b"# caf\xe9\nprint(1)\n").decode()
    files = [{"path": "main.py", "content": content, "encoding": "base64"}]
    ended = tier.run(files=files, entrypoint="main.py")
    assert (ended["exit_code"], ended["stdout"]) == (1, "")
    assert ended["stderr"].startswith(
        "SyntaxError: Non-UTF-8 code starting with '\\xe9' in file /work/main.py on line 1"
    )
