"""Programs in their working directory, with every driver and runtime: their inputs, artifacts and user."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from operator import itemgetter

import pytest

from mayfly import STREAMED, Client
from tests.builders.tier import Tier
from tests.harness import ROOT, WAYS, Stack, Way

# The rules of docs/api.md about the working directory, each by a phrase of it, and their tests here.
RULES = {
    "starts in `/work`": "test_program_works_by_the_rules_of_the_document",
    "an eighth of `memory_bytes`": "test_program_works_by_the_rules_of_the_document",
    "size, digest and address": "test_program_works_by_the_rules_of_the_document",
    "new and changed files": "test_program_works_by_the_rules_of_the_document",
    "globs over both": "test_patterns_choose_from_both_directories",
    "`EXDEV`": "test_program_works_by_the_rules_of_the_document",
    "at most 100 files": "test_patterns_choose_from_both_directories",
}
LIMITS = {"disk_bytes": 2 << 20, "wall_seconds": 60, "cpu_seconds": 60}
BESIDE = """
import errno, helper, json, os, pathlib, shutil, socket
READ_ONLY = ("EACCES", "EROFS")
def refused(action, *arguments):
    try:
        action(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
def write(path, text):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
def read(path):
    return pathlib.Path(path).read_text()
print(read("data.csv"), read("inputs/data.csv"), read("deep/nested.txt"), helper.__file__, __file__, os.getcwd())
open("data.csv", "a").write("more")
print(read("/inputs/data.csv"), refused(open, "/inputs/data.csv", "a") in READ_ONLY)
links = {name: os.path.islink(name) for name in ("small", "large", "largest")}
sizes = [os.path.getsize(name) for name in ("large", "largest")]
print(json.dumps(links), *sizes, refused(open, "largest", "r+") in READ_ONLY)
write("replacement", "mine"); os.replace("replacement", "largest")
write("plots/plot.txt", "plot")
for path in (".hidden", ".cache/x", "__pycache__/x", "y.pyc"):
    write(path, "x")
os.symlink("data.csv", "link"); os.symlink("/etc/passwd", "/output/passwd"); os.mkfifo("pipe")
socket.socket(socket.AF_UNIX).bind("socket")
write("/output/result.txt", "result"); shutil.copy("data.csv", "/output")
write("both.txt", "work"); write("/output/both.txt", "output")
write("moved.txt", "moved"); os.rename("moved.txt", "/output/moved.txt")
write("/tmp/other.txt", "other"); os.rename("/tmp/other.txt", "/output/other.txt")
print([refused(os.rename, name, "/output/" + name) for name in ("plots", "link")])
"""


def test_program_works_by_the_rules_of_the_document(tier: Tier) -> None:
    contents = {
        "main.py": BESIDE, "helper.py": "x = 1", "data.csv": "a,b", "deep/nested.txt": "deep",
        "small": "s" * 100, "large": "l" * 500_000, "largest": "m" * 600_000,
    }  # fmt: skip
    files = [{"path": path, "content": text} for path, text in contents.items()]
    ended = tier.run(files=files, entrypoint="main.py", limits=LIMITS)
    assert (ended["state"], ended["stderr"]) == ("succeeded", "")
    assert ended["stdout"].splitlines() == [
        "a,b a,b deep /work/helper.py /work/main.py /work",
        "a,b True",
        '{"small": false, "large": false, "largest": true} 500000 600000 True',
        "['EXDEV', 'EXDEV']",
    ]
    kept = {artifact["path"]: tier.stack.artifact(ended, artifact["path"]) for artifact in ended["artifacts"]}
    assert kept == {
        "both.txt": b"output", "data.csv": b"a,bmore", "largest": b"mine", "moved.txt": b"moved",
        "other.txt": b"other", "plots/plot.txt": b"plot", "result.txt": b"result",
    }  # fmt: skip
    for artifact in ended["artifacts"]:
        content = kept[artifact["path"]]
        assert (artifact["size"], artifact["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert artifact["url"].endswith(f"/{ended['id']}/artifacts/{artifact['path']}")
    assert sorted(ended["artifacts_rejected"], key=itemgetter("path")) == [
        {"path": "both.txt", "reason": "duplicate", "bound": None},
        {"path": "passwd", "reason": "symlink", "bound": None},
    ]


MANY = """
import os
for folder in ("plots/deep", "/output/plots"):
    os.makedirs(folder)
for path in ("a.csv", "a.txt", "/output/b.csv", "/output/b.txt", "plots/deep/a", "/output/plots/b"):
    open(path, "w").close()
os.mkdir("/output/links")
for n in range(120):
    os.symlink("x", f"/output/links/{n}")
"""
CHOSEN = {
    **{one: {"a.csv", "b.csv"} for one in ("*.csv", "./*.csv", "output/*.csv", "/output/*.csv")},
    **{one: {"plots/deep/a", "plots/b"} for one in ("plots/", "plots/**")},
    "links/": set(),
}


def test_patterns_choose_from_both_directories(stack: Stack) -> None:
    ends = Tier(stack, Way(WAYS[0])).run_all({one: {"code": MANY, "artifacts": [one]} for one in CHOSEN})
    assert {one: {artifact["path"] for artifact in end["artifacts"]} for one, end in ends.items()} == CHOSEN
    rejected = ends["links/"]["artifacts_rejected"]
    assert (len(rejected), {one["reason"] for one in rejected}) == (100, {"symlink"})
    refused = stack.submit(environment="python", code="1", artifacts=["../*.csv"])
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_pattern")


def test_each_rule_of_the_document_has_its_test() -> None:
    section = (ROOT / "docs" / "api.md").read_text().partition("## Files in, files out\n")[2].partition("\n\n")[0]
    rules = re.findall(r"^- (.*?)(?=\n- |\Z)", section, re.MULTILINE | re.DOTALL)
    assert [[word for word in RULES if word in " ".join(rule.split())] for rule in rules] == [[word] for word in RULES]
    assert set(RULES.values()) <= globals().keys()


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


# As in unit/sandbox_image/test_live_output.py, each print waits for a line; `readline` flushes nothing, unlike `input`.
ROUND = 6
PRINTS = f"""
import sys, time
for n in range({20 * ROUND}):
    if n % {ROUND} == 0:
        began = time.monotonic()
        time.sleep(0.1)
        slept = time.monotonic() - began
    print(time.monotonic(), slept, end=" ", flush=n % {ROUND} > 2)
    if sys.stdin.readline() != "next\\n":
        break
"""


def test_each_print_arrives_separately_within_a_tenth_of_a_second(tier: Tier) -> None:
    """Before the program continues; compared with flushed prints, in a round that the machine does not interrupt."""
    late: list[float] = []
    best = 9.0  # the longest delay of a round, in sleeps of a tenth of a second
    limits = {"wall_seconds": 250, "cpu_seconds": 60}
    with Client(tier.stack.env["MAYFLY_URL"], tier.stack.key) as client:
        id = client.submit(PRINTS, isolation=tier.isolation, limits=limits, stdin=STREAMED).id
        for event in client.follow(id):
            if event.type == "stdout":
                printed, slept = map(float, event.output.split())
                late.append(time.monotonic() - printed)
                if len(late) % ROUND == 0:
                    best = min(best, (max(late[-6:-3]) - min(late[-3:])) / slept)
                line = b"next\n" if best > 1 else b"end\n"
                sent = tier.stack.client.post(f"/api/v1/executions/{id}/stdin", content=line)
                assert sent.status_code == 202, sent.text
    assert best <= 1, late
    assert len(late) % ROUND == 0


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
