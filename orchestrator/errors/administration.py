"""The faults of administrators' requests, and of callers whose tenant is disabled."""

from __future__ import annotations

from orchestrator.errors.requests import RequestError


class TenantDisabled(RequestError):
    """This tenant is disabled; ask the operator."""

    code = "tenant_disabled"
    status = 403


class DefaultTenant(RequestError):
    """The default tenant can neither be disabled nor deleted."""

    code = "default_tenant"
    status = 409


class AlreadyExists(RequestError):
    """Another resource has that name."""

    code = "already_exists"
    status = 409


class IssuerInSettings(RequestError):
    """The settings of the API have this issuer, and alone change it."""

    code = "issuer_in_settings"
    status = 409


class TooManyRecords(RequestError):
    """The limit on the number of these records is reached; delete some first."""

    code = "too_many_records"
    status = 409
