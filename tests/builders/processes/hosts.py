"""Worker hosts: network namespaces, each with a link to this host and a state directory of its own."""

from __future__ import annotations

import re
import secrets
import subprocess
import tempfile
from pathlib import Path

from tests.lanes import locked


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def free_number() -> int:
    """One whose addresses no link of this machine has: of two hosts with the same, one gets the other's packets."""
    shown = subprocess.run(["ip", "-4", "-oneline", "address"], check=True, capture_output=True, text=True).stdout
    taken = {int(number) for number in re.findall(r"\b198\.18\.(\d+)\.1/", shown)}
    return secrets.choice([number for number in range(254) if number not in taken])


class Host:
    """A network namespace, and the link that leads out of it."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name, self.directory = name, directory
        self.link = f"{name}-0"
        ip("netns", "add", name)
        ip("link", "add", self.link, "type", "veth", "peer", "name", "out", "netns", name)
        with locked(Path(tempfile.gettempdir(), "mayfly-test-hosts.lock")):
            number = free_number()
            self.address = f"198.18.{number}.1"  # where it finds this end of its link; a range for tests, RFC 2544
            ip("address", "add", f"{self.address}/30", "dev", self.link)
        ip("-n", name, "address", "add", f"198.18.{number}.2/30", "dev", "out")
        for end in (["link", "set", self.link], ["-n", name, "link", "set", "out"], ["-n", name, "link", "set", "lo"]):
            ip(*end, "up")

    @property
    def inside(self) -> list[str]:
        """The words before a command that runs there. Not `ip netns exec`, which hides cgroups."""
        return ["nsenter", f"--net=/run/netns/{self.name}"]

    def cut(self) -> None:
        ip("link", "set", self.link, "down")

    def heal(self) -> None:
        ip("link", "set", self.link, "up")

    def remove(self) -> None:
        ip("netns", "delete", self.name)  # and with it both ends of its link
