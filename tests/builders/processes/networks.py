"""Networks that this host does not use, for the containers of a test."""

from __future__ import annotations

import json
import secrets
from ipaddress import IPv4Network

# Engines take neither for networks of their own choice. The second is for a host that routes all of the first.
RANGES = ("10.96.0.0/11", "198.18.0.0/15")
SHOW = ("ip", "-json", "-4", "route", "show", "table", "all")


def unused(routes: str) -> str:
    """The first three numbers of a network of 256 addresses that overlaps none of these routes (output of ``SHOW``)."""
    there = [IPv4Network(route["dst"]) for route in json.loads(routes) if route["dst"] != "default"]
    for addresses in RANGES:
        networks = IPv4Network(addresses).subnets(new_prefix=24)
        if free := [one for one in networks if not any(one.overlaps(other) for other in there)]:
            return str(secrets.choice(free).network_address).removesuffix(".0")
    raise AssertionError(f"this host has a route to every network of {RANGES}")
