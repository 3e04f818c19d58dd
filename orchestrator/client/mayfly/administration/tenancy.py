"""The calls of tenants: usage and quotas."""

from __future__ import annotations

from urllib.parse import quote

from mayfly.exchange import API
from mayfly.files import Transfers
from mayfly.results import Document
from mayfly.steps import Send


class Tenancy(Transfers):
    """The calls about tenants and the quotas of API keys."""

    async def usage(
        self, tenant: str | None = None, *, first: str | None = None, last: str | None = None, by: str = "day"
    ) -> Document:
        """The usage of a tenant (default: the key's own), ``by`` ``day``, ``key`` or ``environment``: ``items`` and
        ``total``.

        ``first`` and ``last`` are days such as ``2026-01-31``, both included; default: the last 30 days. Raises
        :class:`mayfly.Refused`, ``forbidden``, for another tenant without the scope ``admin``.
        """
        params = {name: value for name, value in (("from", first), ("to", last), ("by", by)) if value}
        path = f"{API}/tenants/{quote(tenant or '-', safe='')}/usage"
        return await self._exchange.json(Send("GET", path, params=params))

    async def quotas(self, tenant: str | None = None, *, key: str | None = None) -> Document:
        """The quotas of a tenant (default: the key's own), or of the API key with that id, as ``quotas``, and what is
        in ``use`` of them. Raises :class:`mayfly.Refused`, ``forbidden``, for another tenant without the scope
        ``admin``.
        """
        return await self._exchange.json(Send("GET", _quotas(tenant, key)))

    async def set_quotas(self, quotas: Document, *, tenant: str | None = None, key: str | None = None) -> Document:
        """Replace the quotas of a tenant or of an API key. Those left out are the defaults of the installation."""
        return await self._exchange.json(Send("PUT", _quotas(tenant, key), json=quotas))


def _quotas(tenant: str | None, key: str | None) -> str:
    if key is not None:
        return f"{API}/api-keys/{quote(key, safe='')}/quotas"
    return f"{API}/tenants/{quote(tenant or '-', safe='')}/quotas"
