"""A program for a network namespace of its own: servers on forbidden addresses, and calls that try to reach them.

``unshare --net python -m tests.builders.sandboxes.canaries ADDRESS ...`` gives each address to the loopback
interface, and prints one JSON object: for each target, whether a call was denied and whether the server was reached,
with all rules and with the rule for that address left out.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from ipaddress import IPv6Address, IPv6Network, ip_address

from orchestrator.broker.http import HttpBounds, HttpTools
from orchestrator.broker.http.addresses import SPECIAL, AddressRules
from tests.builders.tools.upstreams import Names, Upstream, always, answer, fetch, upstream

EVERYTHING = IPv6Network("::/0")


def weakened(target: str) -> AddressRules:
    """All rules but those that cover a target."""
    address = ip_address(target)
    left = {name: tuple(one for one in listed if address not in one) for name, listed in SPECIAL.items()}
    return AddressRules(special=left, unicast=EVERYTHING, own=False)


async def attempt(server: Upstream, target: str, rules: AddressRules) -> tuple[str, bool]:
    """The outcome of a call to a name with this address, and whether the server was reached."""
    server.asked.clear()
    tools = HttpTools(HttpBounds(seconds=10), Names(name_example=target), rules)
    outcome = await fetch(tools, server.url("name.example"))
    return outcome.failure.code if outcome.failure else "ok", bool(server.asked)


def assign(targets: list[str]) -> None:
    """Give the loopback interface each address that it does not have by itself."""
    commands = [["link", "set", "lo", "up"]]
    for address in map(ip_address, targets):
        is_mapped = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
        if not (address.is_loopback or address.is_unspecified or is_mapped):
            options = ["nodad"] if address.version == 6 else []
            commands.append(["address", "add", f"{address}/{address.max_prefixlen}", "dev", "lo", *options])
    for command in commands:
        subprocess.run(["ip", *command], check=True)


async def main(targets: list[str]) -> None:
    """Run all attempts and print what came of them."""
    found = {}
    async with upstream(always(answer()), ["0.0.0.0"]) as four, upstream(always(answer()), ["::"]) as six:
        for target in targets:
            server = six if ":" in target and not target.startswith("::ffff:") else four
            full = AddressRules(own=False)
            found[target] = [await attempt(server, target, rules) for rules in (full, weakened(target), AddressRules())]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    assign(sys.argv[1:])
    asyncio.run(main(sys.argv[1:]))
