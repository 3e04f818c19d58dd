"""Addresses that the tool server ``http`` connects to. Pure.

The answers of ``ipaddress.is_global`` depend on Python's release. So this module lists the networks, from IANA's
registries of special-purpose addresses (RFC 6890 and its successors). Of IPv6, only global unicast is permitted: this
refuses loopback, link-local, unique local, multicast, IPv4-mapped and -compatible addresses, and NAT64's well-known and
local prefixes (64:ff9b::/96, 64:ff9b:1::/48).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
GLOBAL_UNICAST = IPv6Network("2000::/3")


def networks(*written: str) -> tuple[Network, ...]:
    """Networks such as ``198.51.0.0/16``. Raises ``ValueError``."""
    return tuple(ip_network(text) for text in written)


SPECIAL: Mapping[str, tuple[Network, ...]] = {
    "this network": networks("0.0.0.0/8"),
    "private": networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    "shared (CGNAT)": networks("100.64.0.0/10"),
    "loopback": networks("127.0.0.0/8"),
    "link-local": networks("169.254.0.0/16"),
    "protocol assignments": networks("192.0.0.0/24", "2001::/23"),  # the latter has Teredo, 2001::/32
    "documentation": networks("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
    "6to4": networks("192.88.99.0/24", "2002::/16"),
    "benchmarking": networks("198.18.0.0/15"),
    "multicast": networks("224.0.0.0/4"),
    "reserved": networks("240.0.0.0/4"),
    "metadata": networks("168.63.129.16/32"),  # Azure's is a public address; the others are link-local or private
}
# The permitted addresses of a host that an operator names as private: no tunnels, no metadata services.
PRIVATE = networks(
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "::1/128", "fc00::/7"
)
METADATA = networks("100.100.100.200/32", "fd00:ec2::254/128")  # Alibaba's, Amazon's over IPv6


@dataclass(frozen=True)
class AddressRules:
    """The refused addresses: special addresses, this host's own, and ``forbidden``, the operator's list.

    ``special`` and ``unicast`` are parameters so that tests can leave out a rule.
    """

    forbidden: tuple[Network, ...] = ()
    special: Mapping[str, tuple[Network, ...]] = field(default_factory=lambda: SPECIAL)
    unicast: IPv6Network = GLOBAL_UNICAST
    own: bool = True

    def refusal(self, text: str) -> str | None:
        """The reason to refuse an address of a public host, or None."""
        address = ip_address(text)
        if isinstance(address, IPv6Address) and address not in self.unicast:
            return "not global unicast"
        for name, listed in self.special.items():
            if _within(address, listed):
                return name
        if _within(address, self.forbidden):
            return "forbidden by the operator"
        if self.own and is_own(address):
            return "this host's own"
        return None

    def private_refusal(self, text: str) -> str | None:
        """The reason to refuse an address of a host that the operator has named as private, or None."""
        address = ip_address(text)
        if _within(address, METADATA):
            return "metadata"
        if _within(address, PRIVATE):
            return None
        return AddressRules(special=self.special, unicast=self.unicast, own=False).refusal(text)


def _within(address: Address, listed: Iterable[Network]) -> bool:
    return any(address in network for network in listed)


def is_own(address: Address) -> bool:
    """Whether an address belongs to this host: then packets to the address also have it as their source."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))  # sends nothing
            return ip_address(probe.getsockname()[0]) == address
    except OSError:
        return False  # no route to it
