"""The contents of built images of tool servers, and of their bills of materials."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from orchestrator.tool_environments import load_tool_server_image

NODE = "usr/lib/tool-server/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js"


def test_image_of_wheels_has_its_server_and_no_agent(tool_images: Path) -> None:
    own, purl = "usr/lib/tool-server/python/mcp_server_time/server.py", "pkg:pypi/mcp-server-time@2026.10.19"
    members = checked(tool_images, "time", own, purl)
    assert any(path.endswith(".pyc") for path in members if path.startswith("usr/lib/tool-server/python/mcp/"))


def test_image_of_node_modules_has_its_server_and_no_agent(node_images: Path) -> None:
    checked(node_images, "filesystem", NODE, "pkg:npm/%40modelcontextprotocol/server-filesystem@2026.8.31")


def checked(tool_images: Path, name: str, own: str, purl: str) -> set[str]:
    """The paths in an image that has its server, and a component for each package."""
    image = load_tool_server_image(tool_images, name)
    with tarfile.open(tool_images / "tool-servers" / f"{name}.tar") as archive:
        layer = archive.extractfile(next(member for member in archive if member.name.endswith(".tar")))
        with tarfile.open(fileobj=layer) as files:
            members = {member.name: member for member in files}
    assert own in members
    assert not [path for path in members if path.startswith(("usr/lib/mayfly", "usr/lib/tool-server/python/bin"))]
    assert [path for path, member in members.items() if member.mode & 0o6000] == []
    assert [path for path in members if path.endswith(("bin/apt", "bin/dpkg", "bin/npm", "bin/pip"))] == []
    bill = json.loads((tool_images / "tool-servers" / f"{name}.cdx.json").read_text())
    components = {one["purl"]: one["hashes"][0]["content"] for one in bill["components"]}
    assert len(components) == image.packages
    assert purl in components
    assert all(components.values())
    assert any(one.startswith("pkg:deb/debian/libc6@") for one in components)
    return set(members)
