"""Specifications sealed with the installation's key, so that write access to Redis does not allow code execution.

The API seals a validated specification; a worker verifies the seal and refuses any other. The seal covers the
execution's id, so a specification cannot be replayed under another id.
"""

from __future__ import annotations

import hmac

from pydantic import ValidationError

from orchestrator.errors import SpecificationRejected, SpecificationTampered
from orchestrator.models import Specification


def seal(specification: Specification, key: bytes) -> tuple[bytes, str]:
    """The specification as bytes, and their HMAC-SHA256 in hexadecimal."""
    body = specification.model_dump_json().encode()
    return body, _mac(body, key)


def open_sealed(id: str, body: bytes, signature: str, key: bytes) -> Specification:
    """The specification of execution ``id``. Raises :class:`SpecificationTampered` unless its seal is valid."""
    if not hmac.compare_digest(_mac(body, key).encode(), signature.encode(errors="replace")):
        raise SpecificationTampered("The seal of the stored specification is invalid; the program was not run.")
    try:
        specification = Specification.model_validate_json(body)
    except ValidationError as error:
        raise SpecificationRejected("The stored specification has another version; the program was not run.") from error
    if specification.id != id:
        raise SpecificationTampered("The stored specification belongs to another execution; the program was not run.")
    return specification


def _mac(body: bytes, key: bytes) -> str:
    return hmac.digest(key, body, "sha256").hex()
