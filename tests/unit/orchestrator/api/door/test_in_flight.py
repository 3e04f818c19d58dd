"""Bounds on concurrent transfers, without state of inactive tenants."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from orchestrator.api.door.in_flight import InFlight
from orchestrator.errors import TooManyStreams, TooManyUploads, UploadsFull


def test_a_tenant_is_bounded_before_all_are() -> None:
    uploads = InFlight((2, TooManyUploads), (3, UploadsFull))
    with ExitStack() as entered:
        for tenant in ("a", "a", "b"):
            entered.enter_context(uploads.counted(tenant))
        for tenant, error in (("a", TooManyUploads), ("b", UploadsFull), ("c", UploadsFull)):
            with pytest.raises(error), uploads.counted(tenant):
                raise AssertionError("it was admitted")
        assert uploads.tenants == {"a", "b"}
    assert uploads.tenants == frozenset()
    with uploads.counted("c"):
        assert uploads.tenants == {"c"}


def test_few_tenants_leave_places_to_others() -> None:
    """Each further transfer of a tenant needs as many free places as the tenant has then."""
    uploads = InFlight((4, TooManyUploads), (16, UploadsFull))
    with ExitStack() as entered:
        for tenant, count in zip("abcdef", (4, 4, 4, 2, 1, 1), strict=True):
            for _ in range(count):
                entered.enter_context(uploads.counted(tenant))
            with pytest.raises(TooManyUploads if count == 4 else UploadsFull), uploads.counted(tenant):
                raise AssertionError("it was admitted")
        with pytest.raises(UploadsFull) as refused, uploads.counted("g"):
            raise AssertionError("it was admitted")
    assert refused.value.bound == 16


def test_without_a_bound_of_all_only_each_tenant_is_bounded() -> None:
    streams = InFlight((1, TooManyStreams))
    with ExitStack() as entered:
        for number in range(100):
            entered.enter_context(streams.counted(str(number)))
        with pytest.raises(TooManyStreams) as refused, streams.counted("7"):
            raise AssertionError("it was admitted")
    assert refused.value.retry_after_seconds == 5
    assert streams.tenants == frozenset()


def test_failed_request_releases_its_place() -> None:
    streams = InFlight((1, TooManyStreams))
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"), streams.counted("a"):
            raise ValueError("broken")
    assert streams.tenants == frozenset()
