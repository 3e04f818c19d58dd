"""Seals of calls and declarations, so that write access to Redis allows neither calls nor other servers.

Workers and the API seal calls, the API and brokers seal declarations; a broker verifies both with the installation's
key.
"""

from __future__ import annotations

import hashlib
import hmac

from orchestrator.models.tools import ToolCall


def seal_call(call: ToolCall, key: bytes) -> str:
    """HMAC-SHA256 over a call's tool and arguments, and its attempt or principal, in hexadecimal."""
    asked = (call.id, call.tenant, call.server, call.tool, call.execution or "", str(call.attempt), call.reply_to)
    principal = (call.principal,) if call.principal else ()  # of a direct call
    return _mac(("call", *asked, *principal, hashlib.sha256(call.arguments.encode()).hexdigest()), key)


def is_sealed_call(call: ToolCall, seal: str, key: bytes) -> bool:
    """Whether a holder of the key made the call."""
    return hmac.compare_digest(seal_call(call, key).encode(), seal.encode(errors="replace"))


def seal_declaration(tenant: str, declaration: str, key: bytes) -> str:
    """HMAC-SHA256 over a tenant's declaration, in hexadecimal."""
    return _mac(("declaration", tenant, declaration), key)


def is_sealed_declaration(tenant: str, declaration: str, seal: str, key: bytes) -> bool:
    """Whether a holder of the key made the declaration, for this tenant."""
    return hmac.compare_digest(seal_declaration(tenant, declaration, key).encode(), seal.encode(errors="replace"))


def _mac(parts: tuple[str, ...], key: bytes) -> str:
    framed = b"".join(len(part.encode()).to_bytes(8, "big") + part.encode() for part in parts)
    return hmac.new(key, framed, hashlib.sha256).hexdigest()
