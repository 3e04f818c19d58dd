"""The calls of tenants: their records, service accounts, usage and quotas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from mayfly.exchange import API
from mayfly.files import Transfers
from mayfly.results import Document
from mayfly.steps import Send


class Tenancy(Transfers):
    """The calls about tenants, their service accounts, and the quotas of API keys."""

    async def tenants(self) -> list[Document]:
        """Every tenant, as JSON; without the scope ``admin`` only the key's own tenant."""
        return await self._all(f"{API}/tenants")

    async def tenant(self, tenant: str | None = None) -> Document:
        """A tenant (default: the key's own) as JSON."""
        return await self._exchange.json(Send("GET", _path(tenant)))

    async def create_tenant(self, tenant: str, description: str = "") -> Document:
        """A new tenant; a repeated request returns the same. Raises :class:`mayfly.Refused`, ``already_exists``."""
        return await self._exchange.json(
            Send("POST", f"{API}/tenants", json={"id": tenant, "description": description})
        )

    async def change_tenant(self, tenant: str, changes: Mapping[str, Any]) -> Document:
        """Change ``description`` or ``state`` (``active``, ``disabled``) of a tenant; the next request follows it."""
        return await self._exchange.json(Send("PATCH", _path(tenant), json=dict(changes)))

    async def delete_tenant(self, tenant: str) -> Document:
        """Refuse a tenant at once, and delete all of its data; the tenant is not found once all is deleted."""
        return await self._exchange.json(Send("DELETE", _path(tenant)))

    async def service_accounts(self, tenant: str | None = None) -> list[Document]:
        """The service accounts of a tenant (default: the key's own), as JSON."""
        return await self._all(_path(tenant, "service-accounts"))

    async def create_service_account(
        self, name: str, tenant: str | None = None, options: Mapping[str, Any] | None = None
    ) -> Document:
        """A new service account. Options are ``description`` and ``allowed``, the names that its keys may use."""
        body = {"name": name, **(options or {})}
        return await self._exchange.json(Send("POST", _path(tenant, "service-accounts"), json=body))

    async def change_service_account(
        self, name: str, changes: Mapping[str, Any], tenant: str | None = None
    ) -> Document:
        """Change ``description``, ``allowed`` or ``state`` of a service account; the next request follows it."""
        return await self._exchange.json(Send("PATCH", _path(tenant, "service-accounts", name), json=dict(changes)))

    async def delete_service_account(self, name: str, tenant: str | None = None) -> None:
        """Delete a service account and its keys."""
        await self._exchange.answer(Send("DELETE", _path(tenant, "service-accounts", name)))

    async def usage(
        self, tenant: str | None = None, *, first: str | None = None, last: str | None = None, by: str = "day"
    ) -> Document:
        """The usage of a tenant (default: the key's own), ``by`` ``day``, ``key`` or ``environment``: ``items`` and
        ``total``.

        ``first`` and ``last`` are days such as ``2026-01-31``, both included; default: the last 30 days. Raises
        :class:`mayfly.Refused`, ``forbidden``, for another tenant without the scope ``admin``.
        """
        params = {name: value for name, value in (("from", first), ("to", last), ("by", by)) if value}
        return await self._exchange.json(Send("GET", _path(tenant, "usage"), params=params))

    async def quotas(self, tenant: str | None = None, *, key: str | None = None) -> Document:
        """The ``quotas`` of a tenant (default: the key's own) or of the API key with that id, and their ``use``. Raises
        :class:`mayfly.Refused`, ``forbidden``, for another tenant without the scope ``admin``.
        """
        return await self._exchange.json(Send("GET", _quotas(tenant, key)))

    async def set_quotas(self, quotas: Document, *, tenant: str | None = None, key: str | None = None) -> Document:
        """Replace the quotas of a tenant or of an API key. Omitted quotas become the installation's defaults."""
        return await self._exchange.json(Send("PUT", _quotas(tenant, key), json=quotas))

    async def _all(self, path: str) -> list[Document]:
        found: list[Document] = []
        params: dict[str, Any] = {"limit": 200}
        while True:
            page = await self._exchange.json(Send("GET", path, params))
            found += page["items"]
            if not page.get("next_cursor"):
                return found
            params["cursor"] = page["next_cursor"]


def _path(tenant: str | None, *parts: str) -> str:
    return "/".join([f"{API}/tenants", *(quote(part, safe="") for part in (tenant or "-", *parts))])


def _quotas(tenant: str | None, key: str | None) -> str:
    if key is not None:
        return f"{API}/api-keys/{quote(key, safe='')}/quotas"
    return _path(tenant, "quotas")
