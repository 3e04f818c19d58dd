"""Declarations of tool servers' images: the examples, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.environments import TOOL_SERVER, Environment, kind_of, load_environments
from orchestrator.tool_environments import load_tool_environment, load_tool_server_image
from sandbox_image import build as sandboxes
from sandbox_image import debian
from sandbox_image.tool_servers import build, node_modules, wheels
from tests.harness import ROOT

EXAMPLES = ROOT / "deploy" / "examples" / "tool-servers"
DECLARED = sorted(EXAMPLES.glob("*.toml"))
MINIMAL = 'kind = "tool-server"\nname = "x"\nversion = "1"\ndescription = "x"\nrun = ["/usr/bin/x"]\n'


@pytest.mark.parametrize("path", DECLARED, ids=lambda path: path.stem)
def test_example_is_locked(path: Path) -> None:
    declared = load_tool_environment(path)
    assert declared.name == path.stem
    assert declared.locks
    if declared.python_lock:
        entries = wheels.selected((EXAMPLES / declared.python_lock).read_text(), "3.11.2", "x86_64").splitlines()
        assert f"=={declared.version} " in "".join(entries)
        assert all(re.fullmatch(r"\S+==\S+( --hash=sha256:[0-9a-f]{64})+", entry) for entry in entries)
    if declared.node_lock:
        packages = node_modules.locked(EXAMPLES / declared.node_lock)
        assert f"@modelcontextprotocol/server-{declared.name}" in {package.name for package in packages}
        assert declared.version in {package.version for package in packages}


def test_example_servers_are_complete() -> None:
    assert [path.stem for path in DECLARED] == ["excel", "filesystem", "git", "memory", "prometheus", "time"]
    text = "".join(path.read_text() for path in EXAMPLES.iterdir())
    assert "http://" not in text
    assert "https://" not in text  # no registry is named


def test_tool_servers_are_no_environments_of_programs(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(MINIMAL)
    assert kind_of(tmp_path / "x.toml") == TOOL_SERVER
    assert dict(load_environments([tmp_path])) == {}
    assert kind_of(sandboxes.ENVIRONMENTS / "bash.toml") is None


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (MINIMAL.replace('"tool-server"', '"other"'), "kind"),
        (MINIMAL + 'python_lock = "../x.lock"\n', "python_lock"),
        (MINIMAL + "[limits]\nmemory_bytes = 1\n", "memory_bytes"),
        (MINIMAL + "file_name = 'x'\n", "file_name"),
        (MINIMAL.replace('["/usr/bin/x"]', "[]"), "run"),
    ],
)
def test_malformed_declaration_is_refused(tmp_path: Path, text: str, mistake: str) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(ValueError, match=rf"x\.toml.*(?s:.*){mistake}"):
        load_tool_environment(tmp_path / "x.toml")


def test_lock_that_does_not_lie_beside_its_declaration_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(MINIMAL + 'node_lock = "x.lock.json"\n')
    with pytest.raises(debian.BuildError, match=r"x\.lock\.json, which does not lie beside it"):
        build.build(tmp_path / "x.toml", debian.host_source(None), tmp_path, tmp_path)


def test_build_hash_covers_every_build_input(tmp_path: Path) -> None:
    declaration, lock = tmp_path / "x.toml", tmp_path / "x.lock"
    declaration.write_text(MINIMAL + 'python_lock = "x.lock"\n')
    lock.write_text("a==1\n")
    source, environment = debian.host_source(None), load_tool_environment(declaration)
    first = build.inputs_hash(declaration, environment, source)
    assert build.inputs_hash(declaration, environment, source) == first
    lock.write_text("a==2\n")
    second = build.inputs_hash(declaration, environment, source)
    declaration.write_text(declaration.read_text() + "\n")
    third = build.inputs_hash(declaration, environment, source)
    assert len({first, second, third, build.inputs_hash(declaration, environment, source._replace(suite="x"))}) == 4


def test_images_with_the_same_packages_have_them_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked = []

    def unpack(environment: Environment, source: debian.Source, scratch: Path) -> Path:
        unpacked.append(environment.packages)
        (made := scratch / "root.tar").write_text(str(environment.packages))
        return made

    monkeypatch.setattr(build, "unpack", unpack)
    for number, packages in enumerate([("git",), (), ("git",)]):
        (scratch := tmp_path / str(number)).mkdir()
        made = build._unpack_once(packages, debian.host_source(None), tmp_path, scratch)
        assert made.read_text() == str(packages)
    assert unpacked == [("git",), ()]


def test_missing_and_damaged_descriptions_of_images_differ(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_tool_server_image(tmp_path, "x")
    (tmp_path / "tool-servers").mkdir()
    (tmp_path / "tool-servers" / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="build the image again"):
        load_tool_server_image(tmp_path, "x")
