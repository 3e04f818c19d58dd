"""Identifies clients by address: the IPv4 address, or the network of an IPv6 address."""

from __future__ import annotations

import ipaddress

IPV6_SITE_BITS = 64  # the smallest network of a customer, who may use any of its 2**64 addresses


def network(address: str) -> str:
    """The IPv4 address, or the /64 network of an IPv6 address; ``unknown`` for an invalid address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # a Unix socket has no address, and a proxy's header may have any text
        return "unknown"
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped or ipaddress.ip_network((found.packed, IPV6_SITE_BITS), strict=False))
