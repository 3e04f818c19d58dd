"""The client of an address: the address itself, or its network for IPv6."""

from __future__ import annotations

import ipaddress

IPV6_SITE_BITS = 64  # the smallest network of a customer; counts of single addresses would bound nothing


def network(address: str) -> str:
    """An address, or the network of IPv6 that one customer has; ``unknown`` for an invalid address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # a Unix socket has no address, and a proxy's header may have any text
        return "unknown"
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped or ipaddress.ip_network((found.packed, IPV6_SITE_BITS), strict=False))
