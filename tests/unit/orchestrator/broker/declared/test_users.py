"""The users of tool servers: no two servers share a uid, also where their hashes are equal."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.broker.declared import users
from orchestrator.broker.declared.users import FIRST_USER, USERS, Users, preferred

STATE = Path("/srv/mayfly/state")


def colliding() -> tuple[str, str]:
    """Two tenants whose servers ``files`` have the same hash."""
    seen: dict[int, str] = {}
    for number in range(10 * USERS):
        tenant = f"t{number}"
        if (other := seen.setdefault(preferred(tenant, "files"), tenant)) != tenant:
            return other, tenant
    raise AssertionError("no collision")


def test_servers_with_one_hash_get_uids_of_their_own_at_every_start(tmp_path: Path) -> None:
    one, other = colliding()
    assert preferred(one, "files") == preferred(other, "files")
    first = {tenant: Users(tmp_path, STATE).of(tenant, "files") for tenant in (one, other)}
    assert first[one] == preferred(one, "files")
    assert first[other] != first[one]
    assert all(FIRST_USER <= uid < FIRST_USER + USERS for uid in first.values())
    # In another order, by another broker.
    assert {tenant: Users(tmp_path, STATE).of(tenant, "files") for tenant in (other, one)} == first


def test_brokers_that_start_servers_at_once_share_no_uid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "USERS", 64)
    brokers = [Users(tmp_path, STATE) for _ in range(4)]

    def start(number: int) -> tuple[str, int]:
        tenant = f"t{number // 4}"
        return tenant, brokers[number % 4].of(tenant, "files")

    found = defaultdict(set)
    with ThreadPoolExecutor(16) as threads:
        for tenant, uid in threads.map(start, range(160)):
            found[tenant].add(uid)
    assert all(len(uids) == 1 for uids in found.values()), "every broker has the same uid for a server"
    assert len({uid for uids in found.values() for uid in uids}) == 40
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_server_beyond_the_last_uid_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "USERS", 2)
    for name in ("a", "b"):
        Users(tmp_path, STATE).of("t", name)
    with pytest.raises(OSError, match="all uids of tool servers are leased"):
        Users(tmp_path, STATE).of("t", "c")


def test_two_installations_on_a_host_share_no_uid(tmp_path: Path) -> None:
    one, other = (Users(tmp_path, Path(state)) for state in ("/srv/one", "/srv/other"))
    first = {server: one.of("default", server) for server in ("files", "git")}
    second = {server: other.of("default", server) for server in ("git", "files")}
    assert first == {server: preferred("default", server) for server in first}, "what an installation alone had stays"
    assert set(first.values()).isdisjoint(second.values())
    again = {server: Users(tmp_path, Path("/srv/../srv/other")).of("default", server) for server in second}
    assert again == second
