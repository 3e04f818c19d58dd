"""Refused addresses. Attempts to reach a forbidden server: tests/integration, in a network of its own."""

from __future__ import annotations

import dataclasses

import pytest

from orchestrator.broker.http.addresses import SPECIAL, AddressRules, is_own, networks

ELSEWHERE = AddressRules(own=False)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.216.34", "172.32.0.1", "172.15.255.255", "100.63.255.255", "100.128.0.1", "169.253.1.1",
     "198.17.255.255", "223.255.255.255", "2606:2800:220:1::1", "2a00:1450:4001::64", "2003::1", "2001:200::1"],
)  # fmt: skip
def test_public_address_is_accepted(address: str) -> None:
    assert ELSEWHERE.refusal(address) is None


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.0.1",
     "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.1.1", "192.0.0.192", "192.0.2.1", "192.88.99.1",
     "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1",
     "255.255.255.255", "168.63.129.16", "100.100.100.200",
     "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:93.184.216.34", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1",
     "64:ff9b::93.184.216.34", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378::1", "2001:10::1", "2001:20::1",
     "2001:2::1", "2001:db8::1", "2002:7f00:1::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1",
     "fe80::1%lo", "fec0::1", "ff02::1", "4000::1"],
)  # fmt: skip
def test_special_address_is_refused(address: str) -> None:
    assert ELSEWHERE.refusal(address) is not None


@pytest.mark.parametrize("name", sorted(SPECIAL))
def test_each_class_of_addresses_is_refused_by_its_own_rule(name: str) -> None:
    weaker = AddressRules(special={kind: listed for kind, listed in SPECIAL.items() if kind != name}, own=False)
    for network in SPECIAL[name]:
        address = str(network.network_address + (1 if network.num_addresses > 1 else 0))
        assert ELSEWHERE.refusal(address) == name
        assert weaker.refusal(address) is None


def test_operator_forbids_further_networks() -> None:
    rules = AddressRules(forbidden=networks("8.8.0.0/16", "2606:2800::/32"), own=False)
    assert rules.refusal("8.8.4.4") == rules.refusal("2606:2800::7") == "forbidden by the operator"
    assert rules.refusal("8.9.4.4") is None
    assert dataclasses.replace(rules, forbidden=()).refusal("8.8.4.4") is None


def test_this_hosts_addresses_are_recognized() -> None:
    assert is_own_text("127.0.0.1")
    assert is_own_text("::1")
    assert not is_own_text("93.184.216.34")
    assert not is_own_text("2606:2800:220:1::1")


def is_own_text(address: str) -> bool:
    (network,) = networks(address)
    return is_own(network.network_address)


@pytest.mark.parametrize(
    "address", ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "::1", "fd00::1", "93.184.216.34"]
)
def test_host_named_as_private_may_have_a_private_address(address: str) -> None:
    assert ELSEWHERE.private_refusal(address) is None


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "0.0.0.0", "224.0.0.1", "fe80::1",
     "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "255.255.255.255", "192.0.0.192"],
)  # fmt: skip
def test_host_named_as_private_reaches_no_metadata_and_no_tunnel(address: str) -> None:
    assert ELSEWHERE.private_refusal(address) is not None
